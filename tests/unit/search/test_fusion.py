"""Fusion: normalised scores are added, what is missing counts least, ties are broken, the order never changes."""

from __future__ import annotations

import math
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.search.domain import Blend, Candidate, fuse, rerank_size, standard_scores

A, B, C, D = (UUID(int=number) for number in (1, 2, 3, 4))

scores = st.floats(-1e6, 1e6) | st.none()
candidates = st.lists(
    st.builds(Candidate, st.uuids(), st.floats(0, 100) | st.none(), st.floats(-1, 1) | st.none()),
    unique_by=lambda candidate: candidate.memory_id,
    max_size=40,
)


def test_a_memory_found_both_ways_beats_one_found_better_by_one() -> None:
    found = fuse(
        [Candidate(A, 1.0, None), Candidate(B, 0.9, 0.8), Candidate(C, None, 0.9), Candidate(D, 0.1, 0.1)], Blend.HYBRID
    )

    assert found[0].memory_id == B
    assert found[-1].memory_id == D


def test_how_much_better_counts_not_only_which_is_better() -> None:
    words = [Candidate(A, 10.0, 0.50), Candidate(B, 1.0, 0.52), Candidate(C, 0.9, 0.48)]

    assert fuse(words, Blend.HYBRID)[0].memory_id == A


def test_equal_scores_are_ordered_by_id() -> None:
    found = fuse([Candidate(C, 1.0, 0.5), Candidate(A, 1.0, 0.5), Candidate(B, 1.0, 0.5)], Blend.HYBRID)

    assert [ranked.memory_id for ranked in found] == [A, B, C]


def test_one_sided_searches_keep_that_side_s_own_score() -> None:
    both = [Candidate(A, 0.1, 0.9), Candidate(B, 0.7, 0.2)]

    assert [ranked.score for ranked in fuse(both, Blend.KEYWORD)] == [0.7, 0.1]
    assert [ranked.score for ranked in fuse(both, Blend.SEMANTIC)] == [0.9, 0.2]


def test_what_is_missing_counts_as_the_lowest_present() -> None:
    assert standard_scores([3.0, 1.0, None]) == standard_scores([3.0, 1.0, 1.0])


@pytest.mark.parametrize("values", [[], [None], [None, None], [0.3], [0.3, 0.3], [math.nan, None]])
def test_a_side_that_tells_nothing_apart_has_no_say(values: list[float | None]) -> None:
    assert standard_scores(values) == [0.0] * len(values)


@given(st.lists(scores, min_size=2, max_size=50))
def test_standard_scores_are_centred_and_keep_the_order(values: list[float | None]) -> None:
    made = standard_scores(values)

    assert all(map(math.isfinite, made))
    assert abs(math.fsum(made)) < 1e-3
    present = [(value, score) for value, score in zip(values, made, strict=True) if value is not None]
    for (low, low_score), (high, high_score) in zip(sorted(present), sorted(present)[1:], strict=False):
        assert low > high or low_score <= high_score + 1e-9


@given(candidates, st.sampled_from(Blend), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_the_candidates(
    given_candidates: list[Candidate], blend: Blend, random: Random
) -> None:
    shuffled = list(given_candidates)
    random.shuffle(shuffled)

    first, second = fuse(given_candidates, blend), fuse(shuffled, blend)

    assert [r.memory_id for r in first] == [r.memory_id for r in second]
    assert {r.memory_id for r in first} == {c.memory_id for c in given_candidates}


def test_more_is_compared_exactly_where_codes_are_short() -> None:
    assert rerank_size(384, 100) == 400
    assert rerank_size(1536, 100) == 200
    assert rerank_size(384, 400) == 800
