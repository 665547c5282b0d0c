"""What a candidate is worth follows from its parts alone, and why one cannot be chosen is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from memcube_common.search.domain import Blend, Ranked
from memcube_scheduling.domain.sameness import WORDS_MAX, similarities, words_of
from memcube_scheduling.domain.scores import Decay, Fit, Known, Need, Weights, fits_of, weigh

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SEED = Weights(
    tags=0.4, relevance=0.0, recency=0.2, frequency=0.2, priority=0.1, task=0.1, feedback=0.25, untrusted=0.5
)
NEED = Need(now=NOW, tags=frozenset({"a", "b"}))
PLAIN = Known(id=UUID(int=1), version=1, label="x", tags=["a"], priority="WARM", created_at=NOW - timedelta(days=30))


def test_the_score_is_the_sum_the_seed_documents() -> None:
    worth = weigh(replace(PLAIN, usage_hits=100, linked=True), NEED, SEED)
    assert worth.score == pytest.approx(0.4 * 0.5 + 0.2 * 0.5 + 0.2 * 1.0 + 0.1 * 0.5 + 0.1 * 1.0)
    assert worth.barred is None
    assert (worth.parts.tags, worth.parts.recency, worth.parts.frequency) == (0.5, 0.5, 1.0)


def test_feedback_moves_a_score_within_its_bounds_and_distrust_halves_it() -> None:
    score = weigh(PLAIN, NEED, SEED).score
    assert weigh(replace(PLAIN, feedback=1.0), NEED, SEED).score == pytest.approx(1.25 * score)
    assert weigh(replace(PLAIN, feedback=-7.0), NEED, SEED).score == pytest.approx(0.75 * score)
    assert weigh(replace(PLAIN, trust="untrusted"), NEED, SEED).score == pytest.approx(score / 2)


def test_who_prefers_hot_counts_priority_twice() -> None:
    hot = replace(PLAIN, priority="HOT")
    more = weigh(hot, replace(NEED, prefer_hot=True), SEED).score - weigh(hot, NEED, SEED).score
    assert more == pytest.approx(0.1)


def test_recency_is_of_the_last_use_and_by_the_half_life_of_governance() -> None:
    used = replace(PLAIN, last_used=NOW - timedelta(days=60), created_at=NOW - timedelta(days=300))
    assert weigh(used, NEED, SEED).parts.recency == 0.25
    assert weigh(replace(used, decay=Decay(60.0, 0.0)), NEED, SEED).parts.recency == 0.5
    assert weigh(replace(PLAIN, created_at=NOW + timedelta(days=1)), NEED, SEED).parts.recency == 1.0


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (replace(PLAIN, kept_from=True, trust="quarantined"), "governance"),
        (replace(PLAIN, trust="quarantined", pinned=True), "quarantined"),
        (replace(PLAIN, lifecycle="STALE"), "stale"),
        (replace(PLAIN, lifecycle="STALE", pinned=True), None),
        (replace(PLAIN, expires_at=NOW, pinned=True), "stale"),
        (replace(PLAIN, decay=Decay(1.0, 0.1)), "stale"),
        (replace(PLAIN, decay=Decay(1.0, 0.0)), None),
        (replace(PLAIN, priority="COLD", tags=(), created_at=NOW - timedelta(days=36500)), "irrelevant"),
    ],
)
def test_why_one_cannot_be_chosen(known: Known, reason: str | None) -> None:
    assert weigh(known, NEED, SEED).barred == reason


def test_what_has_no_word_of_the_text_and_is_far_from_it_is_irrelevant() -> None:
    need = replace(NEED, has_text=True, tags=frozenset[str]())
    far = Fit(0.1, 0.05)
    assert weigh(PLAIN, need, SEED, far).barred == "irrelevant"
    assert weigh(PLAIN, need, SEED, Fit(0.1, 0.2)).barred is None
    assert weigh(PLAIN, need, SEED, Fit(0.1, 0.05, True)).barred is None
    assert weigh(replace(PLAIN, linked=True), need, SEED, far).barred is None
    assert weigh(PLAIN, replace(need, tags=frozenset({"a"})), SEED, far).barred is None


@pytest.mark.parametrize("blend", Blend)
def test_relevance_keeps_the_order_and_the_best_has_one(blend: Blend) -> None:
    ranked = [Ranked(UUID(int=n), score, score, score) for n, score in enumerate((0.99, 0.7, 0.4, 0.0))]
    fits = [fit.relevance for fit in fits_of(ranked, blend).values()]
    assert fits[0] == 1.0
    assert fits == sorted(fits, reverse=True)
    assert all(0 <= fit <= 1 for fit in fits)
    assert len(set(fits)) == 4
    assert fits_of([], blend) == {}


def test_texts_are_alike_by_what_few_of_them_say() -> None:
    alike = similarities([["rota", "ann", "monday"], ["rota", "ann", "monday"], ["rota", "bob", "friday"], []])
    assert alike[0, 1] == 1.0
    assert (0, 2) not in alike
    assert similarities([]) == similarities([["a"], ["b"]]) == {}


def test_texts_without_words_resemble_nothing_and_long_ones_are_compared_by_so_many_words() -> None:
    """Pictures and punctuation have no words: they are not the same for that."""
    assert words_of("") == []
    assert similarities([words_of(""), words_of(""), words_of("rota"), words_of("rota")]) == {(2, 3): 1.0}
    assert words_of("ann\nrota") == ["ann", "rota"]
    assert len(words_of("\n".join(f"w{n}" for n in range(9_000)))) == WORDS_MAX
