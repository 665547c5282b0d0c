"""What the policies cost a search: the same questions with Row Level Security and without it, in turns.

10,000 memories in one project, one in ten of them restricted; made-up texts with real vectors of the local model. The
search of the gateway (candidates, fusion, content) in its transaction, called in this process as an agent, so that the
governing policy decides every row. In turns of 100 questions: policies as they are shipped, then row level security
taken off the tables that a search reads (by the administrator, on this benchmark's own stack, and put back). The first
ten of each turn are not counted: plans are made anew. Both see the same candidates; without policies restricted
memories are among what is found.
"""

from __future__ import annotations

import time
from typing import Final

from benchmarks.corpus import Corpus, corpus, fill, tidy
from benchmarks.figures import Figure, most, percentile
from benchmarks.query import LIMIT, halfvec
from benchmarks.stage import Connection, Options, Stage
from memcube_common.db import Database
from memcube_common.search.domain import Question, QuestionVector
from memcube_common.search.store import search
from memcube_common.search.tiers import Sizes
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseProject

TABLES: Final = ("projects", "memories", "memory_payloads", "memory_text", "memory_vectors")
TURNS: Final = 6
WARM: Final = 10


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure the policies; see the module."""
    count, many = options.sized(10_000, at_least=500), options.sized(110, at_least=20)
    made = await corpus(stage, count, options.sized(200, at_least=20), options.seed)
    project = await stage.project("policies")
    ids = await fill(stage, project, made.notes, made.vectors)
    async with stage.admin(project) as admin, stage.database("gateway") as database:
        await admin.execute(
            'update memories set governance = governance || \'{"visibility": "private"}\''
            " where project_id = $1 and id = any($2::uuid[])",
            project.slug,
            ids[::10],
        )
        await tidy(stage)
        with_them: list[float] = []
        without: list[float] = []
        try:
            for _ in range(TURNS):
                with_them += (await _turn(database, project, made, many))[WARM:]
                await _policies(admin, "disable")
                without += (await _turn(database, project, made, many))[WARM:]
                await _policies(admin, "enable")
        finally:
            await _policies(admin, "enable")
    governed, bare = percentile(with_them, 0.95), percentile(without, 0.95)
    figures = [
        _time("search with policies, p50", percentile(with_them, 0.5), percentile(without, 0.5)),
        _time("search with policies, p95", governed, bare),
        Figure(
            name="policies cost, p95", value=100 * (governed / bare - 1), unit="%", budgets=(most("RLS", 10),)
        ),
        Figure(
            name="policies cost, p50",
            value=100 * (percentile(with_them, 0.5) / percentile(without, 0.5) - 1),
            unit="%",
        ),
    ]  # fmt: skip
    return figures, [f"{count:,} memories, {len(with_them)} searches with and as many without, in {TURNS} turns"]


async def _turn(database: Database, project: HouseProject, made: Corpus, many: int) -> list[float]:
    """Milliseconds of each search."""
    times: list[float] = []
    sizes = Sizes()
    reader = Principal.user(project.slug, "bench", "AGENT")
    for vector, note in list(zip(made.questions, made.notes, strict=False))[:many]:
        asked = Question(
            text=note.question,
            limit=LIMIT,
            vector=QuestionVector(1, len(vector), halfvec(vector)),
        )
        started = time.perf_counter()
        async with database.transaction(reader) as tx:
            await search(tx, project=project.slug, question=asked, sizes=sizes)
        times.append((time.perf_counter() - started) * 1000)
    return times


async def _policies(admin: Connection, verb: str) -> None:
    for table in TABLES:
        await admin.execute(f"alter table memcube.{table} {verb} row level security")


def _time(name: str, value: float, limit: float) -> Figure:
    return Figure(name=name, value=value, unit="ms", limit=limit, limit_of="the same search without policies")
