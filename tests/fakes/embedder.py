"""The one fake embedder; it passes the same contract test as the real ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from memcube_common.testing.openai_server import hashed_vector
from memcube_embedding.embedders.protocol import (
    EmbedderUnavailable,
    EmbeddingModel,
    Outcome,
    TextRefused,
    Vector,
    vectors_or_refusal,
)
from memcube_embedding.embedders.validation import unit_vector, why_refused


class FakeEmbedder:
    """Makes vectors of hashed words; fails with the `failures` given, in order, and waits where `gate` is closed."""

    def __init__(self, *, dimensions: int = 64, max_batch: int = 8) -> None:
        self.model = EmbeddingModel(
            name="fake", dimensions=dimensions, max_batch=max_batch, fingerprint=f"fake/{dimensions}"
        )
        self.calls: list[list[str]] = []
        self.failures: deque[Exception] = deque()
        self.refused: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()
        self.closed = False

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.calls.append(list(texts))
        self.called.set()
        await self.gate.wait()
        if self.closed:
            raise EmbedderUnavailable("the embedder is closed")
        if self.failures:
            raise self.failures.popleft()
        return vectors_or_refusal([self._outcome(index, text) for index, text in enumerate(texts)])

    async def aclose(self) -> None:
        self.closed = True

    def _outcome(self, index: int, text: str) -> Outcome:
        reason = why_refused(text) or ("it is on the fake's list" if text in self.refused else None)
        if reason is not None:
            return TextRefused(index, reason)
        return unit_vector(hashed_vector(text, self.model.dimensions), dimensions=self.model.dimensions, index=index)
