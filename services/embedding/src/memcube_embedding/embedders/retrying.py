"""Tries again before any embedder gives up: exponential backoff with full jitter, never longer than it is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from memcube_embedding.embedders.protocol import CircuitOpen, Embedder, EmbedderUnavailable, EmbeddingModel, Vector


class RetryingEmbedder:
    """Repeats a call that found the model unavailable, up to `attempts` times in all.

    The n-th wait is what the model asked for (`EmbedderUnavailable.after`) and on top of it a random time up to
    `backoff * 2 ** n` seconds, at most `longest_wait` (full jitter). A model that asks for more than `longest_wait`
    is not waited for here, and an open circuit is never retried: both errors pass to the caller at once.
    `sleep` takes seconds, `jitter` returns a number in [0, 1).
    """

    def __init__(
        self,
        inner: Embedder,
        *,
        attempts: int = 4,
        backoff: float = 0.5,
        longest_wait: float = 10.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._attempts = attempts
        self._backoff = backoff
        self._longest_wait = longest_wait
        self._sleep = sleep
        self._jitter = jitter

    @property
    def model(self) -> EmbeddingModel:
        """The model behind."""
        return self._inner.model

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """As the embedder behind, after up to `attempts` tries."""
        attempt = 0
        while True:
            try:
                return await self._inner.embed(texts)
            except CircuitOpen:
                raise
            except EmbedderUnavailable as unavailable:
                wait = unavailable.after + self._backoff_of(attempt)
                attempt += 1
                if attempt >= self._attempts or unavailable.after > self._longest_wait:
                    raise EmbedderUnavailable(unavailable.detail, after=wait) from unavailable
            await self._sleep(wait)

    async def aclose(self) -> None:
        """Close the embedder behind."""
        await self._inner.aclose()

    def _backoff_of(self, attempt: int) -> float:
        return min(self._backoff * 2.0**attempt, self._longest_wait) * self._jitter()
