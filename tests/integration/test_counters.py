"""What an operation costs where it does not drift: a change that raises a counter must say why."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest_asyncio
from nats.js.api import ConsumerConfig, DeliverPolicy
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, ConfigDict, SecretStr
from tests.fakes.counting_postgres import CountingPostgres
from tests.fakes.embedder import FakeEmbedder
from tests.fakes.embedding_room import DIMENSIONS, FakeEmbeddingRoom
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.rooms import models_of

from memcube_common.bus import Bell, Bus
from memcube_common.bus.connection import Letter
from memcube_common.contracts.events import InsightSubmitted
from memcube_common.contracts.fields import DEFAULT_GOVERNANCE
from memcube_common.db import Database
from memcube_common.ids import new_id
from memcube_common.mailbox import work
from memcube_common.memories.domain import NewMemory
from memcube_common.memories.store import NewVector, insert_memories, read_texts, save_vectors
from memcube_common.security.principal import Principal
from memcube_common.testing.openai_server import hashed_vector
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_embedding.embedders.protocol import Vector
from memcube_embedding.embedders.validation import unit_vector
from memcube_embedding.jobs import embed_due
from memcube_embedding.room import Room as EmbeddingRoom
from memcube_embedding.settings import EmbeddingSettings
from memcube_gateway.patience import Patience
from memcube_gateway.store import Intent
from memcube_gateway.together import Making
from memcube_ingestion.handlers import on_insights_submitted
from memcube_ingestion.room import Room as IngestionRoom
from memcube_ingestion.room import open_room as open_ingestion
from memcube_ingestion.settings import IngestionSettings

BASELINE = Path(__file__).parents[2] / "benchmarks" / "counters.json"
REASON = "MEMCUBE_COUNTERS_REASON"
REPEATS = 5
WAL_GROWTH = 1.10
EXACT = ("statements", "round_trips", "transactions", "messages", "embedder_calls")
AGENT = "counter"


class Counters(BaseModel):
    """What one operation costs once everything is warm. `reason` says why it is what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statements: int
    round_trips: int
    transactions: int
    messages: int
    embedder_calls: int
    wal_bytes: int
    reason: str = ""


