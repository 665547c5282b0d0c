"""What outcomes make of a memory: bounded, shrunk, harm before help, and no voice louder than the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcube_common.contracts.scheduling import Outcome
from memcube_common.feedback.domain import OUTCOMES, Profile, Said, Told, Used, Voice, settle, value_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
COUNTS = st.integers(min_value=0, max_value=10**6)
VOICES = st.builds(Voice, used=COUNTS, ignored=COUNTS, helpful=COUNTS, harmful=COUNTS)


def one(name: str) -> UUID:
    return uuid5(UUID(int=0), name)


@settings(max_examples=50)
@given(st.lists(VOICES, max_size=20))
def test_it_is_bounded_whatever_was_said(voices: list[Voice]) -> None:
    assert -1 <= value_of(voices) <= 1


@settings(max_examples=50)
@given(VOICES)
def test_one_principal_alone_moves_it_by_two_thirds_at_most(voice: Voice) -> None:
    assert -2 / 3 - 1e-9 <= value_of([voice]) <= 1 / 3 + 1e-9


def test_nothing_said_is_nothing() -> None:
    assert value_of([]) == 0
    assert value_of([Voice()]) == 0


def test_harm_weighs_more_than_help() -> None:
    assert value_of([Voice(helpful=3, harmful=3)]) < 0
    assert -value_of([Voice(harmful=2)]) > value_of([Voice(helpful=2)])


def test_outcomes_stand_in_the_order_of_what_they_say() -> None:
    values = [value_of([Voice(**{outcome: 2})]) for outcome in ("helpful", "used", "ignored", "harmful")]
    assert values == sorted(values, reverse=True)
    assert values[1] > 0 > values[2]


@settings(max_examples=50)
@given(st.lists(VOICES, max_size=5))
def test_one_more_who_was_helped_never_lowers_it_and_one_harmed_never_raises_it(voices: list[Voice]) -> None:
    before = value_of(voices)
    assert value_of([*voices, Voice(helpful=1)]) >= before - 1e-12
    assert value_of([*voices, Voice(harmful=1)]) <= before + 1e-12


def test_saying_it_a_thousand_times_says_no_more_than_five_times() -> None:
    assert value_of([Voice(helpful=1000)]) == pytest.approx(value_of([Voice(helpful=5)]))
    assert value_of([Voice(harmful=1000)]) == pytest.approx(value_of([Voice(harmful=5)]))


def test_more_who_say_the_same_are_believed_more() -> None:
    values = [value_of([Voice(helpful=1)] * many) for many in range(1, 30)]
    assert all(low < high for low, high in pairwise(values))


def test_a_batch_is_added_up_by_memory_and_agent() -> None:
    a, b = one("a"), one("b")
    later = NOW + timedelta(minutes=1)
    batch = settle(
        [
            Told("mia", "coder", NOW, (a, b)),
            Told("mia", "coder", later, (a, a), times=3),
            Told("bob", "coder", NOW, (a,)),
        ],
        [],
    )
    assert batch.tallies[(a, Profile("mia", "coder"))].scheduled == 4
    assert batch.tallies[(a, Profile("mia", "coder"))].last_at == later
    assert batch.tallies[(a, Profile("bob", "coder"))].scheduled == 1
    assert batch.used == {a: Used(5, later), b: Used(1, NOW)}
    assert batch.judged == frozenset()


@settings(max_examples=50)
@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=8))
def test_only_the_last_word_counts(words: list[Outcome]) -> None:
    befores: list[Outcome | None] = [None, *words[:-1]]
    said = [Said(one("a"), "mia", "coder", NOW, was, outcome) for was, outcome in zip(befores, words, strict=True)]
    tally = settle([], said).tallies[(one("a"), Profile("mia", "coder"))]
    assert {outcome: getattr(tally, outcome) for outcome in OUTCOMES} == {
        outcome: int(outcome == words[-1]) for outcome in OUTCOMES
    }
