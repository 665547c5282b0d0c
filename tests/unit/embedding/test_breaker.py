"""The circuit breaker: a failing model is left alone, probed rarely, and trusted again after one success."""

from __future__ import annotations

import asyncio

import pytest
from tests.fakes.embedder import FakeEmbedder

from memcube_embedding.embedders.breaker import BreakingEmbedder, Circuit
from memcube_embedding.embedders.protocol import CircuitOpen, EmbedderUnavailable, TextRefused


class Clock:
    """Time that stands still until told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Guarded:
    """A breaker that opens after three failures, before a fake, on a clock of its own."""

    def __init__(self) -> None:
        self.fake = FakeEmbedder()
        self.clock = Clock()
        self.changes: list[Circuit] = []
        self.breaker = BreakingEmbedder(
            self.fake,
            failures=3,
            probe_interval=5.0,
            longest_rest=30.0,
            clock=self.clock,
            on_change=self.changes.append,
        )

    async def fail(self, times: int, *, after: float = 0.0) -> None:
        for _ in range(times):
            self.fake.failures.append(EmbedderUnavailable(after=after))
            with pytest.raises(EmbedderUnavailable):
                await self.breaker.embed(["a"])


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


async def test_it_opens_after_the_allowed_failures_and_then_asks_no_more(guarded: Guarded) -> None:
    await guarded.fail(3)
    with pytest.raises(CircuitOpen) as caught:
        await guarded.breaker.embed(["a"])
    assert caught.value.after == 5.0
    assert len(guarded.fake.calls) == 3
    assert guarded.breaker.circuit is Circuit.OPEN


async def test_a_success_in_between_starts_the_count_anew(guarded: Guarded) -> None:
    await guarded.fail(2)
    await guarded.breaker.embed(["a"])
    await guarded.fail(2)
    assert guarded.breaker.circuit is Circuit.CLOSED


async def test_a_refused_text_shows_that_the_model_is_well(guarded: Guarded) -> None:
    await guarded.fail(2)
    with pytest.raises(TextRefused):
        await guarded.breaker.embed([""])
    await guarded.fail(2)
    assert guarded.breaker.circuit is Circuit.CLOSED


async def test_an_unforeseen_error_counts_as_a_failure(guarded: Guarded) -> None:
    await guarded.fail(2)
    guarded.fake.failures.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await guarded.breaker.embed(["a"])
    assert guarded.breaker.circuit is Circuit.OPEN


async def test_a_failed_probe_waits_another_interval_and_a_good_one_closes_it(guarded: Guarded) -> None:
    await guarded.fail(3)
    guarded.clock.now += 5.0
    await guarded.fail(1)
    guarded.clock.now += 4.0
    with pytest.raises(CircuitOpen) as caught:
        await guarded.breaker.embed(["a"])
    assert caught.value.after == pytest.approx(1.0)
    guarded.clock.now += 1.0
    await guarded.breaker.embed(["a"])
    assert guarded.breaker.circuit is Circuit.CLOSED
    assert guarded.changes == [Circuit.OPEN, Circuit.PROBING, Circuit.OPEN, Circuit.PROBING, Circuit.CLOSED]
    assert len(guarded.fake.calls) == 5


async def test_only_one_probe_is_under_way_at_a_time(guarded: Guarded) -> None:
    await guarded.fail(3)
    guarded.clock.now += 5.0
    guarded.fake.gate.clear()
    guarded.fake.called.clear()
    probe = asyncio.create_task(guarded.breaker.embed(["a"]))
    await guarded.fake.called.wait()
    with pytest.raises(CircuitOpen):
        await guarded.breaker.embed(["b"])
    guarded.fake.gate.set()
    await probe
    assert guarded.fake.calls[3:] == [["a"]]


async def test_a_cancelled_probe_keeps_the_next_at_its_distance(guarded: Guarded) -> None:
    await guarded.fail(3)
    guarded.clock.now += 5.0
    guarded.fake.gate.clear()
    guarded.fake.called.clear()
    probe = asyncio.create_task(guarded.breaker.embed(["a"]))
    await guarded.fake.called.wait()
    probe.cancel()
    await asyncio.wait([probe])
    with pytest.raises(CircuitOpen):
        await guarded.breaker.embed(["b"])
    guarded.clock.now += 5.0
    guarded.fake.gate.set()
    await guarded.breaker.embed(["b"])


@pytest.mark.parametrize(("asked", "rest"), [(12.0, 12.0), (1.0, 5.0), (3600.0, 30.0)])
async def test_it_rests_as_long_as_the_model_asked_within_bounds(guarded: Guarded, asked: float, rest: float) -> None:
    await guarded.fail(3, after=asked)
    with pytest.raises(CircuitOpen) as caught:
        await guarded.breaker.embed(["a"])
    assert caught.value.after == rest


async def test_closing_closes_what_is_behind(guarded: Guarded) -> None:
    await guarded.breaker.aclose()
    assert guarded.fake.closed
