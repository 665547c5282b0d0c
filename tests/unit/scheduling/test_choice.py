"""The choice holds its terms whatever it is given, and is nearly the best there is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcube_scheduling.domain import choice as module
from memcube_scheduling.domain.choice import SAME, Choice, Item, Terms, choose, in_order
from memcube_scheduling.domain.sameness import similarities

WORDS = ["deploy", "needs", "green", "pipeline", "approval", "banana", "yellow", "service", "token", "budget"]


def item(number: int, score: float, tokens: int, *, pinned: bool = False) -> Item:
    return Item(UUID(int=number), score, tokens, pinned)


def terms(tokens: int, *, most: int = 100, redundancy: float = 0.7, sharpness: float = 1.0) -> Terms:
    return Terms(tokens, most, redundancy, sharpness)


def numbers(chosen: Choice) -> list[int]:
    return [id.int for id in chosen.order]


def fields(most: int = 30, *, pins: bool = True) -> st.SearchStrategy[list[Item]]:
    one = st.tuples(st.integers(0, 15_000), st.integers(1, 120), st.integers(0, 9))
    return st.lists(one, max_size=most).map(
        lambda drawn: [
            item(number, score / 10_000, tokens, pinned=pins and pin == 0)
            for number, (score, tokens, pin) in enumerate(drawn)
        ]
    )


@st.composite
def likenesses(draw: st.DrawFn, items: Sequence[Item]) -> dict[tuple[int, int], float]:
    masks = draw(st.lists(st.integers(1, 2 ** len(WORDS) - 1), min_size=len(items), max_size=len(items)))
    return similarities([[word for at, word in enumerate(WORDS) if mask >> at & 1] for mask in masks])


def worth(taken: Sequence[Item], similar: Mapping[tuple[int, int], float], terms: Terms, ordered: list[Item]) -> float:
    """What a set is worth, written down a second time."""
    places = sorted(ordered.index(one) for one in taken)
    total = 0.0
    for at, place in enumerate(places):
        said = max((similar.get((other, place), 0.0) for other in places[:at]), default=0.0)
        total += max(0.0, ordered[place].score) ** terms.sharpness * (1 - terms.redundancy * said)
    return total


def best_worth(items: Sequence[Item], similar: Mapping[tuple[int, int], float], terms: Terms) -> float:
    """The best of all combinations that hold the terms, by trying them all; the pinned first, as they fit."""
    ordered = in_order(items)
    pins: list[Item] = []
    for one in ordered:
        if one.pinned and len(pins) < terms.most and sum(p.tokens for p in pins) + one.tokens <= terms.tokens:
            pins.append(one)
    best = worth(pins, similar, terms, ordered)
    free = [one for one in ordered if not one.pinned]
    for size in range(1, len(free) + 1):
        for more in itertools.combinations(free, size):
            taken = [*pins, *more]
            if len(taken) > terms.most or sum(one.tokens for one in taken) > terms.tokens:
                continue
            places = sorted(ordered.index(one) for one in taken)
            if any(
                similar.get(pair, 0.0) >= SAME and not (ordered[pair[0]].pinned and ordered[pair[1]].pinned)
                for pair in itertools.combinations(places, 2)
            ):
                continue
            best = max(best, worth(taken, similar, terms, ordered))
    return best


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_budget_and_the_number_hold_and_the_order_of_what_is_given_does_not_matter(data: st.DataObject) -> None:
    items = data.draw(fields())
    similar = data.draw(likenesses(items))
    bound = terms(data.draw(st.integers(0, 1500)), most=data.draw(st.integers(1, 30)), sharpness=2.0)
    chosen = choose(items, similar, bound)
    by_id = {one.id: one for one in items}
    taken = [by_id[id] for id in chosen.order]
    assert sum(one.tokens for one in taken) <= bound.tokens
    assert len(taken) <= bound.most
    assert taken == in_order(taken)
    assert set(chosen.order) | set(chosen.left) == set(by_id)
    assert not set(chosen.order) & set(chosen.left)
    for reason, twin in chosen.left.values():
        assert (reason == "redundant") == (twin is not None)
        assert twin is None or twin in chosen.order
    assert choose(data.draw(st.permutations(items)), similar, bound) == chosen


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_it_is_worth_nearly_what_the_best_of_all_combinations_is(data: st.DataObject) -> None:
    items = data.draw(fields(10))
    similar = data.draw(likenesses(items))
    bound = terms(data.draw(st.integers(1, 400)), most=data.draw(st.integers(1, 12)))
    by_id = {one.id: one for one in items}
    taken = [by_id[id] for id in choose(items, similar, bound).order]
    assert worth(taken, similar, bound, in_order(items)) >= 0.95 * best_worth(items, similar, bound) - 1e-9


@settings(max_examples=200, deadline=None)
@given(items=fields(12, pins=False), budget=st.integers(1, 600))
def test_also_where_not_every_combination_is_tried(items: list[Item], budget: int) -> None:
    """The way of large sets, on small ones: where nothing is said twice it is the knapsack's own optimum."""
    bound = terms(budget)
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(module, "EXACT_MAX", 0)
        taken = choose(items, {}, bound)
    by_id = {one.id: one for one in items}
    got = sum(by_id[id].score for id in taken.order)
    assert got >= 0.95 * best_knapsack(items, budget) - 1e-9


