"""A reranker that fails is left alone, probed rarely, and taken back when it answers; nobody waits for it meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from memcube_common.rerank.breaker import BreakingReranker
from memcube_common.rerank.protocol import RerankerUnavailable


class Scripted:
    """Fails with what is told, one after the other, then answers."""

    name = "scripted"

    def __init__(self, *rests: float) -> None:
        self.rests = list(rests)
        self.asked = 0
        self.closed = False

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        self.asked += 1
        if self.rests:
            raise RerankerUnavailable("away", after=self.rests.pop(0))
        return [float(len(text)) for text in texts]

    async def aclose(self) -> None:
        self.closed = True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def tried(reranker: BreakingReranker) -> float | None:
    """After how long to come again, None where it answered."""
    try:
        await reranker.scores("?", ["a"])
    except RerankerUnavailable as error:
        return error.after
    return None


async def test_it_rests_after_three_failures_is_probed_once_and_comes_back() -> None:
    inner, clock = Scripted(0, 0, 0, 0), Clock()
    reranker = BreakingReranker(inner, failures=3, rest=5, clock=clock)
    assert [await tried(reranker) for _ in range(5)] == [0, 0, 0, 5, 5]
    assert inner.asked == 3

    clock.now += 5
    assert (await tried(reranker), await tried(reranker), inner.asked) == (0, 5, 4), "the probe failed: another rest"
    clock.now += 5
    assert (await tried(reranker), await tried(reranker), inner.asked) == (None, None, 6)


async def test_a_failure_in_between_is_forgotten_and_a_wish_for_rest_is_kept_within_a_minute() -> None:
    clock = Clock()
    reranker = BreakingReranker(inner := Scripted(0, 0), failures=3, clock=clock)
    assert [await tried(reranker) for _ in range(3)] == [0, 0, None]
    inner.rests = [0.0, 0.0, 3600.0]
    assert [await tried(reranker) for _ in range(4)] == [0, 0, 3600, 60]
    await reranker.aclose()
    assert (inner.closed, reranker.name) == (True, "scripted")


async def test_beside_a_probe_nobody_waits() -> None:
    clock = Clock()
    reranker = BreakingReranker(Scripted(0), failures=1, rest=5, clock=clock)
    assert await tried(reranker) == 0
    clock.now += 5

    class Probed(Scripted):
        async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
            with pytest.raises(RerankerUnavailable, match="left alone"):
                await reranker.scores("?", ["b"])
            return await super().scores(question, texts)

    reranker._inner = Probed()  # pyright: ignore[reportPrivateUsage]
    assert await tried(reranker) is None