@dataclass
class Meter:
    """Measures operations through the counting door; `admin` looks at the server from beside it."""

    door: CountingPostgres
    admin: asyncpg.Connection[asyncpg.Record]

    async def measure(
        self,
        operation: Callable[[], Awaitable[object]],
        *,
        prepare: Callable[[], Awaitable[object]] | None = None,
        messages: Callable[[], int],
        embedder_calls: Callable[[], int] = lambda: 0,
    ) -> Counters:
        """Each count's smallest value over a few repeats (beyond it is first use), and the middle one of the WAL, which
        also holds what the server does by itself.
        """
        seen: list[Counters] = []
        for _ in range(REPEATS):
            if prepare is not None:
                await prepare()
            passed, sent, asked, wal = self.door.passed, messages(), embedder_calls(), await self._wal()
            await operation()
            cost = self.door.passed - passed
            seen.append(
                Counters(
                    **asdict(cost),
                    messages=messages() - sent,
                    embedder_calls=embedder_calls() - asked,
                    wal_bytes=await self._wal() - wal,
                )
            )
        least = {name: min(getattr(one, name) for one in seen) for name in EXACT}
        return Counters(**least, wal_bytes=sorted(one.wal_bytes for one in seen)[REPEATS // 2])

    async def _wal(self) -> int:
        return int(await self.admin.fetchval("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


@pytest_asyncio.fixture(scope="module")
async def meter(database: HouseDatabase) -> AsyncGenerator[Meter]:
    admin = await asyncpg.connect(database.admin_dsn, timeout=10)
    try:
        async with CountingPostgres.before(database.admin_dsn) as door:
            yield Meter(door, admin)
    finally:
        await admin.close()


@pytest_asyncio.fixture(scope="module")
async def counted_gateway(database: HouseDatabase, meter: Meter) -> AsyncGenerator[RunningGateway]:
    through = SecretStr(meter.door.through(database.dsn("gateway")))
    async with running_gateway(database, postgres_dsn=through) as gateway:
        yield gateway


@pytest_asyncio.fixture
async def client(counted_gateway: RunningGateway, project: HouseProject) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"{counted_gateway.url}/v1/projects/{project.slug}/", headers=project.authorization, timeout=15
    ) as client:
        yield client


@pytest_asyncio.fixture
async def bus(database: HouseDatabase) -> AsyncGenerator[Bus]:
    bus = await Bus.open(database.nats_url, name="counters")
    yield bus
    await bus.close()


async def test_accepting_a_batch_of_50_over_http(
    client: httpx.AsyncClient, counted_gateway: RunningGateway, meter: Meter
) -> None:
    async def accept() -> None:
        answer = await client.post(
            "insights",
            json={"insights": [insight(number) for number in range(50)]},
            headers={"Idempotency-Key": str(new_id())},
        )
        assert answer.status_code == 202

    measured = await meter.measure(accept, messages=sent_by(counted_gateway.room.bus))
    hold_against_baseline("accept_50_over_http", measured)


async def test_asking_for_a_receipt(client: httpx.AsyncClient, counted_gateway: RunningGateway, meter: Meter) -> None:
    receipt = (await client.post("insights", json=insight(1))).json()["id"]

    async def ask() -> None:
        assert (await client.get(f"receipts/{receipt}")).json()["state"] == "accepted"

    measured = await meter.measure(ask, messages=sent_by(counted_gateway.room.bus))
    hold_against_baseline("one_receipt", measured)


async def test_making_one_memory(client: httpx.AsyncClient, counted_gateway: RunningGateway, meter: Meter) -> None:
    async def make() -> None:
        answer = await client.post(
            "memories", json={"content": "The cache is warmed first."}, headers={"Idempotency-Key": str(new_id())}
        )
        assert answer.status_code == 201

    measured = await meter.measure(make, messages=sent_by(counted_gateway.room.bus))
    hold_against_baseline("make_one_memory", measured)


async def test_making_64_memories_that_wait_together(
    counted_gateway: RunningGateway, project: HouseProject, meter: Meter
) -> None:
    """Sixty-four requests of one principal that meet share one transaction."""
    gathering = counted_gateway.room.making
    principal = Principal.user(project.slug, "counter", "SERVICE")

    async def make() -> None:
        asked = [
            gathering.ask(principal, Patience(5), Making(memory(number), Intent("make", str(new_id()), b"x", None)))
            for number in range(64)
        ]
        answers = await asyncio.gather(*asked)
        assert {answer.status for answer in answers} == {201}

    measured = await meter.measure(make, messages=sent_by(counted_gateway.room.bus))
    hold_against_baseline("make_64_at_once", measured)


async def test_reading_one_memory(client: httpx.AsyncClient, counted_gateway: RunningGateway, meter: Meter) -> None:
    made = (await client.post("memories", json={"content": "The cache is warmed first."})).json()["id"]

    async def read() -> None:
        assert (await client.get(f"memories/{made}")).status_code == 200

    measured = await meter.measure(read, messages=sent_by(counted_gateway.room.bus))
    hold_against_baseline("read_one_memory", measured)


async def test_one_hybrid_query(
    client: httpx.AsyncClient,
    counted_gateway: RunningGateway,
    database: HouseDatabase,
    project: HouseProject,
    embedding_room: FakeEmbeddingRoom,
    meter: Meter,
) -> None:
    await fill(database, project, 40, generation=embedding_room.generation)

    async def query() -> None:
        answer = (await client.post("memories/query", json={"text": "which pipeline broke in step 7?"})).json()
        assert len(answer["memories"]) == 10
        assert answer["mode"] == "hybrid"
        assert answer["degraded"] is None

    measured = await meter.measure(
        query, messages=sent_by(counted_gateway.room.bus), embedder_calls=lambda: len(embedding_room.asked)
    )
    hold_against_baseline("one_hybrid_query", measured)


async def test_keeping_500_insights_from_the_bus(
    database: HouseDatabase, project: HouseProject, bus: Bus, meter: Meter
) -> None:
    subject = InsightSubmitted.subject(project.slug, AGENT)
    jetstream = bus.client.jetstream(timeout=10)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.NEW, filter_subject=subject, max_ack_pending=1000)
    consumer = await jetstream.pull_subscribe(subject, stream="INSIGHTS", config=config)

    async def publish() -> None:
        bodies = [insight(number) for number in range(500)]
        await bus.publish_all("INSIGHTS", [Letter(subject, orjson.dumps(b), str(b["id"])) for b in bodies])
        messages.clear()
        while len(messages) < 500:
            messages.extend(await consumer.fetch(500 - len(messages), timeout=5))

    messages: list[object] = []
    settings = IngestionSettings(
        postgres_dsn=SecretStr(meter.door.through(database.dsn("ingestion"))), nats_url=SecretStr(database.nats_url)
    )
    async with open_ingestion(settings) as room:
        measured = await meter.measure(
            lambda: keep(messages, room),
            prepare=publish,
            messages=lambda: sent_by(bus)() + sent_by(room.bus)(),
        )
    hold_against_baseline("keep_500_from_the_bus", measured)


async def keep(messages: list[object], room: IngestionRoom) -> None:
    await on_insights_submitted(messages, room)  # pyright: ignore[reportArgumentType]  (fetched: they are Msg)


async def test_embedding_64_memories(database: HouseDatabase, project: HouseProject, bus: Bus, meter: Meter) -> None:
    embedder = FakeEmbedder(dimensions=384, max_batch=32)
    through = meter.door.through(database.dsn("embedding"))
    db = await Database.open(through, room="embedding", size=2)
    try:
        models = models_of(db, embedder)
        await models.begin()
        registry = CollectorRegistry()
        room = EmbeddingRoom(
            settings=EmbeddingSettings(postgres_dsn=SecretStr(through), nats_url=SecretStr(database.nats_url)),
            db=db,
            bus=bus,
            models=models,
            memories_bell=Bell(),
            registry=registry,
            embedded=Counter("embedded", "Given a vector.", registry=registry),
            refused=Counter("refused", "Refused.", registry=registry),
            put_off=Counter("put_off", "Put off.", registry=registry),
            moved=Counter("moved", "Moved.", registry=registry),
        )

        async def wait_for_vectors() -> None:
            await meter.admin.execute("delete from memcube.work_queue")
            await fill(database, project, 64)

        async def embed() -> None:
            while await embed_due(room):
                pass

        measured = await meter.measure(
            embed, prepare=wait_for_vectors, messages=sent_by(bus), embedder_calls=lambda: len(embedder.calls)
        )
    finally:
        await db.close()
    hold_against_baseline("embed_64", measured)


def insight(number: int) -> dict[str, object]:
    """An insight of a usual length with a fresh id, said in words that nobody said before."""
    build, identity = number % 7, new_id()
    run = identity.hex[-12:]
    text = f"The release pipeline broke in step {number} of {run}: the cache of build {build} was cold; warm it first."
    return {"id": str(identity), "insight": text, "tags": ["pipeline", f"build-{build}"]}


async def fill(database: HouseDatabase, project: HouseProject, count: int, *, generation: int | None = None) -> None:
    """Put memories into `project`; with a generation also their vectors, else they wait for them."""
    db = await Database.open(database.dsn("embedding"), room="filler", size=1)
    memories = [memory(number) for number in range(count)]
    ids = [one.id for one in memories]
    try:
        async with db.transaction(Principal.worker("embedding", project.slug)) as tx:
            await insert_memories(tx, project=project.slug, memories=memories)
            if generation is not None:
                vectors = [
                    NewVector(text.memory_id, text.content_hash, vector_of(text.text))
                    for text in await read_texts(tx, project=project.slug, ids=ids)
                ]
                await save_vectors(tx, project=project.slug, generation=generation, model="fake", vectors=vectors)
                await work.finish(tx, kind="embedding", project=project.slug, ids=ids)
    finally:
        await db.close()


def vector_of(text: str) -> Vector:
    """The vector that the stand-in for the embedding room gives the same text."""
    return unit_vector(hashed_vector(text, DIMENSIONS), dimensions=DIMENSIONS, index=0)


def memory(number: int) -> NewMemory:
    given = insight(number)
    identity = UUID(str(given["id"]))
    return NewMemory(
        id=identity,
        label=f"step {number}",
        content=str(given["insight"]),
        origin="counters",
        provenance_id=identity,
        tags=("pipeline",),
        governance=DEFAULT_GOVERNANCE,
        metadata="{}",
        priority="WARM",
        created_by=AGENT,
        created_at=datetime.now(UTC),
    )


def sent_by(bus: Bus) -> Callable[[], int]:
    """How many messages a connection has sent so far: bells, asks, acknowledgements."""
    return lambda: int(bus.client.stats["out_msgs"])


def hold_against_baseline(operation: str, measured: Counters) -> None:
    """Fail where a counter differs from the baseline, or the WAL grew by more than a tenth.

    With MEMCUBE_COUNTERS_REASON in the environment, the baseline is rewritten with that reason instead.
    """
    kept = {name: Counters.model_validate(one) for name, one in orjson.loads(BASELINE.read_bytes()).items()}
    reason = os.environ.get(REASON, "").strip()
    if reason:
        kept[operation] = measured.model_copy(update={"reason": reason})
        text = orjson.dumps({name: one.model_dump() for name, one in sorted(kept.items())}, option=orjson.OPT_INDENT_2)
        BASELINE.write_bytes(text + b"\n")
        return
    expected = kept.get(operation)
    how = (
        f"If this is meant, run {REASON}='why it costs this' pytest {Path(__file__).name} -k '<the test>', "
        f"which rewrites benchmarks/{BASELINE.name} with that reason, and commit the file."
    )
    assert expected is not None, f"{operation} has no baseline. {how}"
    assert expected.reason, f"the baseline of {operation} says no reason. {how}"
    different = [
        f"{name}: {before} → {now}"
        for name in EXACT
        if (before := getattr(expected, name)) != (now := getattr(measured, name))
    ]
    if measured.wal_bytes > expected.wal_bytes * WAL_GROWTH:
        different.append(f"wal_bytes: {expected.wal_bytes} → {measured.wal_bytes}, more than a tenth")
    assert not different, f"{operation} costs something else than before: {'; '.join(different)}. {how}"