def best_knapsack(items: Sequence[Item], budget: int) -> float:
    """The exact optimum of the 0-1 knapsack (dynamic programming over the budget)."""
    best = [0.0] * (budget + 1)
    for one in items:
        for room in range(budget, one.tokens - 1, -1):
            best[room] = max(best[room], best[room - one.tokens] + one.score)
    return best[budget]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_large_sets_come_close_where_texts_repeat_each_other(data: st.DataObject) -> None:
    items = data.draw(fields(9, pins=False))
    similar = data.draw(likenesses(items))
    bound = terms(data.draw(st.integers(1, 400)))
    with pytest.MonkeyPatch().context() as patched:
        patched.setattr(module, "EXACT_MAX", 0)
        chosen = choose(items, similar, bound)
    by_id = {one.id: one for one in items}
    got = worth([by_id[id] for id in chosen.order], similar, bound, in_order(items))
    assert got >= 0.75 * best_worth(items, similar, bound) - 1e-9  # no rule of this kind is sure of more


def test_the_pinned_come_first_even_where_others_are_worth_more() -> None:
    items = [item(1, 0.9, 50), item(2, 0.1, 60, pinned=True), item(3, 0.2, 200, pinned=True), item(4, 0.8, 50)]
    chosen = choose(items, {}, terms(120))
    assert numbers(chosen) == [2, 1]
    assert chosen.left[UUID(int=3)] == ("budget", None)
    assert chosen.left[UUID(int=4)] == ("budget", None)


def test_many_cheap_ones_do_not_crowd_out_the_good_where_the_choice_is_sharp() -> None:
    items = [item(0, 1.0, 100), *(item(n, 0.3, 25) for n in range(1, 9))]
    assert 0 not in numbers(choose(items, {}, terms(100, sharpness=1.0)))
    assert numbers(choose(items, {}, terms(100, sharpness=2.0))) == [0]


def test_of_two_that_say_the_same_the_better_is_told_and_the_other_named_redundant() -> None:
    items = [item(1, 0.9, 10), item(2, 0.8, 10), item(3, 0.7, 10)]
    chosen = choose(items, {(0, 1): 0.95}, terms(100))
    assert numbers(chosen) == [1, 3]
    assert chosen.left[UUID(int=2)] == ("redundant", UUID(int=1))


def test_what_says_something_new_goes_before_what_half_repeats() -> None:
    items = [item(1, 0.9, 10), item(2, 0.8, 10), item(3, 0.5, 10)]
    assert numbers(choose(items, {(0, 1): 0.7}, terms(20))) == [1, 3]


def test_large_budgets_and_many_candidates_are_chosen_from_too() -> None:
    items = [item(n, (n % 97) / 97, 300 + 37 * (n % 50)) for n in range(400)]
    chosen = choose(items, {}, terms(200_000, most=200))
    assert len(chosen.order) > 60
    assert sum(i.tokens for i in items if i.id in set(chosen.order)) <= 200_000
