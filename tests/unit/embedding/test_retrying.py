"""Retries: bounded, spread out, and as patient as the model asked."""

from __future__ import annotations

import pytest
from tests.fakes.embedder import FakeEmbedder

from memcube_embedding.embedders.protocol import CircuitOpen, EmbedderUnavailable, TextRefused
from memcube_embedding.embedders.retrying import RetryingEmbedder


class Waits(list[float]):
    """A sleep that takes no time and remembers how long it would have been."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def retrying(fake: FakeEmbedder, waits: Waits, *, jitter: float = 1.0) -> RetryingEmbedder:
    return RetryingEmbedder(fake, attempts=4, backoff=0.5, longest_wait=10.0, sleep=waits, jitter=lambda: jitter)


async def test_waits_double_from_try_to_try() -> None:
    fake, waits = FakeEmbedder(), Waits()
    fake.failures.extend(EmbedderUnavailable(after=0.0) for _ in range(3))
    assert len(await retrying(fake, waits).embed(["a"])) == 1
    assert waits == [0.5, 1.0, 2.0]


async def test_what_the_model_asked_for_is_waited_in_full_and_jitter_comes_on_top() -> None:
    fake, waits = FakeEmbedder(), Waits()
    fake.failures.append(EmbedderUnavailable(after=7.0))
    await retrying(fake, waits, jitter=0.5).embed(["a"])
    assert waits == [7.25]


async def test_after_the_last_try_the_error_says_when_to_come_back() -> None:
    fake, waits = FakeEmbedder(), Waits()
    fake.failures.extend(EmbedderUnavailable("busy", after=2.0) for _ in range(4))
    with pytest.raises(EmbedderUnavailable, match="busy") as caught:
        await retrying(fake, waits).embed(["a"])
    assert len(fake.calls) == 4
    assert caught.value.after == 2.0 + 4.0


async def test_a_model_that_wants_a_long_rest_is_not_waited_for() -> None:
    fake, waits = FakeEmbedder(), Waits()
    fake.failures.append(EmbedderUnavailable(after=60.0))
    with pytest.raises(EmbedderUnavailable) as caught:
        await retrying(fake, waits).embed(["a"])
    assert caught.value.after >= 60.0
    assert waits == []


@pytest.mark.parametrize("error", [CircuitOpen(after=1.0), TextRefused(0, "odd")])
async def test_an_open_circuit_and_a_refused_text_are_not_tried_again(error: Exception) -> None:
    fake, waits = FakeEmbedder(), Waits()
    fake.failures.append(error)
    with pytest.raises(type(error)):
        await retrying(fake, waits).embed(["a"])
    assert len(fake.calls) == 1
