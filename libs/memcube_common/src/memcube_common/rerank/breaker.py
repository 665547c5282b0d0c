"""A circuit breaker before any reranker: one that fails again and again is left alone, and nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from memcube_common.rerank.protocol import Reranker, RerankerUnavailable

LONGEST_REST: Final = 60.0


class BreakingReranker:
    """Passes questions on while the reranker answers; after `failures` in a row it rests `rest` seconds, or as long as
    it asked for, at most a minute. Then one question is a probe: its success ends the rest, its failure begins another.

    clock: seconds, monotonic.
    """

    def __init__(
        self, inner: Reranker, *, failures: int = 3, rest: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner = inner
        self._failures_allowed = failures
        self._rest = rest
        self._clock = clock
        self._failures = 0
        self._again_at = 0.0

    @property
    def name(self) -> str:
        """The model, as it is asked for."""
        return self._inner.name

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """As the reranker behind says. Raises RerankerUnavailable, at once while it is left alone."""
        if self._failures >= self._failures_allowed:
            left = self._again_at - self._clock()
            if left > 0:
                raise RerankerUnavailable("the reranker is left alone for a while", after=left)
            self._again_at = self._clock() + self._rest  # this one is the probe: others do not wait beside it
        try:
            scores = await self._inner.scores(question, texts)
        except RerankerUnavailable as error:
            self._failures += 1
            self._again_at = self._clock() + min(max(self._rest, error.after), LONGEST_REST)
            raise
        self._failures = 0
        return scores

    async def aclose(self) -> None:
        """Close the connections of the one behind."""
        await self._inner.aclose()
