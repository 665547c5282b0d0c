"""How what words and meaning brought becomes one order: a weighted sum of named parts, pure, the same every time.

The weights were tuned on three suites of labelled conversations and hold when each conversation is left out in turn
(docs/performance.md has the table, ADR 0022 the trials). They are few and round on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from memcube_common.memories.traits import ASKS, OWN_LABEL, TELLS_NUMBER, TELLS_TIME, UNTRUSTED
from memcube_common.search.signals import Signals

MEANING: Final = 5.0
WORDS: Final = 4.4
LENGTH: Final = -0.62
LABEL: Final = 3.3
WORDS_BEFORE: Final = 2.4
WORDS_BEHIND: Final = 2.0
MEANING_BESIDE: Final = 2.4
MEANING_USUAL: Final = 0.2
"""The similarity that counts for nothing: of a neighbour that has no vector."""
TIMELY: Final = 3.8
ASKING: Final = -0.4
TELLING_TIME: Final = 0.45
TIME_WANTED: Final = 0.8
NUMBER_WANTED: Final = 0.75
RECENT: Final = 0.1
RECENT_HALF_LIFE_DAYS: Final = 30.0
NOT_TRUSTED: Final = -1.5
MIDDLE: Final = 2.0
SPREAD: Final = 2.0
DIGITS: Final = 9
"""Behind these, the order in which numbers were added shows."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The question's terms: what each weighs, and in how many memories it stands."""

    weights: Sequence[float] = ()
    counts: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """Who stands next to a candidate: the terms it carries and how near it is in meaning."""

    mask: int
    similarity: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A memory that words or meaning brought.

    mask: the question's terms it carries, the first is bit 0. tokens: how long it is. similarity: cosine, −1 … 1.
    """

    memory_id: UUID
    mask: int
    tokens: int
    traits: int
    labelled: bool
    at: datetime
    similarity: float | None
    before: Beside | None = None
    behind: Beside | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate's score, its parts, and how much of the question its words cover (0 … 1; None without words)."""

    score: float
    parts: dict[str, float]
    coverage: float | None


class Scorer:
    """Scores the candidates of one question."""

    def __init__(
        self, terms: Terms, candidates: Sequence[Candidate], signals: Signals, without: frozenset[str] = frozenset()
    ) -> None:
        seen = 0
        for one in candidates:
            seen |= one.mask
        # A term that nobody carries says nothing about anybody.
        self._weights = [
            weight if terms.counts[n] > 0 or seen >> n & 1 else 0.0 for n, weight in enumerate(terms.weights)
        ]
        self._whole = math.fsum(self._weights)
        self._covered: dict[int, float] = {}
        self._signals = signals
        self._without = without

    def score(self, one: Candidate) -> Scored:
        """The sum of a candidate's parts as a number between 0 and 1, by the logistic function, and the parts."""
        coverage = self._coverage(one.mask)
        traits = one.traits
        parts: dict[str, float] = {
            "words": WORDS * coverage,
            "meaning": MEANING * (one.similarity or 0.0),
            "length": LENGTH * math.log1p(one.tokens),
            "label": LABEL if one.labelled and traits & OWN_LABEL else 0.0,
            "neighbours": self._beside(one, coverage),
            "times": TIMELY if self._signals.is_timely(one.at) else 0.0,
            "shape": self._shape(traits),
            "recency": RECENT * 0.5 ** (self._age_days(one.at) / RECENT_HALF_LIFE_DAYS),
            "trust": NOT_TRUSTED if traits & UNTRUSTED else 0.0,
        }
        for stage in self._without:
            parts.pop(stage, None)
        total = math.fsum(parts.values())
        score = round(1 / (1 + math.exp((MIDDLE - total) / SPREAD)), DIGITS)
        return Scored(score, parts, coverage if self._whole else None)

    def _coverage(self, mask: int) -> float:
        """How much of the question's information these terms carry: Σ idf of the terms met / Σ idf of all, 0 … 1."""
        known = self._covered.get(mask)
        if known is None:
            met = math.fsum(weight for n, weight in enumerate(self._weights) if mask >> n & 1)
            known = self._covered[mask] = met / self._whole if self._whole else 0.0
        return known

    def _beside(self, one: Candidate, coverage: float) -> float:
        """What neighbours add: terms they carry and it does not, and their being near in meaning."""
        gained = 0.0
        if one.before is not None:
            gained += WORDS_BEFORE * (self._coverage(one.mask | one.before.mask) - coverage)
        if one.behind is not None:
            gained += WORDS_BEHIND * (self._coverage(one.mask | one.behind.mask) - coverage)
        nearest = max(
            (b.similarity for b in (one.before, one.behind) if b is not None and b.similarity is not None),
            default=MEANING_USUAL,
        )
        return gained + (0.0 if "meaning" in self._without else MEANING_BESIDE * (nearest - MEANING_USUAL))

    def _shape(self, traits: int) -> float:
        asked = self._signals
        return math.fsum(
            weight
            for weight, counts in (
                (ASKING, traits & ASKS),
                (TELLING_TIME, traits & TELLS_TIME),
                (TIME_WANTED, asked.wants_time and traits & TELLS_TIME),
                (NUMBER_WANTED, asked.wants_number and traits & TELLS_NUMBER),
            )
            if counts
        )

    def _age_days(self, made_at: datetime) -> float:
        return max(0.0, (self._signals.now - made_at).total_seconds() / 86_400)
