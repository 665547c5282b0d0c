"""Rooms built in the test's own process, over the module's database and the real bus."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import nats
from nats.aio.client import Client
from prometheus_client import CollectorRegistry, Counter
from pydantic import SecretStr
from tests.fakes.embedder import FakeEmbedder

from memcube_common.bus import Bus, Subscribers
from memcube_common.contracts import subjects
from memcube_common.contracts.events import InsightSubmitted
from memcube_common.contracts.fields import DEFAULT_GOVERNANCE
from memcube_common.db import Database
from memcube_common.db.pool import Row
from memcube_common.embedded import EmbeddedNats, EmbeddedPostgres
from memcube_common.frame import task
from memcube_common.ids import new_id
from memcube_common.insights.domain import Insight
from memcube_common.testing.servers import HouseDatabase, Servers, provisioned_template
from memcube_embedding.embedders.build import Identity, UnknownModel
from memcube_embedding.embedders.microbatch import MicroBatcher
from memcube_embedding.models import Models
from memcube_embedding.room import Room as EmbeddingRoom
from memcube_embedding.settings import EmbeddingSettings
from memcube_ingestion.handlers import on_insights_submitted
from memcube_ingestion.room import Room as IngestionRoom
from memcube_ingestion.room import open_room as open_ingestion_room
from memcube_ingestion.settings import IngestionSettings
from memcube_ingestion.waiting import Line, claim_due, work_on


@contextlib.asynccontextmanager
async def ingestion_room(
    house: HouseDatabase, *, statement_timeout: float = 10.0, batch_size: int = 500, **more: Any
) -> AsyncGenerator[IngestionRoom]:
    """The ingestion room, opened as its process opens it."""
    settings = IngestionSettings(
        postgres_dsn=SecretStr(house.dsn("ingestion")),
        nats_url=SecretStr(house.nats_url),
        statement_timeout=statement_timeout,
        batch_size=batch_size,
        **more,
    )
    async with open_ingestion_room(settings) as room:
        yield room


@contextlib.asynccontextmanager
async def hearing(room: IngestionRoom, *, subject: str = subjects.INSIGHTS, durable: str = "") -> AsyncGenerator[str]:
    """The room's subscriber, as its process builds it, under a durable name of the test's own."""
    durable = durable or f"test-{uuid4().hex[:12]}"
    subscribers = Subscribers(room.settings.nats_url.get_secret_value(), "ingestion")
    subscribers.on_batch(
        functools.partial(on_insights_submitted, room=room),
        stream="INSIGHTS",
        subject=subject,
        durable=durable,
        size=room.settings.batch_size,
        linger=room.settings.linger,
    )
    await subscribers.open()
    try:
        yield durable
    finally:
        await subscribers.close()


async def work_due(line: Line, room: IngestionRoom) -> bool:
    """One claim's worth of ingestion's waiting work, all of it at once; True if there was any."""
    found = await claim_due(line, line.at_once, room)
    await asyncio.gather(*(work_on(line, claim, room) for claim in found))
    return bool(found)


@contextlib.asynccontextmanager
async def embedding_room(
    house: HouseDatabase, embedder: FakeEmbedder, *targets: FakeEmbedder
) -> AsyncGenerator[EmbeddingRoom]:
    """The embedding room around `embedder`, which can also open `targets`."""
    settings = EmbeddingSettings(postgres_dsn=SecretStr(house.dsn("embedding")), nats_url=SecretStr(house.nats_url))
    async with contextlib.AsyncExitStack() as stack:
        db = await opened(house, "embedding", stack)
        bus = await Bus.open(house.nats_url, name="embedding")
        stack.push_async_callback(bus.close)
        models = models_of(db, embedder, *targets)
        stack.push_async_callback(models.aclose)
        await models.begin()
        await stack.enter_async_context(task(models.keep_looking(), "look-which-model"))
        registry = CollectorRegistry()
        yield EmbeddingRoom(
            settings=settings,
            db=db,
            bus=bus,
            models=models,
            memories_bell=await bus.bell(subjects.BELL_MEMORIES),
            registry=registry,
            embedded=Counter("memcube_memories_embedded", "Ready.", registry=registry),
            refused=Counter("memcube_memories_refused", "Refused.", registry=registry),
            put_off=Counter("memcube_embeddings_put_off", "Put off.", registry=registry),
            moved=Counter("memcube_vectors_moved", "Moved.", registry=registry),
        )


def models_of(db: Database, embedder: FakeEmbedder, *targets: FakeEmbedder) -> Models:
    """The models of a room that settings give `embedder`, and that can also open `targets`."""
    known = {one.model.fingerprint: one for one in (embedder, *targets)}

    async def build(identity: Identity) -> FakeEmbedder:
        if identity.fingerprint not in known:
            raise UnknownModel("this model is not carried any more")
        known[identity.fingerprint].closed = False
        return known[identity.fingerprint]

    return Models(
        db,
        configured=identity_of(embedder),
        identify=lambda target: next(one for one in map(identity_of, known.values()) if one.target == target),
        build=build,
        batcher=MicroBatcher,
    )


def identity_of(embedder: FakeEmbedder) -> Identity:
    """How a migration names a fake: by its dimensions."""
    model = embedder.model
    return Identity(f"openai:{model.name}:{model.dimensions}", model.name, model.dimensions, model.fingerprint)


async def opened(
    house: HouseDatabase,
    room: str,
    stack: contextlib.AsyncExitStack,
    *,
    size: int = 6,
    statement_timeout: float = 10.0,
    connect_timeout: float = 1.0,
) -> Database:
    """A pool of `room`, closed with `stack`."""
    db = await Database.open(
        house.dsn(room), room=room, size=size, statement_timeout=statement_timeout, connect_timeout=connect_timeout
    )
    stack.push_async_callback(db.close)
    return db


@contextlib.asynccontextmanager
async def admin(house: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[Row]]:
    """A superuser's connection, such as psql's."""
    connection = await asyncpg.connect(house.admin_dsn, timeout=10)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@contextlib.asynccontextmanager
async def bus_client(url: str) -> AsyncGenerator[Client]:
    """An agent's connection to NATS."""
    client = await nats.connect(url, connect_timeout=5)
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def own_house(folder: Path) -> AsyncGenerator[tuple[Servers, HouseDatabase]]:
    """Servers and a provisioned database of one's own, to be stopped, killed and frozen."""
    name = f"memcube-faults-{uuid4().hex[:8]}"
    async with (
        # What is committed reaches the system's cache: that survives a killed server, if not a power cut.
        EmbeddedPostgres(
            folder / "postgres", name=name, durable=False, settings={"synchronous_commit": "on"}
        ) as postgres,
        EmbeddedNats(folder / "nats", name=name) as server,
    ):
        servers = Servers(postgres.dsn(), server.url, postgres, server)
        async with provisioned_template(servers) as house:
            yield servers, house


def submitted(text: str, **fields: object) -> InsightSubmitted:
    """An insight as an agent publishes it."""
    return InsightSubmitted.model_validate({"id": new_id(), "insight": text, **fields})


def an_insight(
    text: str,
    *,
    agent: str = "tester",
    tags: tuple[str, ...] = (),
    metadata: str = "{}",
    governance: str = DEFAULT_GOVERNANCE,
) -> Insight:
    """An insight as the store takes it."""
    return Insight(
        id=new_id(),
        agent_id=agent,
        insight=text,
        label=None,
        tags=tags,
        evidence_refs=(),
        sentiment=None,
        priority="WARM",
        governance=governance,
        metadata=metadata,
    )
