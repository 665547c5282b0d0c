"""The embedding room: a memory waits, is ready or has failed, and `ready` always means a vector of its own text."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from pgvector import HalfVector
from tests.eventually import eventually
from tests.fakes.embedder import FakeEmbedder
from tests.rooms import admin, an_insight, embedding_room, ingestion_room, opened

from memcube_common.contracts import subjects
from memcube_common.db import Database
from memcube_common.db.pool import Row
from memcube_common.frame import task
from memcube_common.insights import store as insights_store
from memcube_common.memories.domain import pack
from memcube_common.memories.store import NewVector, register_model, save_vectors
from memcube_common.search.domain import Question, QuestionVector
from memcube_common.search.store import search
from memcube_common.search.tiers import Sizes
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_embedding import jobs
from memcube_embedding.embedders.protocol import EmbedderUnavailable
from memcube_embedding.room import Room
from memcube_ingestion.handlers import keep
from memcube_ingestion.jobs import keep_due
from memcube_ingestion.room import Room as IngestionRoom

if TYPE_CHECKING:
    Psql = asyncpg.Connection[Row]

READY_WITHOUT_ITS_VECTOR = """
select m.id from memcube.memories m
  left join memcube.memory_payloads p on p.project_id = m.project_id and p.memory_id = m.id
  left join memcube.memory_vectors v on v.project_id = m.project_id and v.memory_id = m.id
  left join memcube.embedding_models g on g.generation = v.generation
 where m.embedding_state = 'ready'
   and (v.memory_id is null or g.generation is null or v.content_hash <> p.checksum or g.name <> m.embedding_model
        or public.vector_dims(v.embedding) <> g.dimensions or m.embedded_at is null)
"""


@pytest_asyncio.fixture
async def embedder() -> FakeEmbedder:
    """A model that does as it is told."""
    return FakeEmbedder()


@pytest_asyncio.fixture
async def room(database: HouseDatabase, embedder: FakeEmbedder) -> AsyncGenerator[Room]:
    """The embedding room, with nothing waiting from other tests."""
    async with admin(database) as psql:
        await psql.execute("truncate memcube.work_queue")
    async with embedding_room(database, embedder) as room:
        yield room


@pytest_asyncio.fixture(scope="module")
async def ingestion(database: HouseDatabase) -> AsyncGenerator[IngestionRoom]:
    """Where memories come from."""
    async with ingestion_room(database) as room:
        yield room


@pytest_asyncio.fixture(scope="module")
async def psql(database: HouseDatabase) -> AsyncGenerator[Psql]:
    """Somebody who looks at everything."""
    async with admin(database) as connection:
        yield connection


@pytest_asyncio.fixture(scope="module")
async def gateway_db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """Where questions come from."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "gateway", stack)


async def learn(ingestion: IngestionRoom, project: str, *texts: str) -> list[UUID]:
    """Memories of insights sent over NATS."""
    insights = [an_insight(text, agent="bot") for text in texts]
    assert await keep(project, insights, ingestion) is None
    return [insight.memory_id for insight in insights]


async def states(psql: Psql, project: str) -> dict[UUID, tuple[str, str | None]]:
    rows = await psql.fetch(
        "select id, embedding_state, embedding_reason from memcube.memories where project_id = $1", project
    )
    return {row["id"]: (row["embedding_state"], row["embedding_reason"]) for row in rows}


async def waiting(psql: Psql, project: str) -> int:
    return int(
        await psql.fetchval(
            "select count(*) from memcube.work_queue where project_id = $1 and kind = 'embedding'", project
        )
    )


async def told(psql: Psql, project: str) -> list[tuple[str, str | None]]:
    rows = await psql.fetch(
        "select type, body ->> 'reason' as reason from memcube.changes"
        " where project_id = $1 and type like 'receipt%' order by seq",
        project,
    )
    return [(row["type"], row["reason"]) for row in rows]


async def found_by_words(gateway: Database, project: str, text: str) -> set[UUID]:
    return await found(gateway, project, Question(text=text, limit=10, vector=None))


async def found_by_meaning(gateway: Database, room: Room, project: str, text: str) -> set[UUID]:
    [value] = await FakeEmbedder().embed([text])
    vector = QuestionVector(generation=room.models.current.generation, dimensions=len(value), value=HalfVector(value))
    return await found(gateway, project, Question(text=None, limit=1, vector=vector))


