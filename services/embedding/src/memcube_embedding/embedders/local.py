"""Embeds in this process, offline: all-MiniLM-L6-v2 on onnxruntime, in a few worker threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memcube_embedding.embedders.minilm import DIMENSIONS, FINGERPRINT, MAX_TOKENS, MODEL_NAME
from memcube_embedding.embedders.prepare import ModelNotPrepared, PreparedModel, find_prepared
from memcube_embedding.embedders.protocol import (
    EmbedderUnavailable,
    EmbeddingModel,
    Outcome,
    TextRefused,
    Vector,
    vectors_or_refusal,
)
from memcube_embedding.embedders.validation import InvalidVector, unit_vector, why_refused

MODEL = EmbeddingModel(name=MODEL_NAME, dimensions=DIMENSIONS, max_batch=32, fingerprint=FINGERPRINT)

MAX_CHARACTERS = 16_384
"""Characters of a text that are tokenised; its first 256 tokens lie within them unless its words exceed 64 letters."""


class _Session(Protocol):
    def run(self, output_names: list[str], input_feed: dict[str, NDArray[np.int64]]) -> list[NDArray[np.float32]]: ...


class _SessionOptions(Protocol):
    intra_op_num_threads: int
    inter_op_num_threads: int
    enable_cpu_mem_arena: bool


class _Runtime(Protocol):
    """The part of onnxruntime used here, which ships without types."""

    def SessionOptions(self) -> _SessionOptions: ...  # noqa: N802 (its own name)

    def InferenceSession(  # noqa: N802 (its own name)
        self, path: str, options: _SessionOptions, *, providers: list[str]
    ) -> _Session: ...


class LocalEmbedder:
    """One text per run of the graph, so that a text's vector never depends on its neighbours.

    Dynamic int8 scales activations over a whole batch; a padded batch shifted vectors to a cosine of 0.98. Each of
    `threads` worker threads runs one text at a time through the one session they share.
    """

    def __init__(self, prepared: PreparedModel, *, threads: int = 1) -> None:
        self._threads = max(1, min(threads, os.cpu_count() or 1))
        self._session = _open_session(prepared.graph)
        self._tokenizer = _open_tokenizer(prepared.tokenizer)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="embedder")
        self._closed = False

    @classmethod
    async def open(cls, models_dir: Path, *, threads: int = 1) -> LocalEmbedder:
        """The embedder over the files in `models_dir`, which are made first when they are missing or damaged.

        `threads` is cut to the processors there are. Raises `ModelNotPrepared` when the files cannot be made.
        """
        prepared = await asyncio.to_thread(find_prepared, models_dir)
        if prepared is None:
            await _prepare_elsewhere(models_dir)
            prepared = await asyncio.to_thread(find_prepared, models_dir)
        if prepared is None:
            raise ModelNotPrepared("the prepared model was damaged as soon as it was made: is the disk full?")
        return await asyncio.to_thread(cls, prepared, threads=threads)

    @property
    def model(self) -> EmbeddingModel:
        """all-MiniLM-L6-v2 with 384 dimensions."""
        return MODEL

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One unit vector of shape (384,) per text, in order; a text is read up to its 256th token.

        Raises `TextRefused` for a blank text or one that is not valid Unicode, `EmbedderUnavailable` once closed.
        """
        outcomes: dict[int, Outcome] = {}
        places = iter(range(len(texts)))
        # A call never has more texts in the pool than threads: a question asked while a long batch runs is next in
        # line, not last.
        lanes = min(len(texts), self._threads)
        drained = await asyncio.gather(
            *(self._drain(places, texts, outcomes) for _ in range(lanes)), return_exceptions=True
        )
        for failure in drained:
            if failure is not None:
                raise failure
        return vectors_or_refusal([outcomes[place] for place in range(len(texts))])

    async def aclose(self) -> None:
        """Let the running texts finish and end the threads."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown, wait=True)

    async def _drain(self, places: Iterator[int], texts: Sequence[str], outcomes: dict[int, Outcome]) -> None:
        loop = asyncio.get_running_loop()
        for place in places:
            reason = why_refused(texts[place])
            if reason is not None:
                outcomes[place] = TextRefused(place, reason)
                continue
            if self._closed:
                raise EmbedderUnavailable("the embedder is closed")
            outcomes[place] = await loop.run_in_executor(self._pool, self._embed_one, place, texts[place])

    def _embed_one(self, place: int, text: str) -> Outcome:
        ids = np.array([self._tokenizer.encode(text[:MAX_CHARACTERS]).ids], dtype=np.int64)
        [[numbers]] = self._session.run(["embedding"], {"input_ids": ids})
        try:
            return unit_vector(numbers, dimensions=DIMENSIONS, index=place)
        except InvalidVector as invalid:
            return TextRefused(place, str(invalid))


async def _prepare_elsewhere(models_dir: Path) -> None:
    command = [sys.executable, "-m", "memcube_embedding.embedders.prepare", str(models_dir)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, complaint = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        lines = complaint.decode(errors="replace").splitlines() or ["no reason given"]
        raise ModelNotPrepared(f"the local model could not be prepared: {lines[-1]}")


def _open_session(graph: Path) -> _Session:
    runtime = cast("_Runtime", import_module("onnxruntime"))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena keeps 180 MB more than the model needs
    return runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _open_tokenizer(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=MAX_TOKENS)  # pyright: ignore[reportUnknownMemberType]  (untyped **kwargs)
    return tokenizer
