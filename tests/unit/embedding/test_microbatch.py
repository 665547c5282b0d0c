"""The micro-batcher: questions share calls, answers and a cache, and none of them disturbs another."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest
from tests.fakes.embedder import FakeEmbedder

from memcube_embedding.embedders.microbatch import MicroBatcher
from memcube_embedding.embedders.protocol import EmbedderUnavailable, TextRefused, Vector

T = TypeVar("T")


class Window:
    """A gathering window that closes when told."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()
        self.asked = 0

    async def __call__(self, _: float) -> None:
        self.asked += 1
        await self._closed.wait()

    def close(self) -> None:
        self._closed.set()


async def started(*asks: Coroutine[Any, Any, T]) -> list[asyncio.Task[T]]:
    """The asks as tasks that have run up to their first wait."""
    tasks = [asyncio.create_task(ask) for ask in asks]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def at_once(batcher: MicroBatcher, *texts: str) -> list[Vector]:
    return list(await asyncio.gather(*(batcher.embed_one(text) for text in texts)))


async def test_texts_asked_for_in_one_window_leave_in_one_call() -> None:
    fake, window = FakeEmbedder(), Window()
    batcher = MicroBatcher(fake, sleep=window)
    asks = await started(*(batcher.embed_one(text) for text in ("a", "b", "c")))
    assert fake.calls == []
    window.close()
    vectors = await asyncio.gather(*asks)
    assert fake.calls == [["a", "b", "c"]]
    assert window.asked == 1
    expected = await fake.embed(["a", "b", "c"])
    np.testing.assert_array_equal(vectors, expected)


async def test_a_full_batch_does_not_wait_for_the_window() -> None:
    fake = FakeEmbedder()
    batcher = MicroBatcher(fake, max_batch=2, sleep=Window())
    await at_once(batcher, "a", "b")
    assert fake.calls == [["a", "b"]]
    await batcher.aclose()


async def test_equal_texts_under_way_share_one_answer() -> None:
    fake = FakeEmbedder()
    batcher = MicroBatcher(fake, window=0)
    first, second, _ = await at_once(batcher, "a", "a", "b")
    assert fake.calls == [["a", "b"]]
    assert first is second


async def test_the_latest_answers_are_remembered_and_the_oldest_forgotten() -> None:
    fake = FakeEmbedder()
    batcher = MicroBatcher(fake, window=0, cache_entries=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await batcher.embed_one(text)
    assert fake.calls == [["a"], ["b"], ["c"], ["b"]]


async def test_a_remembered_answer_cannot_be_changed_by_whoever_got_it() -> None:
    batcher = MicroBatcher(FakeEmbedder(), window=0)
    vector = await batcher.embed_one("a")
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 0.5


async def test_a_cancelled_asker_does_not_disturb_the_others() -> None:
    fake, window = FakeEmbedder(), Window()
    batcher = MicroBatcher(fake, sleep=window)
    leaving, staying, other = await started(*(batcher.embed_one(text) for text in ("a", "a", "b")))
    leaving.cancel()
    window.close()
    await asyncio.gather(staying, other)
    assert leaving.cancelled()
    assert fake.calls == [["a", "b"]]


async def test_a_refused_text_fails_alone_and_without_being_quoted() -> None:
    fake = FakeEmbedder()
    fake.refused.add("secret words")
    batcher = MicroBatcher(fake, window=0)
    good, bad = await asyncio.gather(batcher.embed_one("a"), batcher.embed_one("secret words"), return_exceptions=True)
    assert isinstance(good, np.ndarray)
    assert isinstance(bad, TextRefused)
    assert bad.index == 0
    assert "secret" not in str(bad)


async def test_an_unavailable_model_reaches_every_asker_and_is_not_remembered() -> None:
    fake = FakeEmbedder()
    fake.failures.append(EmbedderUnavailable(after=3.0))
    batcher = MicroBatcher(fake, window=0)
    results = await asyncio.gather(*(batcher.embed_one(text) for text in "ab"), return_exceptions=True)
    assert [type(result) for result in results] == [EmbedderUnavailable, EmbedderUnavailable]
    assert len(await at_once(batcher, "a", "b")) == 2


async def test_at_most_so_many_calls_are_under_way_and_the_rest_leaves_together() -> None:
    fake = FakeEmbedder()
    fake.gate.clear()
    batcher = MicroBatcher(fake, max_batch=2, flights=1, sleep=Window())
    asks = await started(*(batcher.embed_one(text) for text in "abcd"))
    assert fake.calls == [["a", "b"]]
    fake.gate.set()
    await asyncio.gather(*asks)
    assert fake.calls == [["a", "b"], ["c", "d"]]
    await batcher.aclose()


async def test_too_many_waiting_texts_are_turned_away() -> None:
    fake, window = FakeEmbedder(), Window()
    batcher = MicroBatcher(fake, max_waiting=2, sleep=window)
    asks = await started(batcher.embed_one("a"), batcher.embed_one("b"))
    with pytest.raises(EmbedderUnavailable, match="too many"):
        await batcher.embed_one("c")
    (same,) = await started(batcher.embed_one("a"))
    window.close()
    await asyncio.gather(*asks, same)


async def test_closing_tells_whoever_waits() -> None:
    fake = FakeEmbedder()
    fake.gate.clear()
    batcher = MicroBatcher(fake, max_batch=1, flights=1, sleep=Window())
    asks = await started(batcher.embed_one("a"), batcher.embed_one("b"))
    await batcher.aclose()
    results = await asyncio.gather(*asks, return_exceptions=True)
    assert [type(result) for result in results] == [EmbedderUnavailable, EmbedderUnavailable]
    with pytest.raises(EmbedderUnavailable):
        await batcher.embed_one("c")
    assert not fake.closed
