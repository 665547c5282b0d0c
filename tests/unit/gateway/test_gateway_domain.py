"""What the door decides: when waiting is over, which id an import has, what a follower is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.contracts.api import ImportedMemory, Receipt
from memcube_common.contracts.fields import ReceiptState
from memcube_common.governance.domain import Access, Reader
from memcube_gateway.domain import Framed, RecentChanges, effect_of, frame, imported, is_settled
from memcube_gateway.routes.changes import greet
from memcube_gateway.store import FeedEnds

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "wait", "settled"),
    [
        ("accepted", "stored", False),
        ("stored", "stored", True),
        ("stored", "searchable", False),
        ("searchable", "stored", True),
        ("searchable", "searchable", True),
        ("failed", "searchable", True),
        ("parked", "stored", True),
    ],
)
def test_waiting_ends_when_the_state_is_reached_or_never_will_be(
    state: ReceiptState, wait: Literal["stored", "searchable"], settled: bool
) -> None:
    receipt = Receipt(id=uuid4(), project="p", state=state, memory_id=uuid4())

    assert is_settled(receipt, wait) is settled


def test_an_import_without_a_time_finds_the_same_id_again() -> None:
    first = imported("p", ImportedMemory(id="a", content="x"), NOW)
    again = imported("p", ImportedMemory(id="a", content="x"), datetime(2027, 1, 1, tzinfo=UTC))

    assert first.id == again.id
    assert first.created_at == NOW
    assert (first.origin, first.created_by) == ("import:a", "import")
    assert imported("q", ImportedMemory(id="a", content="x"), NOW).id != first.id


def test_an_import_keeps_its_own_time_and_author() -> None:
    then = datetime(2020, 5, 6, tzinfo=UTC)

    memory = imported("p", ImportedMemory(id="a", content="x", created_at=then, created_by="bo"), NOW)

    assert (memory.created_at, memory.created_by) == (then, "bo")
    assert memory.id == imported("p", ImportedMemory(id="a", content="y"), NOW).id, "the id alone says which it is"


def test_a_frame_is_one_event() -> None:
    assert frame("memory.v1.created", b'{"a":1}', 7) == b'id: 7\nevent: memory.v1.created\ndata: {"a":1}\n\n'
    assert frame("x", b"{}") == b"event: x\ndata: {}\n\n"


def test_a_follower_without_a_position_starts_at_the_head() -> None:
    greeting, position = greet(FeedEnds(first=3, head=9), None)

    assert position == 9
    assert b"event: hello" in greeting
    assert b"id: 9" in greeting


@pytest.mark.parametrize("after", [2, 5, 9])
def test_a_position_that_is_kept_is_resumed_without_a_word(after: int) -> None:
    assert greet(FeedEnds(first=3, head=9), after) == (b"", after)


@pytest.mark.parametrize("after", [0, 1, 10, 10**15])
def test_a_position_that_is_not_there_is_answered_with_reset(after: int) -> None:
    greeting, position = greet(FeedEnds(first=3, head=9), after)

    assert position == 2
    assert b'event: reset\ndata: {"first":3,"position":9}' in greeting


@given(st.lists(st.integers(1, 40), max_size=120), st.integers(1, 16))
def test_recent_changes_are_consecutive_whatever_arrives(arriving: list[int], size: int) -> None:
    recent = RecentChanges(0, size=size)
    for position in arriving:
        before = recent.head
        outcome = recent.offer(Framed(position, b"%d" % position, Access()))
        assert outcome == ("known" if position <= before else "taken" if position == before + 1 else "gap")

    for position in range(recent.head + 2):
        changes = recent.after(position)
        frames = None if changes is None else [change.frame for change in changes]
        expected = [b"%d" % number for number in range(position + 1, recent.head + 1)]
        assert frames == expected if len(expected) <= size else frames is None


def test_what_expired_is_told_again_to_the_privileged_only_until_it_is_restored() -> None:
    memory, reader, root = uuid4(), Reader("mo", "MEMBER"), Reader("root", "OWNER")
    access = Access(visibility="project", read_roles=("MEMBER",))
    recent = RecentChanges(0)

    def happens(position: int, type: str) -> None:
        recent.offer(Framed(position, b"%d" % position, access, memory, effect_of(type, None)))

    def told(to: Reader) -> list[bytes]:
        return [shown for change in recent.after(0) or () if (shown := change.shown_to(to)) is not None]

    happens(1, "memory.v1.created")
    happens(2, "memory.v1.expired")
    assert (told(reader), told(root)) == ([b"2"], [b"1", b"2"])
    happens(3, "memory.v1.restored")
    assert told(reader) == [b"1", b"2", b"3"]