async def found(gateway: Database, project: str, question: Question) -> set[UUID]:
    async with gateway.transaction(Principal.user(project, "reader", "MEMBER")) as tx:
        return {one.fields["id"] for one in (await search(tx, project=project, question=question, sizes=Sizes())).found}


async def due_now(psql: Psql) -> None:
    await psql.execute("update memcube.work_queue set due_at = now()")


async def drained(room: Room) -> None:
    while await jobs.embed_due(room):
        pass


async def test_a_waiting_memory_becomes_ready_and_its_sender_hears_it(
    room: Room, ingestion: IngestionRoom, psql: Psql, project: HouseProject
) -> None:
    ids = await learn(ingestion, project.slug, *(f"Fact number {n}." for n in range(20)))
    assert set((await states(psql, project.slug)).values()) == {("pending", None)}
    await drained(room)
    assert await states(psql, project.slug) == dict.fromkeys(ids, ("ready", None))
    assert await waiting(psql, project.slug) == 0
    assert await psql.fetch(READY_WITHOUT_ITS_VECTOR) == []
    assert await told(psql, project.slug) == [("receipt.v1.stored", None)] * 20 + [("receipt.v1.searchable", None)] * 20
    embedded = await psql.fetchval(
        "select count(*) from memcube.changes where project_id = $1 and type = 'memory.v1.embedded'", project.slug
    )
    assert embedded == 20


async def test_while_the_embedder_is_away_memories_are_found_by_words_and_by_meaning_when_it_returns(
    room: Room,
    embedder: FakeEmbedder,
    ingestion: IngestionRoom,
    gateway_db: Database,
    psql: Psql,
    project: HouseProject,
) -> None:
    cello = "Bo plays the cello."
    ids = await learn(ingestion, project.slug, cello, *(f"Fact number {n}." for n in range(11)))
    embedder.failures.extend(EmbedderUnavailable("away", after=0.05) for _ in range(15))
    async with task(jobs.embed_waiting(room), "embed-waiting"):
        await eventually(lambda: len(embedder.calls) > 5, within=5)
        assert set((await states(psql, project.slug)).values()) == {("pending", None)}
        assert await waiting(psql, project.slug) == 12
        assert await found_by_words(gateway_db, project.slug, "cello") == {ids[0]}
        assert await found_by_meaning(gateway_db, room, project.slug, cello) == set()

        async def ready() -> bool:
            return await states(psql, project.slug) == dict.fromkeys(ids, ("ready", None))

        await eventually(ready, within=10)
    assert await waiting(psql, project.slug) == 0
    assert await found_by_meaning(gateway_db, room, project.slug, cello) == {ids[0]}
    assert {kind for kind, _ in await told(psql, project.slug)} == {"receipt.v1.stored", "receipt.v1.searchable"}


async def test_a_refused_text_has_failed_with_its_reason_and_its_neighbours_are_ready(
    room: Room, embedder: FakeEmbedder, ingestion: IngestionRoom, psql: Psql, project: HouseProject
) -> None:
    embedder.refused.add("This one not.")
    ids = await learn(ingestion, project.slug, "This one.", "This one not.", "This one too.")
    await drained(room)
    assert await states(psql, project.slug) == {
        ids[0]: ("ready", None),
        ids[1]: ("failed", "it is on the fake's list"),
        ids[2]: ("ready", None),
    }
    assert await waiting(psql, project.slug) == 0
    assert ("receipt.v1.failed", "it is on the fake's list") in await told(psql, project.slug)
    assert (await told(psql, project.slug)).count(("receipt.v1.searchable", None)) == 2


async def test_a_text_that_changed_while_it_was_embedded_gets_no_vector_of_the_old_words(
    room: Room, embedder: FakeEmbedder, ingestion: IngestionRoom, psql: Psql, project: HouseProject
) -> None:
    [memory_id] = await learn(ingestion, project.slug, "The old words.")
    embedder.gate.clear()
    embedding = asyncio.create_task(jobs.embed_due(room))
    await asyncio.wait_for(embedder.called.wait(), 5)
    new = pack("Quite other words.")
    await psql.execute(
        "update memcube.memory_payloads set content = $2, checksum = $3 where memory_id = $1",
        memory_id,
        new.content,
        new.checksum,
    )
    embedder.gate.set()
    assert await embedding
    assert await states(psql, project.slug) == {memory_id: ("pending", None)}
    assert await psql.fetchval("select count(*) from memcube.memory_vectors where memory_id = $1", memory_id) == 0
    assert await waiting(psql, project.slug) == 1
    await due_now(psql)
    await drained(room)
    assert await states(psql, project.slug) == {memory_id: ("ready", None)}
    assert embedder.calls[-1] == ["Quite other words."]
    assert await psql.fetch(READY_WITHOUT_ITS_VECTOR) == []


