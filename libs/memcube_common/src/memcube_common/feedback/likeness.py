"""Recommendations: what agents with similar use found helpful; no I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from memcube_common.feedback.domain import Profile

AGENTS_MAX: Final = 500
"""Agents compared in one run: those that were active last."""

USES_MAX: Final = 200
"""Memories of one agent that are looked at: those that it was given last."""

MEMORIES_MAX: Final = 4_096
"""Memories by which agents are compared in one run: those that most of them share."""

NEIGHBOURS: Final = 20
RECOMMENDED_MAX: Final = 50
OVERLAP: Final = 3
"""Memories in common from which on a likeness counts in full."""

LATELY: Final = timedelta(days=7)
BECAUSE_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Use:
    """How often a memory was given to an agent, and what it made of it."""

    profile: Profile
    memory_id: UUID
    last_at: datetime
    scheduled: int = 0
    used: int = 0
    helpful: int = 0
    harmful: int = 0


@dataclass(frozen=True, slots=True)
class Recommended:
    """A memory for an agent: 0 … 1, and the names of the agents alike that found it helpful, the most alike first."""

    memory_id: UUID
    score: float
    because: tuple[str, ...]


def recommend(uses: Sequence[Use], now: datetime) -> dict[Profile, list[Recommended]]:
    """For each agent the memories that agents alike found helpful, best first: at most RECOMMENDED_MAX.

    Agents are alike by the cosine of what they used and found helpful (user-based neighbourhoods: Breese, Heckerman &
    Kadie, UAI 1998), counted less where they have little in common (significance weighting: Herlocker et al., SIGIR
    1999). A memory's score is the likeness-weighted mean of how helpful the neighbours found it: 1 helpful, ½ used, −1
    harmful. What the agent was given in the last LATELY, and what it called harmful, is not recommended to it. The work
    is bounded by AGENTS_MAX, USES_MAX and MEMORIES_MAX. The same uses give the same answer in any order.
    """
    by_profile = _last_active(uses)
    profiles = list(by_profile)
    if len(profiles) < 2:
        return {}
    likeness = _likeness(profiles, by_profile)
    return {
        profile: best
        for place, profile in enumerate(profiles)
        if (best := _for_one(place, profiles, by_profile, likeness, now))
    }


def _last_active(uses: Sequence[Use]) -> dict[Profile, dict[UUID, Use]]:
    """The uses of the agents that were active last, by agent and memory, in an order that is always the same."""
    by_profile: dict[Profile, dict[UUID, Use]] = {}
    for use in sorted(uses, key=lambda use: (use.profile, use.memory_id)):
        by_profile.setdefault(use.profile, {})[use.memory_id] = use
    latest = {profile: max(use.last_at for use in held.values()) for profile, held in by_profile.items()}
    kept = sorted(by_profile, key=lambda profile: (-latest[profile].timestamp(), profile))[:AGENTS_MAX]
    return {profile: _newest(by_profile[profile]) for profile in sorted(kept)}


def _newest(held: Mapping[UUID, Use]) -> dict[UUID, Use]:
    newest = sorted(held.values(), key=lambda use: (-use.last_at.timestamp(), use.memory_id))[:USES_MAX]
    return {use.memory_id: use for use in sorted(newest, key=lambda use: use.memory_id)}


def _weight(use: Use) -> float:
    """How much a memory says of what an agent does: being given it a little, using it more, being helped by it most."""
    return 0.1 * math.log2(1 + use.scheduled) + math.log2(1 + use.used) + 2.0 * math.log2(1 + use.helpful)


def _likeness(profiles: Sequence[Profile], by_profile: Mapping[Profile, Mapping[UUID, Use]]) -> npt.NDArray[np.float32]:
    """How alike each two agents are, 0 … 1; nobody is like itself."""
    holders: dict[UUID, int] = {}
    for held in by_profile.values():
        for memory in held:
            holders[memory] = holders.get(memory, 0) + 1
    shared = sorted((m for m, many in holders.items() if many > 1), key=lambda m: (-holders[m], m))[:MEMORIES_MAX]
    column = {memory: place for place, memory in enumerate(shared)}
    weights = np.zeros((len(profiles), max(1, len(shared))), dtype=np.float32)
    norms = np.zeros(len(profiles), dtype=np.float32)
    for row, profile in enumerate(profiles):
        for memory, use in by_profile[profile].items():
            weight = _weight(use)
            norms[row] += weight * weight
            if (place := column.get(memory)) is not None:
                weights[row, place] = weight
    lengths = np.sqrt(norms)
    lengths[lengths == 0] = 1.0
    present = (weights > 0).astype(np.float32)
    cosine = (weights @ weights.T) / np.outer(lengths, lengths)
    likeness = cosine * np.minimum(present @ present.T / OVERLAP, 1.0)
    np.fill_diagonal(likeness, 0.0)
    return likeness.astype(np.float32)


def _for_one(
    place: int,
    profiles: Sequence[Profile],
    by_profile: Mapping[Profile, Mapping[UUID, Use]],
    likeness: npt.NDArray[np.float32],
    now: datetime,
) -> list[Recommended]:
    row = likeness[place]
    order = sorted(np.flatnonzero(row > 0).tolist(), key=lambda other: (-round(float(row[other]), 5), other))
    near = order[:NEIGHBOURS]
    total = sum(float(row[other]) for other in near)
    if not total:
        return []
    own = by_profile[profiles[place]]
    scores: dict[UUID, float] = {}
    because: dict[UUID, dict[str, None]] = {}
    for other in near:
        for memory, use in by_profile[profiles[other]].items():
            mine = own.get(memory)
            if mine is not None and (mine.harmful or now - mine.last_at < LATELY):
                continue
            found = _found(use)
            if found:
                scores[memory] = scores.get(memory, 0.0) + float(row[other]) * found
            if found > 0:
                because.setdefault(memory, {})[profiles[other].agent_id] = None
    best = sorted(
        ((min(1.0, score / total), memory) for memory, score in scores.items() if score > 0),
        key=lambda scored: (-round(scored[0], 5), scored[1]),
    )
    return [
        Recommended(memory, round(score, 5), tuple(because[memory])[:BECAUSE_MAX])
        for score, memory in best[:RECOMMENDED_MAX]
    ]


def _found(use: Use) -> float:
    """How helpful an agent found a memory: 1; ½ where it only used it, −1 where it did harm, 0 if it said nothing."""
    if use.harmful > use.helpful:
        return -1.0
    if use.helpful:
        return 1.0
    return 0.5 if use.used else 0.0
