"""What a candidate is worth, part by part, and whether it may be chosen at all: the same every time."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, assert_never
from uuid import UUID

from memcube_common.contracts.fields import Lifecycle, Priority, Trust
from memcube_common.contracts.scheduling import Kind, Reason
from memcube_common.schedules.domain import Parts
from memcube_common.search.domain import Blend, Ranked

DAY: Final = 86_400.0
OFTEN: Final = 100
"""How often a memory was scheduled for its frequency to count in full."""
PARTS_DIGITS: Final = 4
SCORE_DIGITS: Final = 6

_LOG_ODDS: Final = 1.0
_COSINE: Final = 0.15
_LOG_OFTEN: Final = math.log1p(OFTEN)
_SURE: Final = 1e-6
_PRIORITY: Final[dict[Priority, float]] = {"HOT": 1.0, "WARM": 0.5, "COLD": 0.0}


@dataclass(frozen=True, slots=True)
class Weights:
    """What each part counts; with a text and without one there are two of them.

    feedback: by which share of itself a score is moved at most. untrusted: the factor of what is not trusted.
    """

    tags: float
    relevance: float
    recency: float
    frequency: float
    priority: float
    task: float
    feedback: float
    untrusted: float


@dataclass(frozen=True, slots=True)
class Need:
    """What the candidates are weighed against. half_life: days after which recency is half, where nothing else is said.

    similarity_floor: least cosine similarity of what has no word of the text, not to be irrelevant to it.
    """

    now: datetime
    tags: frozenset[str] = frozenset()
    has_text: bool = False
    prefer_hot: bool = False
    half_life: float = 30.0
    similarity_floor: float = 0.1


@dataclass(frozen=True, slots=True)
class Decay:
    """How a memory's weight falls with age: half after each `half_life` days; below `floor` it is stale."""

    half_life: float | None
    floor: float


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a candidate. kept_from: the agent it is weighed for may not read it, whoever asks for them.

    feedback: −1 … 1.
    """

    id: UUID
    version: int
    label: str
    tags: Collection[str]
    priority: Priority
    created_at: datetime
    lifecycle: Lifecycle = "ACTIVE"
    trust: Trust = "trusted"
    kind: Kind = "memory"
    usage_hits: int = 0
    last_used: datetime | None = None
    expires_at: datetime | None = None
    pinned: bool = False
    decay: Decay | None = None
    linked: bool = False
    kept_from: bool = False
    feedback: float = 0.0


class Fit(NamedTuple):
    """How well a candidate fits the text: 0 … 1; how near it is in meaning, and whether it has a word of it."""

    relevance: float = 0.0
    similarity: float | None = None
    matches: bool = False


NO_FIT: Final = Fit()


class Worth(NamedTuple):
    """A candidate's score and what it is made of; `barred` says why it cannot be chosen, if it cannot."""

    score: float
    parts: Parts
    barred: Reason | None


def fits_of(ranked: Sequence[Ranked], blend: Blend) -> dict[UUID, Fit]:
    """How well each fits the text, 0 … 1 by its distance from the best, which has 1.

    A search's score is a sum of parts put through the logistic function: what counts is the difference of its log-odds,
    by which it falls by e. By meaning alone it is a cosine, which falls by e in 0.15.
    """
    if not ranked:
        return {}
    match blend:
        case Blend.HYBRID | Blend.KEYWORD:
            odds = [_log_odds(one.score) for one in ranked]
            best = max(odds)
            fits = [math.exp((value - best) / _LOG_ODDS) for value in odds]
        case Blend.SEMANTIC:
            best = max(one.score for one in ranked)
            fits = [math.exp((one.score - best) / _COSINE) for one in ranked]
        case _:
            assert_never(blend)
    return {
        one.memory_id: Fit(round(fit, PARTS_DIGITS), one.similarity, one.text_score is not None and one.text_score > 0)
        for one, fit in zip(ranked, fits, strict=True)
    }


def weigh(known: Known, need: Need, weights: Weights, fit: Fit = NO_FIT) -> Worth:
    """What a candidate is worth to who needs it."""
    newest = known.created_at if known.last_used is None else max(known.created_at, known.last_used)
    age = max(0.0, (need.now - newest).total_seconds() / DAY)
    half_life = known.decay.half_life if known.decay and known.decay.half_life else need.half_life
    recency = 0.5 ** min(age / half_life, 1_000.0)
    carried = len(need.tags.intersection(known.tags)) / len(need.tags) if need.tags else 0.0
    parts = Parts(
        tags=round(carried, PARTS_DIGITS),
        relevance=round(fit.relevance, PARTS_DIGITS),
        recency=round(recency, PARTS_DIGITS),
        frequency=round(min(1.0, math.log1p(known.usage_hits) / _LOG_OFTEN), PARTS_DIGITS),
        priority=_PRIORITY[known.priority],
        task=1.0 if known.linked else 0.0,
        feedback=round(min(1.0, max(-1.0, known.feedback)), PARTS_DIGITS),
        trust=1.0 if known.trust == "trusted" else weights.untrusted,
    )
    score = score_of(parts, weights, prefer_hot=need.prefer_hot)
    return Worth(score, parts, _barred(known, fit, need, score, recency))


def score_of(parts: Parts, weights: Weights, *, prefer_hot: bool) -> float:
    """Σ weight × part, moved by feedback within its bounds, times the trust factor."""
    hot = 2.0 if prefer_hot else 1.0
    total = (
        weights.tags * parts.tags
        + weights.relevance * parts.relevance
        + weights.recency * parts.recency
        + weights.frequency * parts.frequency
        + weights.priority * parts.priority * hot
        + weights.task * parts.task
    )
    return round(total * (1.0 + weights.feedback * parts.feedback) * parts.trust, SCORE_DIGITS)


def _barred(known: Known, fit: Fit, need: Need, score: float, recency: float) -> Reason | None:
    """Why a candidate cannot be chosen, whatever its score; a pin keeps it from growing stale or irrelevant."""
    if known.kept_from:
        return "governance"
    if known.trust == "quarantined":
        return "quarantined"
    if known.expires_at is not None and known.expires_at <= need.now:
        return "stale"
    if known.pinned:
        return None
    if known.lifecycle == "STALE" or (known.decay is not None and recency < known.decay.floor):
        return "stale"
    asked_for = known.linked or not need.tags.isdisjoint(known.tags)
    near = fit.matches or (fit.similarity is not None and fit.similarity >= need.similarity_floor)
    if score <= 0 or (need.has_text and not asked_for and not near):
        return "irrelevant"
    return None


def _log_odds(score: float) -> float:
    sure = min(1 - _SURE, max(_SURE, score))
    return math.log(sure / (1 - sure))
