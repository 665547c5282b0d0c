"""A project that its partition's statistics do not know: ids are looked up, the project is not read through."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import numpy as np
import pytest
import pytest_asyncio
from pgvector import HalfVector
from pgvector.asyncpg import register_vector
from tests.plans import plans_of

from memcube_common.contracts.api import InsightSubmission
from memcube_common.db import Database, Statement
from memcube_common.insights.domain import Insight, distil, from_submission
from memcube_common.insights.store import QUERIES as INSIGHTS
from memcube_common.insights.store import insert_insights
from memcube_common.memories.store import QUERIES as MEMORIES
from memcube_common.memories.store import NewVector, insert_memories, register_model, save_vectors
from memcube_common.search.domain import Filters
from memcube_common.search.listings import QUERIES as SEARCH
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_gateway.store import QUERIES as ANSWERS

MANY = 600
FEW = 12
DIMENSIONS = 8


async def _fill(database: HouseDatabase, projects: Mapping[str, int]) -> tuple[list[Insight], int]:
    """So many insights, memories and vectors in each project; those of the last one, and their generation."""
    db = await Database.open(database.dsn("ingestion"), room="test")
    insights: list[Insight] = []
    generation = 0
    try:
        for project, many in projects.items():
            submissions = [InsightSubmission(insight=f"fact number {n} of many") for n in range(many)]
            insights = [from_submission(submission, "agent") for submission in submissions]
            memories = [distil(insight, datetime.now(UTC)) for insight in insights]
            vectors = np.random.default_rng(5).normal(size=(many, DIMENSIONS)).astype(np.float32)
            async with db.transaction(Principal.worker("embedding", project)) as tx:
                generation = await register_model(tx, name="tiny", dimensions=DIMENSIONS, fingerprint="test")
                await insert_insights(tx, project=project, via="http", state="stored", insights=insights)
                await insert_memories(tx, project=project, memories=memories)
                new = [
                    NewVector(memory.id, hashlib.sha256(memory.content.encode()).digest(), vector)
                    for memory, vector in zip(memories, vectors, strict=True)
                ]
                await save_vectors(tx, project=project, generation=generation, model="tiny", vectors=new)
    finally:
        await db.close()
    return insights, generation


@pytest_asyncio.fixture(scope="module")
async def known(database: HouseDatabase) -> None:
    """Every partition has a few projects, and statistics that know them and nobody else."""
    others = [await database.project() for _ in range(64)]
    await _fill(database, {other.slug: 4 for other in others})
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        await connection.execute("analyze memcube.insights, memcube.memories, memcube.memory_payloads")
        await connection.execute("analyze memcube.memory_text, memcube.memory_vectors")
        for other in others:
            await _give_keys(connection, other.slug, 4)
        await connection.execute("analyze memcube.idempotency_keys")
    finally:
        await connection.close()


async def _give_keys(connection: asyncpg.Connection[Any], project: str, many: int) -> list[str]:
    """So many Idempotency-Keys that were answered."""
    await connection.execute(
        "insert into memcube.idempotency_keys (project_id, principal, route, key, request_hash, status, body)"
        " select $1, 'tester', 'POST', 'key-' || n, '', 201, '' from generate_series(1, $2) n",
        project,
        many,
    )
    return [f"key-{n}" for n in range(1, many + 1)]


def _rows_read(plan: dict[str, Any]) -> int:
    """Rows that the scans of a plan touched, whether they kept them or not."""
    inner = sum(_rows_read(child) for child in cast("list[dict[str, Any]]", plan.get("Plans", [])))
    if "Scan" not in plan["Node Type"] or plan.get("Relation Name") is None:
        return inner
    each = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return inner + int(each * plan["Actual Loops"])


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "name",
    ["read_memories", "read_texts", "read_accepted", "mark_stored", "receipts", "found", "bare", "among", "walk"],
)
async def test_ids_are_looked_up_in_a_project_the_statistics_do_not_know(
    name: str, database: HouseDatabase, project: HouseProject
) -> None:
    insights, _ = await _fill(database, {project.slug: MANY})
    some = insights[:FEW]
    memory_ids, insight_ids = [i.memory_id for i in some], [i.id for i in some]
    asked: dict[str, tuple[Statement, tuple[Any, ...]]] = {
        "read_memories": (MEMORIES["read_memories"], (project.slug, memory_ids)),
        "read_texts": (MEMORIES["read_texts"], (project.slug, memory_ids)),
        "read_accepted": (INSIGHTS["read_accepted"], (project.slug, insight_ids)),
        "mark_stored": (INSIGHTS["mark_stored"], (project.slug, insight_ids)),
        "receipts": (INSIGHTS["read_receipts"], (project.slug, insight_ids)),
        "found": (SEARCH["read_found"], (project.slug, memory_ids, FEW, False, *Filters().values())),
        "bare": (SEARCH["read_bare"], (project.slug, memory_ids, FEW, *Filters().values())),
        "among": (
            SEARCH["among"],
            (project.slug, "ids", "label", True, *[None] * 4, FEW, 2_000, *Filters(ids=tuple(memory_ids)).values()),
        ),
        "walk": (SEARCH["walk"], ("label", True, *[None] * 4, FEW, 20_000, *Filters().values())),
    }
    statement, arguments = asked[name]
    plans = await _ran(database, project.slug, statement, arguments)
    assert sum(map(_rows_read, plans)) <= 8 * FEW


@pytest.mark.usefixtures("known")
async def test_answers_are_kept_by_key_in_a_project_the_statistics_do_not_know(
    database: HouseDatabase, project: HouseProject
) -> None:
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        keys = await _give_keys(connection, project.slug, MANY)
    finally:
        await connection.close()
    some = keys[:FEW]
    arguments = (project.slug, "tester", "POST", some, [201] * FEW, [b"{}"] * FEW)
    *_, plan = await _ran(database, project.slug, ANSWERS["keep_answers"], arguments)
    assert _rows_read(plan) == FEW


@pytest.mark.usefixtures("known")
async def test_a_search_compares_each_vector_once_in_a_project_the_statistics_do_not_know(
    database: HouseDatabase, project: HouseProject
) -> None:
    _, generation = await _fill(database, {project.slug: MANY})
    question = HalfVector(np.ones(DIMENSIONS, np.float32))
    arguments: tuple[Any, ...] = (
        project.slug,
        "fact number",
        "",
        [],
        3000,
        100,
        question,
        generation,
        False,
        1,
        200,
        60,
    )
    plans = await _ran(database, project.slug, SEARCH["by_both"], arguments)
    assert sum(map(_rows_read, plans)) <= 6 * MANY


async def _ran(
    database: HouseDatabase, project: str, statement: Statement, arguments: tuple[Any, ...]
) -> list[dict[str, Any]]:
    """The plans of a statement and of what its functions run, as they ran for a reader."""
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        await register_vector(connection)
        await connection.execute("set search_path = memcube, public; set plan_cache_mode = force_custom_plan")
        await connection.execute("load 'auto_explain'")  # while this may still be done
        transaction = connection.transaction()
        await transaction.start()
        readers = {"keep_answers", "by_both", "read_found", "read_bare", "among", "walk", "read_memories"}
        role = "memcube_user" if statement.name in readers else "memcube_worker"
        await connection.execute(
            f"set local app.project_id = '{project}'; set local app.principal = 'tester'; set local app.role = 'AGENT'"
        )
        plans = await plans_of(connection, statement, *arguments, role=role)
        await transaction.rollback()
        return plans
    finally:
        await connection.close()
