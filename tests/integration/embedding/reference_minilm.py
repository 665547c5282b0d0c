"""all-MiniLM-L6-v2 in plain numpy from the original fp32 weights, to measure the shipped graph against."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]
from tokenizers import Tokenizer

from memcube_embedding.embedders.minilm import TOKENIZER, TOKENIZER_SHA256, WEIGHTS, WEIGHTS_SHA256
from memcube_embedding.embedders.prepare import package_file

Floats = NDArray[np.float64]

_erf = np.vectorize(erf)


class ReferenceMiniLM:
    """Slow and plain; follows the paper and shares no code with what it checks."""

    def __init__(self) -> None:
        self._weights: dict[str, NDArray[np.float32]] = load_file(package_file(WEIGHTS, WEIGHTS_SHA256))
        self._tokenizer = Tokenizer.from_file(str(package_file(TOKENIZER, TOKENIZER_SHA256)))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=256)  # pyright: ignore[reportUnknownMemberType]

    def embed(self, text: str) -> Floats:
        ids = self._tokenizer.encode(text).ids
        hidden = self._weights["embeddings.word_embeddings.weight"][ids].astype(np.float64)
        hidden = hidden + self._weights["embeddings.position_embeddings.weight"][: len(ids)]
        hidden = hidden + self._weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for number in range(6):
            layer = f"encoder.layer.{number}."
            attended = self._linear(self._attend(hidden, layer), f"{layer}attention.output.dense")
            hidden = self._norm(hidden + attended, f"{layer}attention.output.LayerNorm")
            inner = self._linear(hidden, f"{layer}intermediate.dense")
            inner = inner * 0.5 * (1.0 + _erf(inner / sqrt(2.0)))
            hidden = self._norm(hidden + self._linear(inner, f"{layer}output.dense"), f"{layer}output.LayerNorm")
        mean = hidden.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _attend(self, hidden: Floats, layer: str) -> Floats:
        query, key, value = (
            self._linear(hidden, f"{layer}attention.self.{part}").reshape(-1, 12, 32).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / sqrt(32)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return (shares @ value).transpose(1, 0, 2).reshape(-1, 384)

    def _linear(self, hidden: Floats, name: str) -> Floats:
        return hidden @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, hidden: Floats, name: str) -> Floats:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
