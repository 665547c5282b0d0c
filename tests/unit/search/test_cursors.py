"""Cursors come back as they were and only to their query; prefixes end where they should; fields are all there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from memcube_common.contracts.api import FoundMemory, MemoryField, MemoryQuery
from memcube_common.search.cursors import after_marks, after_place, read_marks, read_place
from memcube_common.search.domain import DEPTH_MAX, Filters, Place, mark
from memcube_common.security.signing import SIGNED_MAX, Signer

ASKED, OTHER = b"q" * 16, b"r" * 16
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
texts = st.text(min_size=1, max_size=200).filter(lambda text: "\x00" not in text)


@given(moments, texts.filter(lambda t: t.isprintable()), st.uuids())
def test_a_place_comes_back_to_its_own_query(at: datetime, label: str, memory_id: UUID) -> None:
    place = Place(at, label, memory_id)
    cursor = after_place(ASKED, place)
    assert read_place(ASKED, cursor) == place
    assert read_place(OTHER, cursor) is None
    assert read_marks(ASKED, cursor) is None


@given(st.sets(st.uuids(), max_size=50))
def test_marks_come_back_to_their_own_query(ids: set[UUID]) -> None:
    marks = frozenset(mark(one) for one in ids)
    assert read_marks(ASKED, after_marks(ASKED, marks)) == marks
    assert read_marks(OTHER, after_marks(ASKED, marks)) is None
    assert read_place(ASKED, after_marks(ASKED, marks)) is None


def test_the_longest_cursor_is_short_enough_to_be_read() -> None:
    marks = frozenset(number.to_bytes(5, "big") for number in range(DEPTH_MAX))
    ranked = Signer(b"s", "cursor").sign(after_marks(ASKED, marks))
    place = Place(datetime.now(UTC) + timedelta(microseconds=1), "日" * 200, UUID(int=1))
    listed = Signer(b"s", "cursor").sign(after_place(ASKED, place))
    assert max(len(ranked), len(listed)) <= SIGNED_MAX
    assert MemoryQuery(cursor=ranked).cursor == ranked


@given(texts, texts)
def test_a_prefix_ends_where_the_next_labels_begin(prefix: str, other: str) -> None:
    until = Filters(label_prefix=prefix).label_until
    for label in (prefix, prefix + other, other):
        inside = label >= prefix and (until is None or label < until)
        assert inside == label.startswith(prefix)


def test_every_field_of_a_found_memory_can_be_asked_for() -> None:
    assert set(get_args(MemoryField)) == set(FoundMemory.model_fields)
