"""Generations of vectors: which model is in force in the house, and the way from one to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import orjson
from pgvector import HalfVector

from memcube_common.db import Transaction
from memcube_common.db.pool import Row
from memcube_common.memories.store import QUERIES, NewVector, TextToEmbed, Vector, text_of

State = Literal["backfilling", "ready", "cut_over", "rolled_back", "finished", "cancelled"]
Step = Literal["look", "cut-over", "roll-back", "finish", "cancel"]
FIRST: Final = UUID(int=0)
"""Before every memory: where a walk through a project begins."""


@dataclass(frozen=True, slots=True)
class Model:
    """One generation: the model that made its vectors. used: whether any were kept."""

    generation: int
    name: str
    dimensions: int
    fingerprint: str
    used: bool


@dataclass(frozen=True, slots=True)
class Migration:
    """The way from one generation to another. target: the model as its operator named it, 'local' or 'openai:…'.

    to_generation: None until the embedding room has opened the target. problem: what is in its way, if anything is.
    """

    id: int
    target: str
    state: State
    from_generation: int
    to_generation: int | None
    problem: str | None
    started_at: datetime
    ready_at: datetime | None
    switched_at: datetime | None
    ended_at: datetime | None
    swept_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether memories get vectors of both generations."""
        return self.state not in ("finished", "cancelled")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a migration is, over all projects. The counts of memories and vectors, then those of projects."""

    todo: int
    fed: int
    made: int
    refused: int
    waiting: int
    feeding: int
    comparing: int
    sweeping: int

    @property
    def through(self) -> int:
        """How many of the memories that were there before have been dealt with, about."""
        return max(0, min(self.todo, self.fed - self.waiting))


@dataclass(frozen=True, slots=True)
class FoundOut:
    """What was found out in one project. refusals: by reason, how often and the first ids. samples: one per search."""

    project: str
    refused: int
    refusals: Mapping[str, Mapping[str, Any]]
    samples: Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class OtherText:
    """A memory's text, and the generations that it has no vector of."""

    text: TextToEmbed
    is_pending: bool
    lacking: Sequence[int]


async def current_model(tx: Transaction) -> Model | None:
    """The model in force; None before the first."""
    row = await tx.fetch_one(QUERIES["find_current_model"])
    return None if row is None else _model(row)


async def model_of(tx: Transaction, *, generation: int) -> Model:
    """The model of a generation that there is."""
    row = await tx.fetch_one(QUERIES["find_model"], generation)
    assert row is not None
    return _model(row)


async def adopt(tx: Transaction, *, generation: int) -> bool:
    """Put a model in force if none is, or none but one that never gave a vector; whether it is in force now."""
    await tx.execute(QUERIES["give_up_unused_model"])
    await tx.execute(QUERIES["put_first_model_in_force"], generation)
    found = await current_model(tx)
    return found is not None and found.generation == generation


async def latest_migration(tx: Transaction) -> Migration | None:
    """The latest migration, ended or not; None where there never was one."""
    row = await tx.fetch_one(QUERIES["read_migration"])
    return None if row is None else Migration(**dict(row.items()))


async def take_up(tx: Transaction, *, migration: int, generation: int) -> None:
    """Say that the target is open and which generation it makes."""
    await tx.execute(QUERIES["take_up_migration"], migration, generation)


async def complain(tx: Transaction, *, migration: int, problem: str | None) -> None:
    """Say what is in a migration's way, None for nothing any more."""
    await tx.execute(QUERIES["complain_of_migration"], migration, problem)


async def refuse(tx: Transaction, *, migration: int, problem: str) -> None:
    """End a migration that cannot be made."""
    await tx.execute(QUERIES["refuse_migration"], migration, problem)


async def start(tx: Transaction, *, target: str) -> str | None:
    """As the operator, begin a migration; why that cannot be, else None."""
    return await tx.fetch_value(QUERIES["start_migration"], target)


async def steer(tx: Transaction, *, step: Step) -> str | None:
    """As the operator, take the migration a step on; why that cannot be, else None."""
    return await tx.fetch_value(QUERIES["steer_migration"], step)


async def read_progress(tx: Transaction, *, migration: int) -> Progress:
    """As the operator, how far a migration is."""
    row = await tx.fetch_one(QUERIES["read_progress"], migration)
    assert row is not None
    return Progress(**dict(row.items()))


