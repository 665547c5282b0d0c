"""Where a memory goes in a chain, and how far a budget reaches."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.contracts.links import ChainSpot
from memcube_common.errors import Conflict, NotFound
from memcube_common.links.domain import Member, added, moved, removed, reordered, stretch

A, B, C, D = (UUID(int=number) for number in range(4))


@pytest.mark.parametrize(
    ("spot", "expected"),
    [
        (ChainSpot(), [A, B, C, D]),
        (ChainSpot(position=1), [D, A, B, C]),
        (ChainSpot(position=4), [A, B, C, D]),
        (ChainSpot(position=99), [A, B, C, D]),
        (ChainSpot(before=A), [D, A, B, C]),
        (ChainSpot(before=C), [A, B, D, C]),
        (ChainSpot(after=A), [A, D, B, C]),
        (ChainSpot(after=C), [A, B, C, D]),
    ],
)
def test_a_memory_is_added_where_it_is_said(spot: ChainSpot, expected: list[UUID]) -> None:
    assert added([A, B, C], D, spot) == expected
    assert moved([D, A, B, C], D, spot) == expected


def test_what_does_not_fit_the_chain_is_refused() -> None:
    with pytest.raises(Conflict):
        added([A], A, ChainSpot())
    with pytest.raises(Conflict):
        added([A], B, ChainSpot(before=C))
    with pytest.raises(Conflict):
        moved([A, B], A, ChainSpot(after=A))
    with pytest.raises(NotFound):
        moved([A], B, ChainSpot(position=1))
    with pytest.raises(NotFound):
        removed([A], B)
    for wanted in ([A], [A, B, C], [A, C], [A, A], []):
        with pytest.raises(Conflict):
            reordered([A, B], wanted)
    assert reordered([A, B], [B, A]) == [B, A]


COSTS = st.lists(st.integers(min_value=0, max_value=50), max_size=12)


@given(COSTS, st.integers(0, 14), st.integers(1, 14), st.one_of(st.none(), st.integers(0, 200)))
def test_a_stretch_is_the_longest_that_fits(costs: list[int], start: int, limit: int, budget: int | None) -> None:
    members = [Member(UUID(int=n), cost, "x", datetime.now(UTC)) for n, cost in enumerate(costs)]
    run = stretch(members, start=start, limit=limit, budget=budget)
    assert run.first == min(start, len(costs))
    assert run.tokens == sum(costs[run.first : run.end])
    assert budget is None or run.tokens <= budget
    full = run.end - run.first == limit or run.end == len(costs)
    assert full or (budget is not None and run.tokens + costs[run.end] > budget)
