"""The order: every part counts as it should, can be done without, and the same candidates always come out alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgvector import HalfVector

from memcube_common.memories.traits import ASKS, OWN_LABEL, TELLS_NUMBER, TELLS_TIME, UNTRUSTED
from memcube_common.search.domain import Question, QuestionVector, order
from memcube_common.search.scoring import Beside, Candidate, Terms

NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
VECTOR = QuestionVector(1, 2, HalfVector([1.0, 0.0]))
TERMS = Terms(weights=(1.0, 3.0), counts=(100, 2))


def candidate(number: int, **fields: Any) -> Candidate:
    """One that is plain in every respect that is not given."""
    plain: dict[str, Any] = {
        "mask": 0b11, "tokens": 20, "traits": 0, "labelled": False, "at": NOW - timedelta(days=90), "similarity": 0.5,
    }  # fmt: skip
    return Candidate(memory_id=UUID(int=number), **{**plain, **fields})


def first(better: Candidate, worse: Candidate, **asked: Any) -> bool:
    """Whether `better` comes first."""
    given_too: dict[str, Any] = {"text": "a question", "limit": 10, "vector": VECTOR, **asked}
    question = Question(**given_too)
    return order([worse, better], TERMS, question, NOW)[0].memory_id == better.memory_id


BETTER: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "words": ({}, {"mask": 0b01}, {}),
    "meaning": ({"similarity": 0.6}, {}, {}),
    "length": ({"tokens": 10}, {}, {}),
    "label": ({"labelled": True, "traits": OWN_LABEL}, {"traits": OWN_LABEL}, {}),
    "neighbours": ({"mask": 0b01, "before": Beside(0b10, 0.2)}, {"mask": 0b01, "before": Beside(0b01, 0.2)}, {}),
    "times": ({"at": NOW - timedelta(days=1)}, {"at": NOW - timedelta(days=40)}, {"text": "what was yesterday?"}),
    "shape": ({}, {"traits": ASKS}, {}),
    "recency": ({"at": NOW}, {}, {}),
    "trust": ({}, {"traits": UNTRUSTED}, {}),
}


@pytest.mark.parametrize("stage", BETTER)
def test_a_stage_decides_between_two_alike_and_can_be_done_without(stage: str) -> None:
    better, worse, asked = BETTER[stage]
    # Of two that are equal the lower number comes first, so that only the stage can put the higher one there.
    assert first(candidate(2, **better), candidate(1, **worse), **asked)
    alike = {**asked, "without": frozenset({stage, "recency"})}
    assert first(candidate(1, **better), candidate(2, **worse), **alike)
    assert first(candidate(1, **worse), candidate(2, **better), **alike)


@pytest.mark.parametrize(
    ("text", "trait"), [("When did it happen?", TELLS_TIME), ("How many were there?", TELLS_NUMBER)]
)
def test_what_a_question_wants_to_know_is_preferred(text: str, trait: int) -> None:
    told = {"traits": trait}
    plain = order([candidate(1, **told)], TERMS, Question("what", 10, VECTOR), NOW)[0].parts
    asked = order([candidate(1, **told)], TERMS, Question(text, 10, VECTOR), NOW)[0].parts
    assert plain is not None
    assert asked is not None
    assert asked["shape"] > plain["shape"]


def test_the_rarer_of_two_terms_counts_for_more() -> None:
    assert first(candidate(2, mask=0b10), candidate(1, mask=0b01))


def test_a_label_that_only_begins_the_text_counts_for_nothing() -> None:
    assert first(candidate(1), candidate(2, labelled=True))


def test_a_neighbour_that_is_near_in_meaning_lends_and_one_that_is_far_takes() -> None:
    assert first(candidate(2, behind=Beside(0, 0.9)), candidate(1))
    assert first(candidate(1), candidate(2, behind=Beside(0, 0.0)))


def test_a_term_nobody_carries_makes_no_difference() -> None:
    with_it = Terms(weights=(1.0, 3.0, 9.0), counts=(100, 2, 0))
    question = Question("a question", 10, VECTOR)
    one = [candidate(1, mask=0b01)]
    assert order(one, with_it, question, NOW)[0].score == order(one, TERMS, question, NOW)[0].score


def test_without_a_vector_only_words_and_what_goes_with_them_count() -> None:
    question = Question("a question", 10, None)
    near, far = candidate(1, similarity=0.1), candidate(2, similarity=0.9)
    found = order([far, near], TERMS, question, NOW)
    assert [one.memory_id.int for one in found] == [1, 2]
    assert "meaning" not in (found[0].parts or {})


def test_by_meaning_alone_the_score_is_the_similarity() -> None:
    question = Question(None, 10, VECTOR)
    found = order([candidate(1, similarity=0.2), candidate(2, similarity=0.9, mask=0)], Terms(), question, NOW)
    assert [one.score for one in found] == [0.9, 0.2]


beside = st.none() | st.builds(Beside, st.integers(0, 3), st.none() | st.floats(-1, 1))
candidates = st.lists(
    st.builds(
        Candidate,
        st.uuids(),
        st.integers(0, 3),
        st.integers(0, 70_000),
        st.integers(0, 31),
        st.booleans(),
        st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
        st.none() | st.floats(-1, 1),
        beside,
        beside,
    ),
    unique_by=lambda one: one.memory_id,
    max_size=30,
)


@given(candidates, st.sampled_from(["When was it?", "x", None]), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_the_candidates(
    some: list[Candidate], text: str | None, has_vector: bool, random: Random
) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    question = Question(text, 10, VECTOR if has_vector or text is None else None)

    first, second = order(some, TERMS, question, NOW), order(shuffled, TERMS, question, NOW)

    assert [r.memory_id for r in first] == [r.memory_id for r in second]
    assert {r.memory_id for r in first} == {c.memory_id for c in some}
    assert all(-1 <= r.score <= 1 for r in first)
