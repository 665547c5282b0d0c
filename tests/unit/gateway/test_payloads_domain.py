"""What a download answers: which bytes a Range header asks for, what a link says, what a file is called."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.security.grants import Grant
from memcube_gateway.payloads.domain import Link, NotSatisfiable, Span, file_name, names_tag, span_of


@given(st.integers(1, 1000), st.integers(0, 1200), st.integers(0, 1200))
def test_a_range_is_what_it_says_cut_to_what_there_is(size: int, first: int, last: int) -> None:
    content = bytes(range(256)) * 5
    content = content[:size]
    header = f"bytes={first}-{last}"
    if last < first:
        assert span_of(header, size) is None
    elif first >= size:
        with pytest.raises(NotSatisfiable):
            span_of(header, size)
    else:
        span = span_of(header, size)
        assert span is not None
        assert content[span.start : span.end] == content[first : last + 1]


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-", Span(0, 10)),
        ("bytes=9-", Span(9, 10)),
        ("bytes=-3", Span(7, 10)),
        ("bytes=-30", Span(0, 10)),
        ("BYTES = 2-3 ", Span(2, 4)),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=1-2,3-4", None),
        ("bytes=a-b", None),
        ("bytes=1-2\n", Span(1, 3)),
        ("bytes=١-٢", None),
        ("pages=1-2", None),
        ("bytes=" + "9" * 16 + "-", None),
    ],
)
def test_what_is_no_single_range_is_answered_with_the_whole(header: str | None, span: Span | None) -> None:
    assert span_of(header, 10) == span


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_outside_is_not_satisfiable(header: str) -> None:
    with pytest.raises(NotSatisfiable):
        span_of(header, 10)


def test_a_tag_is_known_in_any_list_and_however_weak() -> None:
    assert names_tag('"a"', '"a"')
    assert names_tag(' "b" , W/"a"', '"a"')
    assert names_tag("*", '"a"')
    assert not names_tag('"b"', '"a"')
    assert not names_tag("a", '"a"')
    assert not names_tag(None, '"a"')


@pytest.mark.parametrize("ends", [None, datetime(2026, 5, 1, tzinfo=UTC)])
def test_a_link_says_again_what_it_was_made_of(ends: datetime | None) -> None:
    link = Link(
        uuid4(),
        3,
        Grant("demo", "ada", "MEMBER", f"session:{uuid4()}", ends),
        None if ends is None else uuid4(),
        datetime(2026, 4, 1, tzinfo=UTC),
    )
    assert Link.unpacked(link.packed()) == link
    principal = link.principal("10.0.0.1")
    assert (principal.project, principal.name, principal.role) == ("demo", "ada", "MEMBER")
    assert principal.source.endswith(" link 10.0.0.1")


def test_a_file_is_named_without_anything_of_its_maker() -> None:
    assert re.fullmatch(r"[0-9a-f-]{36}-v2\.bin", file_name(uuid4(), "PARAMETER", 2))
    assert file_name(uuid4(), "PLAINTEXT", 1).endswith("-v1.txt")
