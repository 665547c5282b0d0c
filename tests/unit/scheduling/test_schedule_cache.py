"""The cache of schedules: keyed by everything that matters, bounded by number, bytes and age."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from memcube_common.contracts.scheduling import Schedule, ScheduleRequest
from memcube_common.feedback.store import Mark
from memcube_scheduling.cache import ENTRY_SECONDS, Cache, Deliveries, key_of

MARK = Mark(10, date(2026, 11, 21), 0, 0, 0)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_schedule(*, prompt: str = "", degraded: str | None = None) -> Schedule:
    return Schedule(
        id=uuid4(),
        agent_id="ann",
        task_id=None,
        made_at=datetime(2026, 11, 22, tzinfo=UTC),
        token_budget=100,
        tokens_used=1,
        memories=[],
        prompt=prompt,
        considered=1,
        degraded=degraded,
        took_ms=12.5,
    )


def kept(cache: Cache, key: bytes, schedule: Schedule | None = None) -> bool:
    return cache.keep(key, schedule=schedule or a_schedule(), mark=MARK, until=None)


def key(**other: Any) -> bytes:
    request = {"agent_id": "ann", "text": "deploy", **other.pop("request", {})}
    said: dict[str, Any] = {
        "project": "demo",
        "reader": "mia",
        "role": "MEMBER",
        "weights": {"tags": 0.4},
        "generation": 1,
    }
    return key_of(request=ScheduleRequest.model_validate(request), **(said | other))


@pytest.mark.parametrize(
    "other",
    [
        {"project": "other"},
        {"reader": "max"},
        {"role": "VIEWER"},
        {"weights": {"tags": 0.5}},
        {"generation": 2},
        {"generation": None},
        *(
            {"request": {name: value}}
            for name, value in {
                "agent_id": "ben",
                "task_id": "T-1",
                "text": "Deploy",
                "need_tags": ["ops"],
                "embedding": [0.5, 0.25],
                "token_budget": 3999,
                "prefer_hot": True,
                "include_insights": True,
                "format": "xml",
                "explain": True,
                "as_of": "2026-01-01T00:00:00Z",
                "limit": 99,
            }.items()
        ),
    ],
    ids=str,
)
def test_whatever_a_schedule_follows_from_is_in_its_key(other: dict[str, Any]) -> None:
    assert key() == key()
    assert key(**other) != key()


def test_every_field_of_a_request_is_tried_above() -> None:
    """A new field is in the key by itself; that it is, is said above."""
    assert set(ScheduleRequest.model_fields) == {
        "agent_id", "task_id", "text", "need_tags", "embedding", "token_budget", "prefer_hot", "include_insights",
        "format", "explain", "as_of", "limit",
    }  # fmt: skip


def test_embeddings_that_differ_in_the_last_bit_are_two_requests() -> None:
    assert key(request={"embedding": [0.1, 0.2]}) != key(request={"embedding": [0.1, 0.20000000000000004]})


def test_an_entry_answers_as_it_was_answered_but_for_the_time_and_the_mark() -> None:
    cache, schedule = Cache(Clock(), entries=3, size=10_000), a_schedule(prompt='ä "quoted" }')
    kept(cache, b"k", schedule)
    entry = cache.get(b"k")
    assert entry is not None
    answer = orjson.loads(entry.answer(0.75))
    assert answer == {**orjson.loads(schedule.model_dump_json()), "cached": True, "took_ms": 0.75}
    assert Schedule.model_validate(answer).id == schedule.id


def test_it_is_too_old_after_thirty_seconds() -> None:
    clock = Clock()
    cache = Cache(clock, entries=3, size=10_000)
    kept(cache, b"k")
    clock.now += ENTRY_SECONDS - 0.01
    assert cache.get(b"k") is not None
    clock.now += 0.01
    assert cache.get(b"k") is None
    assert (len(cache), cache.size) == (0, 0)


def test_the_one_not_asked_for_longest_makes_room() -> None:
    cache = Cache(Clock(), entries=2, size=10_000)
    kept(cache, b"a")
    kept(cache, b"b")
    cache.get(b"a")
    kept(cache, b"c")
    assert [cache.get(k) is not None for k in (b"a", b"b", b"c")] == [True, False, True]


def test_it_is_bounded_by_bytes_and_what_is_too_large_is_not_kept() -> None:
    cache = Cache(Clock(), entries=1000, size=10_000)
    for n in range(50):
        kept(cache, bytes([n]), a_schedule(prompt="x" * 500))
        assert cache.size <= 10_000
    assert 2 < len(cache) < 20
    assert cache.size == sum(entry.size for n in range(50) if (entry := cache.get(bytes([n]))) is not None)
    assert not kept(cache, b"large", a_schedule(prompt="x" * 20_000))
    assert cache.get(b"large") is None


def test_the_same_key_again_takes_its_place_and_no_more_room() -> None:
    cache = Cache(Clock(), entries=5, size=10_000)
    kept(cache, b"k")
    size = cache.size
    kept(cache, b"k")
    assert (len(cache), cache.size) == (1, size)


@pytest.mark.parametrize(("entries", "size"), [(0, 10_000), (10, 0)])
def test_it_can_be_switched_off(entries: int, size: int) -> None:
    cache = Cache(Clock(), entries=entries, size=size)
    assert not kept(cache, b"k")
    assert len(cache) == 0


def test_what_had_to_do_without_something_or_has_no_mark_is_not_kept() -> None:
    cache = Cache(Clock(), entries=5, size=10_000)
    assert not kept(cache, b"k", a_schedule(degraded="no vector"))
    assert not cache.keep(b"k", schedule=a_schedule(), mark=None, until=None)
    assert len(cache) == 0


def test_deliveries_are_taken_once_given_back_and_bounded() -> None:
    first, second = UUID(int=1), UUID(int=2)
    deliveries = Deliveries(most=1)
    deliveries.add("demo", first)
    deliveries.add("demo", first)
    deliveries.add("demo", second)
    assert deliveries.projects == ["demo"]
    taken = deliveries.take("demo")
    assert taken == {first: 2}
    assert deliveries.take("demo") == {}
    deliveries.give_back("demo", taken)
    deliveries.add("demo", first)
    assert deliveries.take("demo") == {first: 3}


def test_what_nobody_asks_for_again_is_not_held_on_to() -> None:
    """What a memory said does not stay in the room because its schedule was never asked for again."""
    clock = Clock()
    cache = Cache(clock, entries=100, size=1_000_000)
    kept(cache, b"old")
    clock.now += ENTRY_SECONDS
    kept(cache, b"new")
    assert (len(cache), cache.get(b"old")) == (1, None)
    assert cache.get(b"new") is not None