async def test_a_memory_that_is_gone_leaves_the_queue(
    room: Room, ingestion: IngestionRoom, psql: Psql, project: HouseProject
) -> None:
    [memory_id] = await learn(ingestion, project.slug, "Soon gone.")
    await psql.execute("delete from memcube.memories where id = $1", memory_id)
    await drained(room)
    assert await waiting(psql, project.slug) == 0
    assert await psql.fetchval("select count(*) from memcube.memory_vectors where memory_id = $1", memory_id) == 0


async def test_a_room_that_died_while_embedding_gives_the_work_back(
    room: Room, embedder: FakeEmbedder, ingestion: IngestionRoom, psql: Psql, project: HouseProject
) -> None:
    [memory_id] = await learn(ingestion, project.slug, "Half done.")
    embedder.gate.clear()
    dying = asyncio.create_task(jobs.embed_due(room))
    await asyncio.wait_for(embedder.called.wait(), 5)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    embedder.gate.set()
    assert not await jobs.embed_due(room)
    await due_now(psql)
    await drained(room)
    assert await states(psql, project.slug) == {memory_id: ("ready", None)}


async def test_racing_rooms_announce_each_memory_once(
    room: Room, ingestion: IngestionRoom, psql: Psql, database: HouseDatabase
) -> None:
    projects = [await database.project() for _ in range(3)]
    for project in projects:
        await learn(ingestion, project.slug, *(f"Fact number {n}." for n in range(15)))
    await asyncio.gather(*(drained(room) for _ in range(4)))
    for project in projects:
        assert set((await states(psql, project.slug)).values()) == {("ready", None)}
        assert (await told(psql, project.slug)).count(("receipt.v1.searchable", None)) == 15
    assert await psql.fetch(READY_WITHOUT_ITS_VECTOR) == []


async def test_a_lease_that_ended_early_announces_nothing_twice(
    room: Room,
    embedder: FakeEmbedder,
    ingestion: IngestionRoom,
    psql: Psql,
    project: HouseProject,
    database: HouseDatabase,
) -> None:
    """Two rooms embed the same memory, because the first was slower than its lease."""
    await learn(ingestion, project.slug, "Embedded by two.")
    embedder.gate.clear()
    slow = asyncio.create_task(jobs.embed_due(room))
    await asyncio.wait_for(embedder.called.wait(), 5)
    await due_now(psql)
    quicker = FakeEmbedder()
    async with embedding_room(database, quicker) as other:
        assert await jobs.embed_due(other)
    assert len(quicker.calls) == len(embedder.calls) == 1
    embedder.gate.set()
    await slow
    assert (await told(psql, project.slug)).count(("receipt.v1.searchable", None)) == 1
    embedded = await psql.fetchval(
        "select count(*) from memcube.changes where project_id = $1 and type = 'memory.v1.embedded'", project.slug
    )
    assert embedded == 1


