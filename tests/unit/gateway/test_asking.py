"""What a query asks, in the terms of search."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.contracts.api import MemoryQuery
from memcube_common.search.vectors import direction
from memcube_gateway import asking

numbers = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40).filter(any)


def test_what_decides_about_the_order_tells_queries_apart() -> None:
    query = MemoryQuery(tags=["a"])
    same = [MemoryQuery(tags=["a"], limit=3), MemoryQuery(tags=["a"], count=True, fields=["label"], cursor="x")]
    others = [MemoryQuery(tags=["b"]), MemoryQuery(tags=["a"], order="asc"), MemoryQuery(tags_any=["a"])]
    own = asking.query_digest("p", query)
    assert {asking.query_digest("p", one) for one in same} == {own}
    assert own not in {asking.query_digest("p", one) for one in others}
    assert own != asking.query_digest("q", query)


@given(numbers)
def test_a_vector_of_any_size_keeps_its_direction(given_numbers: list[float]) -> None:
    unit = direction(given_numbers).to_list()
    assert math.isclose(math.fsum(x * x for x in unit), 1, abs_tol=0.01)
    largest = max(range(len(given_numbers)), key=lambda place: abs(given_numbers[place]))
    assert math.copysign(1, unit[largest]) == math.copysign(1, given_numbers[largest])


@pytest.mark.parametrize(
    ("query", "by", "down"),
    [
        ({}, "created_at", True),
        ({"order": "asc"}, "created_at", False),
        ({"order_by": "label"}, "label", False),
        ({"order_by": "label", "order": "desc"}, "label", True),
        ({"order_by": "updated_at"}, "updated_at", True),
    ],
)
def test_listings_have_the_order_asked_for(query: dict[str, str], by: str, down: bool) -> None:
    listing = asking.listing(MemoryQuery.model_validate(query), None)
    assert (listing.by, listing.down) == (by, down)


def test_a_ranking_is_asked_for_what_is_left_of_its_thousand() -> None:
    seen = frozenset(number.to_bytes(5, "big") for number in range(990))
    assert asking.question(MemoryQuery(text="x", limit=50), None, seen).limit == 10
