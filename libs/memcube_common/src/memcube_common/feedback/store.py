"""Outcomes, use and recommendations in Postgres, and the mark by which a cache knows that nothing has changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from memcube_common.contracts.scheduling import Outcome, Recommendation, Recommendations
from memcube_common.db import Statements, Transaction
from memcube_common.db.arrays import array_literal
from memcube_common.db.pool import Row
from memcube_common.feedback.domain import OUTCOMES, Profile, Said, Settlement, Told, Used, Voice, value_of
from memcube_common.feedback.likeness import Recommended, Use
from memcube_common.memories.domain import unpack

QUERIES = Statements(__package__)
_SCHEDULES_MAX: Final = 200
_OUTCOMES_MAX: Final = 2_000
_RECALLS_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a project stood before something was read of it (migration 13, `take_mark`)."""

    horizon: int
    since: date
    seen: int
    settled: int
    counted: int


async def take_mark(tx: Transaction) -> Mark | None:
    """Where the caller's project stands; taken before what shall be cached is read, in the same transaction or an
    earlier one. None where it cannot be said.
    """
    row = await tx.fetch_one(QUERIES["take_mark"])
    if row is None or row["horizon"] is None:
        return None
    return Mark(row["horizon"], row["since"], row["seen"], row["settled"], row["counted"])


async def mark_holds(tx: Transaction, *, mark: Mark, until: datetime | None) -> bool:
    """Whether nothing was committed in the caller's project since `mark`, nothing settled, `until` not passed."""
    return bool(
        await tx.fetch_value(
            QUERIES["mark_holds"], mark.horizon, mark.since, mark.seen, mark.settled, mark.counted, until
        )
    )


async def read_chosen(tx: Transaction, *, project: str, schedule_id: UUID) -> list[UUID] | None:
    """The memories of a schedule the caller may read, in their order; None where there is none."""
    chosen: list[UUID] | None = await tx.fetch_value(QUERIES["read_chosen"], project, schedule_id)
    return chosen


async def say_outcomes(tx: Transaction, *, schedule_id: UUID, outcomes: Mapping[UUID, Outcome]) -> int | None:
    """Keep the caller's last word on memories of a schedule; how many are known of it, None where there is none."""
    taken: int | None = await tx.fetch_value(
        QUERIES["say_outcomes"], schedule_id, list(outcomes), list(outcomes.values())
    )
    return taken


async def projects_to_recall(tx: Transaction, *, at_most: int) -> list[str]:
    """Projects with schedules of which it is not noted yet what was told."""
    return [row["project_id"] for row in await tx.fetch(QUERIES["projects_to_recall"], at_most)]


async def projects_to_settle(tx: Transaction, *, usage: float, feedback: float, at_most: int) -> list[str]:
    """Projects with schedules older than `usage` seconds, or outcomes older than `feedback`, that are not counted."""
    return [row["project_id"] for row in await tx.fetch(QUERIES["projects_to_settle"], usage, feedback, at_most)]


async def projects_to_recommend(tx: Transaction, *, every: float, at_most: int) -> list[str]:
    """Projects that were settled since their recommendations were computed, if that is over `every` seconds ago."""
    return [row["project_id"] for row in await tx.fetch(QUERIES["projects_to_recommend"], every, at_most)]


async def take_recalls(tx: Transaction, *, project: str) -> tuple[int, Mapping[str, Mapping[UUID, str]]]:
    """Take schedules of which it was not noted what was told: how many, and the texts by agent and memory.

    What was told counts as told to who asked, and to the agent named where who asked may speak for any. A text is the
    one in force now, where it lies in the row; a memory that is gone was told to nobody. The memories stay until the
    transaction ends.
    """
    rows = await tx.fetch(QUERIES["take_recalls"], project, _RECALLS_MAX)
    told: dict[str, dict[UUID, None]] = {}
    for row in rows:
        for agent in {row["made_by"], row["agent_id"]} if row["for_others"] else {row["made_by"]}:
            told.setdefault(agent, {}).update(dict.fromkeys(row["chosen"]))
    ids = {memory for memories in told.values() for memory in memories}
    texts = {
        row["id"]: text
        for row in await tx.fetch(QUERIES["read_told"], project, list(ids))
        if (text := unpack(row["content"], row["content_zstd"]))
    }
    return len(rows), {
        agent: {memory: texts[memory] for memory in memories if memory in texts}
        for agent, memories in sorted(told.items())
    }