async def test_a_slow_embedder_keeps_its_work_by_renewing_the_lease(
    room: Room,
    embedder: FakeEmbedder,
    ingestion: IngestionRoom,
    project: HouseProject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(jobs, "RENEW_SECONDS", 0.1)
    await learn(ingestion, project.slug, "Takes its time.")
    embedder.gate.clear()
    slow = asyncio.create_task(jobs.embed_due(room))
    await asyncio.wait_for(embedder.called.wait(), 5)
    until = asyncio.get_running_loop().time() + 1.5
    while asyncio.get_running_loop().time() < until:
        assert not await asyncio.wait_for(jobs.embed_due(room), 1), "nobody else may take it"
    embedder.gate.set()
    assert await slow
    assert len(embedder.calls) == 1


async def test_something_unforeseen_is_tried_again_and_given_up_after_ten_times(
    room: Room, embedder: FakeEmbedder, ingestion: IngestionRoom, psql: Psql, project: HouseProject
) -> None:
    [memory_id] = await learn(ingestion, project.slug, "Trouble.")
    for attempt in range(1, jobs.MAX_ATTEMPTS + 1):
        assert await states(psql, project.slug) == {memory_id: ("pending", None)}, attempt
        embedder.failures.append(RuntimeError("canary"))
        await due_now(psql)
        await jobs.embed_due(room)
    assert await states(psql, project.slug) == {memory_id: ("failed", "the embedder failed: RuntimeError")}
    assert await waiting(psql, project.slug) == 0


async def test_one_text_that_breaks_the_model_does_not_cost_its_neighbours_their_vectors(
    room: Room, embedder: FakeEmbedder, ingestion: IngestionRoom, psql: Psql, project: HouseProject
) -> None:
    """A surprise inside the model is no refusal: which text it was is not said."""
    ids = await learn(ingestion, project.slug, "Fine.", "Breaks it.", "Fine too.")
    inner = embedder._outcome  # pyright: ignore[reportPrivateUsage]

    def breaks(index: int, text: str) -> object:
        if text == "Breaks it.":
            raise RuntimeError("the model has crashed")
        return inner(index, text)

    embedder._outcome = breaks  # type: ignore[method-assign]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    for _ in range(jobs.MAX_ATTEMPTS):
        await due_now(psql)
        await jobs.embed_due(room)
    result = await states(psql, project.slug)
    assert result[ids[0]] == result[ids[2]] == ("ready", None)
    assert result[ids[1]][0] == "failed"


async def test_a_vector_is_only_saved_for_the_project_of_the_transaction(
    room: Room, embedder: FakeEmbedder, ingestion: IngestionRoom, psql: Psql, database: HouseDatabase
) -> None:
    mine, yours = await database.project(), await database.project()
    [foreign] = await learn(ingestion, yours.slug, "Not mine.")
    [value] = await embedder.embed(["Not mine."])
    async with room.db.transaction(Principal.worker("embedding", mine.slug)) as tx:
        vector = NewVector(foreign, pack("Not mine.").checksum, value)
        saved = await save_vectors(
            tx, project=mine.slug, generation=room.models.current.generation, model="fake", vectors=[vector]
        )
    assert saved == set()
    async with room.db.transaction(Principal.worker("embedding", mine.slug)) as tx:
        saved = await save_vectors(
            tx, project=yours.slug, generation=room.models.current.generation, model="fake", vectors=[vector]
        )
    assert saved == set()
    assert await states(psql, yours.slug) == {foreign: ("pending", None)}


async def test_a_model_keeps_its_number_and_another_gets_its_own(room: Room) -> None:
    async def number(name: str, fingerprint: str) -> int:
        async with room.db.transaction(Principal.worker("embedding")) as tx:
            return await register_model(tx, name=name, dimensions=64, fingerprint=fingerprint)

    numbers = await asyncio.gather(*(number("racing", "one") for _ in range(5)))
    assert len(set(numbers)) == 1
    assert await number("racing", "two") != numbers[0]
    assert await number("fake", "fake/64") == room.models.current.generation


async def test_a_bell_wakes_the_room_before_its_next_look(
    room: Room, ingestion: IngestionRoom, psql: Psql, project: HouseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 60.0)
    await room.bus.client.flush()
    async with task(jobs.embed_waiting(room), "embed-waiting"):
        await learn(ingestion, project.slug, "Wake up.")
        await ingestion.bus.ring(subjects.BELL_MEMORIES)

        async def ready() -> bool:
            return set((await states(psql, project.slug)).values()) == {("ready", None)}

        await eventually(ready, within=5)


async def test_receipts_of_senders_over_http_are_not_announced_on_the_bus(
    room: Room, ingestion: IngestionRoom, psql: Psql, project: HouseProject
) -> None:
    insight = an_insight("Posted.")
    async with ingestion.db.transaction(Principal.worker("ingestion", project.slug)) as tx:
        await insights_store.insert_insights(tx, project=project.slug, via="http", state="accepted", insights=[insight])
        await insights_store.queue_insights(tx, project=project.slug, ids=[insight.id])
    await keep_due(ingestion)
    await drained(room)
    assert await states(psql, project.slug) == {insight.memory_id: ("ready", None)}
    assert await told(psql, project.slug) == []
