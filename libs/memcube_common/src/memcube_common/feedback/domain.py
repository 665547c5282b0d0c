"""What is counted when schedules are settled, and what outcomes make of a memory's score: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, get_args
from uuid import UUID

from memcube_common.contracts.scheduling import Outcome

OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
WORTH: Final[Mapping[Outcome, float]] = {"helpful": 1.0, "used": 0.25, "ignored": -0.1, "harmful": -2.0}
"""What one outcome says of a memory; harm weighs twice as much as help."""

VOICE_MAX: Final = 5.0
"""Outcomes of one principal count as at most so many: who says it a thousand times says no more."""

PRIOR: Final = 10.0
"""So many outcomes that say nothing are assumed of every memory."""


class Profile(NamedTuple):
    """An agent, as recommendations know it: the principal that asked for its schedules, and its name."""

    made_by: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class Told:
    """A schedule that is settled: what was chosen for whom, and how often it was given out."""

    made_by: str
    agent_id: str
    made_at: datetime
    chosen: tuple[UUID, ...]
    times: int = 1


@dataclass(frozen=True, slots=True)
class Said:
    """An outcome that is settled: what it is now, and what was counted before, if anything."""

    memory_id: UUID
    made_by: str
    agent_id: str
    at: datetime
    was: Outcome | None
    outcome: Outcome


@dataclass(slots=True)
class Tally:
    """What is added to what is known of one memory and one agent; outcomes may be taken back."""

    last_at: datetime
    scheduled: int = 0
    used: int = 0
    ignored: int = 0
    helpful: int = 0
    harmful: int = 0

    def add(self, outcome: Outcome, many: int) -> None:
        """`many` more of `outcome`, or fewer."""
        setattr(self, outcome, getattr(self, outcome) + many)


@dataclass(frozen=True, slots=True)
class Used:
    """How often a memory was given out, and when last, if ever."""

    hits: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a batch of schedules and outcomes comes to; `judged`: the memories on which something was said."""

    tallies: Mapping[tuple[UUID, Profile], Tally]
    used: Mapping[UUID, Used]
    judged: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Voice:
    """What one principal said of a memory, all in all."""

    used: int = 0
    ignored: int = 0
    helpful: int = 0
    harmful: int = 0


def settle(told: Iterable[Told], said: Iterable[Said]) -> Settlement:
    """Add up what was told and said, by memory and agent."""
    tallies: dict[tuple[UUID, Profile], Tally] = {}
    used: dict[UUID, Used] = {}
    judged: set[UUID] = set()

    def tally(memory: UUID, profile: Profile, at: datetime) -> Tally:
        found = tallies.setdefault((memory, profile), Tally(at))
        found.last_at = max(found.last_at, at)
        return found

    for one in told:
        for memory in dict.fromkeys(one.chosen):
            tally(memory, Profile(one.made_by, one.agent_id), one.made_at).scheduled += one.times
            before = used.get(memory, Used(0, None))
            used[memory] = Used(before.hits + one.times, max(before.last_at or one.made_at, one.made_at))
    for word in said:
        counted = tally(word.memory_id, Profile(word.made_by, word.agent_id), word.at)
        counted.add(word.outcome, 1)
        if word.was is not None:
            counted.add(word.was, -1)
        judged.add(word.memory_id)
    return Settlement(tallies, used, frozenset(judged))


def value_of(voices: Sequence[Voice]) -> float:
    """What agents made of a memory, −1 … 1: a mean of outcomes' worth, each principal's voice capped, shrunk towards 0.

    Σ c·worth / (Σ c·n + PRIOR) over principals with n outcomes each, c = min(1, VOICE_MAX / n): the Bayesian average (a
    posterior mean under PRIOR pseudo-observations of worth 0: Murphy, Machine Learning: A Probabilistic Perspective,
    2012, §3.3), bounded. One principal alone moves it no further than −⅔ … +⅓.
    """
    worth = weight = 0.0
    for voice in voices:
        counts: dict[Outcome, int] = {
            "used": voice.used,
            "ignored": voice.ignored,
            "helpful": voice.helpful,
            "harmful": voice.harmful,
        }
        said = sum(counts.values())
        if said:
            share = min(1.0, VOICE_MAX / said)
            worth += share * sum(WORTH[outcome] * many for outcome, many in counts.items())
            weight += share * said
    return max(-1.0, min(1.0, worth / (weight + PRIOR)))
