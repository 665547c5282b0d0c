"""The fate of a write, in every state it can be in."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import pytest_asyncio
from tests.rooms import admin, an_insight, opened

from memcube_common.contracts.api import Receipt
from memcube_common.db import Database
from memcube_common.ids import new_id
from memcube_common.insights import store
from memcube_common.insights.domain import Insight, distil
from memcube_common.insights.receipts import read_receipts
from memcube_common.memories.domain import pack
from memcube_common.memories.store import NewVector, fail_embedding, insert_memories, register_model, save_vectors
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject


@pytest_asyncio.fixture(scope="module")
async def db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """The embedding room's pool: a worker's."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "embedding", stack)


async def receipt_of(db: Database, project: str, *ids: UUID) -> list[Receipt]:
    async with db.transaction(Principal.worker("embedding", project)) as tx:
        return await read_receipts(tx, project=project, ids=ids)


async def accept(db: Database, project: str) -> Insight:
    insight = an_insight("A fact.")
    async with db.transaction(Principal.worker("embedding", project)) as tx:
        await store.insert_insights(tx, project=project, via="http", state="accepted", insights=[insight])
    return insight


async def keep(db: Database, project: str) -> Insight:
    insight = await accept(db, project)
    async with db.transaction(Principal.worker("embedding", project)) as tx:
        await insert_memories(tx, project=project, memories=[distil(insight, datetime.now(UTC))])
        await store.mark_stored(tx, project=project, ids=[insight.id])
    return insight


async def embed(db: Database, project: str, memory_id: UUID) -> None:
    async with db.transaction(Principal.worker("embedding", project)) as tx:
        generation = await register_model(tx, name="m", dimensions=2, fingerprint="f")
        vector = NewVector(memory_id, pack("A fact.").checksum, np.array([1, 0], dtype=np.float32))
        assert await save_vectors(tx, project=project, generation=generation, model="m", vectors=[vector])


async def test_accepted(db: Database, project: HouseProject) -> None:
    insight = await accept(db, project.slug)
    [receipt] = await receipt_of(db, project.slug, insight.id)
    assert (receipt.state, receipt.memory_id, receipt.reason) == ("accepted", insight.memory_id, None)
    assert receipt.accepted_at is not None
    assert receipt.stored_at is None
    assert receipt.searchable_at is None


async def test_stored(db: Database, project: HouseProject) -> None:
    insight = await keep(db, project.slug)
    [receipt] = await receipt_of(db, project.slug, insight.id)
    assert (receipt.state, receipt.memory_id) == ("stored", insight.memory_id)
    assert receipt.stored_at is not None
    assert receipt.searchable_at is None


async def test_searchable(db: Database, project: HouseProject) -> None:
    insight = await keep(db, project.slug)
    await embed(db, project.slug, insight.memory_id)
    [receipt] = await receipt_of(db, project.slug, insight.id)
    assert receipt.state == "searchable"
    assert receipt.searchable_at is not None
    assert receipt.accepted_at is not None
    assert receipt.stored_at is not None
    assert receipt.accepted_at <= receipt.stored_at <= receipt.searchable_at


async def test_failed(db: Database, project: HouseProject) -> None:
    insight = await keep(db, project.slug)
    async with db.transaction(Principal.worker("embedding", project.slug)) as tx:
        assert await fail_embedding(tx, project=project.slug, memory_id=insight.memory_id, reason="it is blank")
    [receipt] = await receipt_of(db, project.slug, insight.id)
    assert (receipt.state, receipt.reason, receipt.searchable_at) == ("failed", "it is blank", None)


async def test_parked(db: Database, project: HouseProject) -> None:
    insight = await accept(db, project.slug)
    async with db.transaction(Principal.worker("embedding", project.slug)) as tx:
        await store.mark_parked(tx, project=project.slug, insight_id=insight.id, reason="why")
    [receipt] = await receipt_of(db, project.slug, insight.id)
    assert (receipt.state, receipt.reason, receipt.stored_at) == ("parked", "why", None)


async def test_a_stored_insight_cannot_be_parked_any_more(db: Database, project: HouseProject) -> None:
    insight = await keep(db, project.slug)
    async with db.transaction(Principal.worker("embedding", project.slug)) as tx:
        await store.mark_parked(tx, project=project.slug, insight_id=insight.id, reason="too late")
    [receipt] = await receipt_of(db, project.slug, insight.id)
    assert receipt.state == "stored"


async def test_an_insight_whose_memory_was_purged_says_so(
    db: Database, database: HouseDatabase, project: HouseProject
) -> None:
    insight = await keep(db, project.slug)
    async with admin(database) as psql:
        await psql.execute("delete from memcube.memories where id = $1", insight.memory_id)
    [receipt] = await receipt_of(db, project.slug, insight.id)
    assert (receipt.state, receipt.reason) == ("stored", "the memory is gone, or not yours to read any more")


async def test_a_memory_written_directly_has_a_receipt_of_its_own_id(db: Database, project: HouseProject) -> None:
    memory = distil(an_insight("A fact."), datetime.now(UTC))
    async with db.transaction(Principal.worker("embedding", project.slug)) as tx:
        await insert_memories(tx, project=project.slug, memories=[memory])
    [receipt] = await receipt_of(db, project.slug, memory.id)
    assert (receipt.id, receipt.memory_id, receipt.state) == (memory.id, memory.id, "stored")
    await embed(db, project.slug, memory.id)
    [receipt] = await receipt_of(db, project.slug, memory.id)
    assert receipt.state == "searchable"


async def test_receipts_come_in_the_order_asked_without_those_that_do_not_exist_or_are_anothers(
    db: Database, database: HouseDatabase, project: HouseProject
) -> None:
    other = await database.project()
    foreign = await keep(db, other.slug)
    mine = [await accept(db, project.slug), await keep(db, project.slug)]
    asked = [mine[1].id, new_id(), foreign.id, mine[0].id]
    receipts = await receipt_of(db, project.slug, *asked)
    assert [receipt.id for receipt in receipts] == [mine[1].id, mine[0].id]
    assert {receipt.project for receipt in receipts} == {project.slug}
    assert await receipt_of(db, project.slug, foreign.id) == []