async def read_found_out(tx: Transaction, *, migration: int) -> list[FoundOut]:
    """As the operator, refused texts and compared searches, by project."""
    return [
        FoundOut(
            row["project_id"],
            row["refused"],
            orjson.loads(row["refusals"]),
            [] if row["samples"] is None else orjson.loads(row["samples"]),
        )
        for row in await tx.fetch(QUERIES["read_found_out"], migration)
    ]


async def feed(tx: Transaction, *, project: str, migration: int, after: UUID, limit: int) -> int:
    """Hand the next memories of a project over, and put the walk's next step on the queue; how many there were."""
    if after == FIRST:
        await tx.execute(QUERIES["begin_backfill"], project, migration)
    return int(await tx.fetch_value(QUERIES["feed_backfill"], project, migration, after, limit))


async def count_waiting(tx: Transaction, *, project: str, at_most: int) -> int:
    """How many memories of a project wait for a vector of another generation."""
    return int(await tx.fetch_value(QUERIES["count_other_vectors"], project, at_most))


async def read_other_texts(
    tx: Transaction, *, project: str, ids: Sequence[UUID], generations: Sequence[int]
) -> list[OtherText]:
    """The texts among `ids` that are still there, and which of `generations` each has no vector of."""
    rows = await tx.fetch(QUERIES["read_other_texts"], project, ids, generations)
    return [
        OtherText(TextToEmbed(row["id"], text, row["checksum"]), row["embedding_state"] == "pending", row["lacking"])
        for row in rows
        if (text := text_of(row)) is not None
    ]


async def save_other_vectors(
    tx: Transaction, *, project: str, migration: int, generation: int, vectors: Sequence[NewVector]
) -> set[UUID]:
    """Keep vectors of a generation whether or not it is in force; returns the memories that have theirs by it."""
    rows = await tx.fetch(
        QUERIES["save_other_vectors"],
        project,
        generation,
        migration,
        [v.memory_id for v in vectors],
        [v.content_hash for v in vectors],
        [HalfVector(v.embedding) for v in vectors],
    )
    return {row["id"] for row in rows}


async def finish_complete(
    tx: Transaction, *, project: str, ids: Sequence[UUID], generations: Sequence[int], refused: Sequence[UUID]
) -> None:
    """Take memories off the queue that have a vector of each of `generations`, were refused one, or are gone.

    One that waits for its first vector comes back by itself once it has it.
    """
    await tx.execute(QUERIES["finish_other_vectors"], project, ids, generations, refused)


async def note_refusal(tx: Transaction, *, project: str, migration: int, reason: str, ids: Sequence[UUID]) -> None:
    """Count memories that the other model gives no vector to."""
    await tx.execute(QUERIES["note_refusal"], project, migration, reason, [str(id) for id in ids])


async def sample_labels(
    tx: Transaction, *, project: str, generations: tuple[int, int], limit: int
) -> list[tuple[UUID, str]]:
    """Labels of the newest memories that have vectors of both generations."""
    rows = await tx.fetch(QUERIES["sample_labels"], project, *generations, limit)
    return [(row["id"], row["label"]) for row in rows]


async def nearest(tx: Transaction, *, project: str, generation: int, vector: Vector, but: UUID) -> set[UUID]:
    """The ten memories nearest to a question, `but` left out."""
    rows = await tx.fetch(QUERIES["nearest_to"], project, generation, HalfVector(vector), but)
    return {row["memory_id"] for row in rows}


async def keep_samples(
    tx: Transaction, *, project: str, migration: int, samples: Sequence[Mapping[str, float]]
) -> None:
    """Keep what a comparison found."""
    await tx.execute(QUERIES["keep_samples"], project, migration, orjson.dumps(samples).decode())


async def sweep(
    tx: Transaction, *, project: str, generation: int, after: UUID, limit: int, in_force: Model | None
) -> int:
    """Remove vectors of `generation` from the project's next memories, and put the next step on the queue.

    With `in_force`, memories say by it what they have; those without its vector wait for one. Returns how many memories
    were looked at.
    """
    row = await tx.fetch_one(
        QUERIES["sweep_vectors"],
        project,
        generation,
        after,
        limit,
        in_force and in_force.generation,
        in_force and in_force.name,
    )
    return 0 if row is None else row["looked"]


def _model(row: Row) -> Model:
    return Model(row["generation"], row["name"], row["dimensions"], row["fingerprint"], row["used"])
