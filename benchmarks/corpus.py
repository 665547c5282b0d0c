"""Memories with real vectors, embedded once and kept, and a quick way to put them into projects."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from benchmarks.stage import KEPT, Stage
from benchmarks.texts import Note, notes
from memcube_common.contracts.fields import DEFAULT_GOVERNANCE
from memcube_common.ids import new_id
from memcube_common.mailbox import work
from memcube_common.memories.domain import NewMemory, pack
from memcube_common.memories.store import NewVector, insert_memories, register_model, save_vectors
from memcube_common.provision import dsn_as
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseProject
from memcube_embedding.embedders.local import MODEL, LocalEmbedder
from memcube_embedding.embedders.minilm import FINGERPRINT
from memcube_lifecycle.graphs import GraphMeters, Graphs, tend_graphs

Matrix = NDArray[np.float32]
"""Unit vectors, one a row: shape (texts, dimensions)."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Notes and their vectors by the local model; `questions` are the vectors of the notes' questions."""

    notes: list[Note]
    vectors: Matrix
    questions: Matrix


@contextlib.asynccontextmanager
async def local_embedder(stage: Stage, *, threads: int = 1) -> AsyncGenerator[LocalEmbedder]:
    """The local model inside this process, out of the files that the stack has prepared."""
    embedder = await LocalEmbedder.open(stage.home / "models", threads=threads)
    try:
        yield embedder
    finally:
        await embedder.aclose()


async def corpus(stage: Stage, count: int, questions: int, seed: int) -> Corpus:
    """`count` notes, their vectors, and those of the first `questions` questions; about 20 s the first time."""
    made = notes(count, seed)
    name = "".join(character if character.isalnum() else "-" for character in FINGERPRINT)[:60]
    kept = KEPT / f"vectors-{name}-{seed}-{count}-{questions}.npz"
    if kept.exists():
        with np.load(kept) as loaded:
            return Corpus(made, loaded["vectors"], loaded["questions"])
    async with local_embedder(stage, threads=2) as embedder:
        vectors = np.stack(await embedder.embed([note.text for note in made]))
        asked = np.stack(await embedder.embed([note.question for note in made[:questions]]))
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez(kept, vectors=vectors, questions=asked)
    return Corpus(made, vectors, asked)


async def fill(
    stage: Stage, project: HouseProject, given: Sequence[Note], vectors: Matrix, *, together: int = 500
) -> list[UUID]:
    """Put notes with their vectors into `project` through the write model; their memories' ids in order.

    Memory, vector and finished work of `together` notes are one transaction, so the embedding room never sees them.
    """
    ids: list[UUID] = []
    began = datetime.now(UTC) - timedelta(days=30)
    async with stage.database("embedding") as database:
        async with database.transaction(Principal.worker("embedding")) as tx:
            generation = await register_model(
                tx, name=MODEL.name, dimensions=MODEL.dimensions, fingerprint=MODEL.fingerprint
            )
        for start in range(0, len(given), together):
            group = given[start : start + together]
            memories = [memory_of(note, began + timedelta(seconds=start + place)) for place, note in enumerate(group)]
            ids += [memory.id for memory in memories]
            async with database.transaction(Principal.worker("embedding", project.slug)) as tx:
                await insert_memories(tx, project=project.slug, memories=memories)
                await save_vectors(
                    tx,
                    project=project.slug,
                    generation=generation,
                    model=MODEL.name,
                    vectors=[
                        NewVector(memory.id, pack(memory.content).checksum, vector)
                        for memory, vector in zip(memories, vectors[start : start + together], strict=True)
                    ],
                )
                await work.finish(tx, kind="embedding", project=project.slug, ids=[memory.id for memory in memories])
            await asyncio.sleep(0)
    return ids


def many_more(vectors: Matrix, count: int, seed: int) -> Matrix:
    """`count` unit vectors: those given, then as often as needed all of them again, each moved a little at random.

    A moved one is about as near to its original as two notes about the same thing are (cosine about 0.86).
    """
    dice = np.random.default_rng(seed)
    made = np.empty((count, vectors.shape[1]), np.float32)
    for start in range(0, count, len(vectors)):
        part = vectors[: count - start]
        moved = part if start == 0 else part + dice.normal(scale=0.03, size=part.shape).astype(np.float32)
        made[start : start + len(part)] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return made


async def grow_graphs(stage: Stage, *, threshold: int = 20_000) -> tuple[int, float]:
    """Let the lifecycle room's own function build and drop the graphs that are due; how many, and the seconds it took.

    Two processes of Postgres build, since nothing else happens; a room leaves it to one.
    """
    async with stage.database("lifecycle") as database:
        dsn = dsn_as(stage.postgres, "memcube_login_lifecycle", stage.stack.logins["lifecycle"])
        meters = GraphMeters.fresh(CollectorRegistry())
        started = time.perf_counter()
        built = await tend_graphs(Graphs(database, dsn, meters, threshold, memory_mb=1024, workers=1))
        return built, time.perf_counter() - started


async def tidy(stage: Stage) -> None:
    """What autovacuum does within minutes of a load, done now: statistics and the visibility map."""
    await stage.feed_settled()
    async with stage.admin() as admin:
        for table in ("memories", "memory_payloads", "memory_text", "memory_vectors", "work_queue", "changes", "feed"):
            await admin.execute(f"vacuum (analyze) memcube.{table}", timeout=120)


def memory_of(note: Note, at: datetime) -> NewMemory:
    """A note as a memory created at `at`, with a fresh id."""
    identity = new_id()
    return NewMemory(
        id=identity,
        label=note.text[:60],
        content=note.text,
        origin="benchmark",
        provenance_id=identity,
        tags=note.tags,
        governance=DEFAULT_GOVERNANCE,
        metadata="{}",
        priority="WARM",
        created_by="bench",
        created_at=at,
    )