async def hold_mark(tx: Transaction, *, project: str) -> bool:
    """Settle `project` alone; False where somebody else is at it."""
    await tx.execute(QUERIES["open_mark"], project)
    return await tx.fetch_one(QUERIES["hold_mark"], project) is not None


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What waited and counts from now on; `there`: of the memories it is about those that are there, held."""

    told: Sequence[Told]
    said: Sequence[Said]
    there: Collection[UUID]


async def take_unsettled(tx: Transaction, *, project: str, delivered: Mapping[UUID, int]) -> Unsettled:
    """Take schedules and outcomes that are not counted, at most some; from now on they are.

    delivered: how often schedules were given out again, by their ids; those that are gone are left out. Memories are
    held before anything that goes with them, as a purge holds them.
    """
    again: Sequence[Row] = ()
    if delivered:
        again = await tx.fetch(QUERIES["read_delivered"], project, list(delivered))
    waiting = await tx.fetch(QUERIES["waiting_schedules"], project, _SCHEDULES_MAX)
    about = {row["memory_id"] for row in await tx.fetch(QUERIES["waiting_outcomes"], project, _OUTCOMES_MAX)}
    about |= {memory for row in (*waiting, *again) for memory in row["chosen"]}
    there = {row["id"] for row in await tx.fetch(QUERIES["hold_used"], project, list(about))}
    rows = await tx.fetch(QUERIES["take_schedules"], project, [row["id"] for row in waiting])
    told = [Told(row["made_by"], row["agent_id"], row["made_at"], tuple(row["chosen"])) for row in rows]
    told += [
        Told(row["made_by"], row["agent_id"], row["made_at"], tuple(row["chosen"]), delivered[row["id"]])
        for row in again
    ]
    said = [
        Said(row["memory_id"], row["made_by"], row["agent_id"], row["said_at"], row["was"], row["outcome"])
        for row in await tx.fetch(QUERIES["take_outcomes"], project, _OUTCOMES_MAX, list(about))
    ]
    return Unsettled(told, said, there)


async def keep_settlement(tx: Transaction, *, project: str, settlement: Settlement, there: Collection[UUID]) -> int:
    """Count what was told and said: on the memories that are there, on what agents made of them, and on the project's
    mark. Returns how many memories were counted on.
    """
    tallies = sorted(item for item in settlement.tallies.items() if item[0][0] in there)
    keys = [key for key, _ in tallies]
    counts = [tally for _, tally in tallies]
    memories, profiles = [memory for memory, _ in keys], [profile for _, profile in keys]
    if tallies:
        await tx.execute(
            QUERIES["count_uses"],
            project,
            memories,
            [profile.made_by for profile in profiles],
            [profile.agent_id for profile in profiles],
            [tally.scheduled for tally in counts],
            [tally.last_at for tally in counts],
        )
    values: dict[UUID, float] = {}
    judged = sorted(settlement.judged.intersection(there))
    if judged:
        await tx.execute(
            QUERIES["add_outcomes"],
            project,
            memories,
            [profile.made_by for profile in profiles],
            [profile.agent_id for profile in profiles],
            *([getattr(tally, outcome) for tally in counts] for outcome in OUTCOMES),
        )
        values = await read_values(tx, project=project, ids=judged)
    touched = sorted({memory for memory, _ in keys})
    nothing = Used(0, None)
    used = [settlement.used.get(memory, nothing) for memory in touched]
    await tx.execute(
        QUERIES["note_usage"],
        project,
        touched,
        [one.hits for one in used],
        [one.last_at for one in used],
        [values.get(memory) for memory in touched],
    )
    await tx.execute(QUERIES["move_mark"], project)
    return len(touched)


async def read_values(tx: Transaction, *, project: str, ids: Collection[UUID]) -> dict[UUID, float]:
    """What agents made of memories, out of all that was ever said of them: −1 … 1, by id."""
    voices: dict[UUID, list[Voice]] = {memory: [] for memory in ids}
    for row in await tx.fetch(QUERIES["read_voices"], project, list(ids)):
        voices[row["memory_id"]].append(Voice(row["used"], row["ignored"], row["helpful"], row["harmful"]))
    return {memory: value_of(said) for memory, said in voices.items()}


async def read_settled(tx: Transaction, *, project: str) -> int | None:
    """How often `project` was settled, to be read before its uses; None if never."""
    settled: int | None = await tx.fetch_value(QUERIES["read_settled"], project)
    return settled


async def read_uses(tx: Transaction, *, project: str, since: datetime, at_most: int) -> list[Use]:
    """How memories were used by agents since a moment, newest first."""
    return [
        Use(
            profile=Profile(row["made_by"], row["agent_id"]),
            memory_id=row["memory_id"],
            last_at=row["last_at"],
            scheduled=row["scheduled"],
            used=row["used"],
            helpful=row["helpful"],
            harmful=row["harmful"],
        )
        for row in await tx.fetch(QUERIES["read_uses"], project, since, at_most)
    ]


async def replace_recommendations(
    tx: Transaction, *, project: str, settled: int, recommended: Mapping[Profile, Sequence[Recommended]]
) -> int:
    """Recommend this from now on and nothing else; `settled`: what was known when it was computed.

    Returns 1, or 0 where somebody else computed as much meanwhile or is keeping it.
    """
    if await tx.fetch_one(QUERIES["hold_considered"], project, settled) is None:
        return 0
    wanted = {one.memory_id for those in recommended.values() for one in those}
    there = {row["id"] for row in await tx.fetch(QUERIES["hold_recommended"], project, list(wanted))}
    await tx.execute(QUERIES["drop_recommendations"], project)
    rows = [(profile, one) for profile, those in sorted(recommended.items()) for one in those if one.memory_id in there]
    if rows:
        await tx.execute(
            QUERIES["insert_recommendations"],
            project,
            [profile.agent_id for profile, _ in rows],
            [profile.made_by for profile, _ in rows],
            [one.memory_id for _, one in rows],
            [one.score for _, one in rows],
            [array_literal(one.because) for _, one in rows],
        )
    await tx.execute(QUERIES["mark_recommended"], project, settled)
    return 1


async def read_recommendations(tx: Transaction, *, project: str, agent: str, at_most: int) -> Recommendations:
    """What is recommended to `agent` and the caller may read, best first.

    Only those follow from schedules the caller asked for itself, but for privileged roles.
    """
    rows = await tx.fetch(QUERIES["read_recommendations"], project, agent, at_most)
    return Recommendations.model_construct(
        agent_id=agent,
        computed_at=rows[0]["computed_at"] if rows else None,
        memories=[
            Recommendation.model_construct(
                memory_id=row["memory_id"],
                label=row["label"],
                tags=row["tags"],
                score=row["score"],
                because=row["because"],
            )
            for row in rows
            if row["memory_id"] is not None
        ],
    )
