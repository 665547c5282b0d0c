"""Whether the nearest are found however large or small a project is, and what that costs who writes.

60,000 vectors in one table: one project has half of them, one 1 %, one 0.1 %, and others the rest. Real vectors of the
local model; beyond 10,000 each is one of those again, moved a little at random. Only vectors are loaded (by COPY),
since only they are searched: 100 candidates as every search asks for them, of which the first ten count. Recall@10
against the ten nearest of all the project's float32 vectors by numpy, 200 questions. The half is asked twice: by
one-bit codes, as before it has a graph, and by its graph. Each time is one statement in its transaction, alone.
Insert rate: memories with their vectors through the write model, one connection, 100 in a transaction; into the project
of 1 %, then into the one with the graph, while it stands.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import numpy as np
from pgvector.asyncpg import register_vector

from benchmarks.corpus import Corpus, Matrix, corpus, fill, grow_graphs, many_more
from benchmarks.figures import Figure, least, most, percentile
from benchmarks.query import halfvec
from benchmarks.stage import Options, Stage
from memcube_common.db import Statement
from memcube_common.ids import new_id
from memcube_common.memories.store import register_model
from memcube_common.search.tiers import exact_max, tier
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseProject
from memcube_embedding.embedders.local import MODEL

TOP = 10
CANDIDATES = 100
ELSEWHERE = 24
NEAREST = Statement(
    "nearest",
    "The nearest by one tier.",
    "select memory_id from vector_candidates($1::smallint, $2::halfvec, '{}', $3, $4)",
)


@dataclass(frozen=True, slots=True)
class Held:
    """A project and the vectors it holds, by the ids of their memories, in order."""

    project: HouseProject
    ids: list[UUID]
    vectors: Matrix


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure recall and the rate of inserts; see the module."""
    table = options.sized(60_000, at_least=6_000)
    made = await corpus(stage, options.sized(10_000, at_least=500), options.sized(200, at_least=20), options.seed)
    all_vectors = many_more(made.vectors, table, options.seed)
    async with stage.database("embedding") as database, database.transaction(Principal.worker("embedding")) as tx:
        generation = await register_model(
            tx, name=MODEL.name, dimensions=MODEL.dimensions, fingerprint=MODEL.fingerprint
        )
    shares = {"50 %": table // 2, "1 %": table // 100, "0.1 %": table // 1000}
    held = {name: await _load(stage, all_vectors[:many], generation) for name, many in shares.items()}
    for part in np.array_split(all_vectors[sum(shares.values()) :], ELSEWHERE):
        await _load(stage, part, generation)
    async with stage.admin() as admin:
        await admin.execute("vacuum (analyze) memcube.memory_vectors", timeout=120)

    found = {name: await _ask(stage, one, made, generation) for name, one in held.items()}
    built, seconds = await grow_graphs(stage, threshold=table // 3)
    graph = await _ask(stage, held["50 %"], made, generation)
    rate, rate_graph = [await _insert(stage, held[name].project, made, options) for name in ("1 %", "50 %")]
    await _forget(stage, table // 3)

    figures = [
        _recall("0.1 % of the table", *found["0.1 %"]),
        _recall("1 % of the table", *found["1 %"]),
        _recall("50 % of the table, no graph yet", *found["50 %"]),
        _recall("50 % of the table, its graph", *graph),
        _time("0.1 %, p95", found["0.1 %"][1]),
        _time("1 %, p95", found["1 %"][1]),
        _time("50 %, no graph yet, p95", found["50 %"][1]),
        _time("50 %, its graph, p95", graph[1]),
        Figure(name="memories with vectors into the project of 1 %", value=rate, unit="memories/s"),
        Figure(
            name="memories with vectors into the project with the graph", value=rate_graph, unit="memories/s",
            limit=rate, limit_of="into the project of 1 %",
        ),
        Figure(name="building the graph, two processes", value=seconds, unit="s"),
    ]  # fmt: skip
    notes = [f"{table:,} vectors; {', '.join(f'{name}: {many:,}' for name, many in shares.items())}"]
    return figures, [*notes, *([] if built == 1 else [f"{built} graphs were built where one was expected"])]


async def _load(stage: Stage, vectors: Matrix, generation: int) -> Held:
    project = await stage.project("recall")
    ids = [new_id() for _ in vectors]
    async with stage.admin() as admin:
        await register_vector(admin)
        await admin.copy_records_to_table(
            "memory_vectors",
            schema_name="memcube",
            columns=["project_id", "generation", "memory_id", "content_hash", "audience", "embedding"],
            records=(
                (project.slug, generation, id, b"", 0, halfvec(cast("Matrix", vector)))
                for id, vector in zip(ids, vectors, strict=True)
            ),
        )
    return Held(project, ids, vectors)


async def _ask(stage: Stage, held: Held, made: Corpus, generation: int) -> tuple[float, list[float]]:
    """Recall@10 over all questions, and the milliseconds of each; each is asked once before."""
    small = len(held.ids) <= exact_max(MODEL.dimensions)
    way = tier(small=small, dimensions=MODEL.dimensions, candidates=CANDIDATES)
    reader = Principal.user(held.project.slug, "bench", "SERVICE")
    times: list[float] = []
    hits, top = 0, min(TOP, len(held.ids))
    # All of them before the first is asked: numpy's threads stay busy for a while and would be in the way.
    nearest = np.argsort(-(made.questions @ held.vectors.T), axis=1, kind="stable")[:, :top]
    near = [{held.ids[place] for place in cast("list[int]", places.tolist())} for places in nearest]
    async with stage.database("gateway") as database:
        for again in (False, True):
            for question, exact in zip(made.questions, near, strict=True):
                asked: tuple[Any, ...] = (generation, halfvec(question), CANDIDATES, way)
                started = time.perf_counter()
                async with database.transaction(reader) as tx:
                    rows = await tx.fetch(NEAREST, *asked)
                if again:
                    times.append((time.perf_counter() - started) * 1000)
                    hits += sum(row["memory_id"] in exact for row in rows[:top])
    return hits / (top * len(made.questions)), times


async def _insert(stage: Stage, project: HouseProject, made: Corpus, options: Options) -> float:
    """Memories a second."""
    many = options.sized(2_000, at_least=100)
    started = time.perf_counter()
    await fill(stage, project, made.notes[:many], made.vectors[:many], together=100)
    return len(made.notes[:many]) / (time.perf_counter() - started)


async def _forget(stage: Stage, threshold: int) -> None:
    """Take what was loaded away, so that what is measured next does not pay for it."""
    async with stage.admin() as admin:
        await admin.execute("delete from memcube.memory_vectors where project_id like 'recall-%'", timeout=120)
    await grow_graphs(stage, threshold=threshold)


def _recall(name: str, value: float, _: list[float]) -> Figure:
    return Figure(
        name=f"recall@10, {name}", value=value, unit="of 1", limit=1.0, limit_of="exact, float32, numpy",
        budgets=(least("B6", 0.99),),
    )  # fmt: skip


def _time(name: str, times: list[float]) -> Figure:
    return Figure(name=f"candidates, {name}", value=percentile(times, 0.95), unit="ms", budgets=(most("B6", 10),))
