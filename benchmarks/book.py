"""How fast memories are made and read over HTTP by their callers: one by one, and a hundred to a call.

4,000 memories made one to a POST, each with an Idempotency-Key, by one caller and by sixteen at once; 4,000 reads of
one memory each, by one caller and by sixteen; 100 batches of 100 by sixteen. All under row-level security, durable when
answered. Sixteen callers never pause: on two cores that also hold Postgres and the callers, they show what a full house
feels like; one caller shows what a call takes. "Steady": sixteen connections again, but so many calls a second at fixed
moments whether or not earlier ones are done, each timed from its moment: what a house in use feels like. Making is also
measured with the embedding room halted, since the peers' figure was taken with an embedder that costs nothing.
Raw limits: the same memories by asyncpg as the administrator, one transaction each; a hundred rows of each table in one
transaction; the same read by its primary key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from uuid import UUID

import orjson

from benchmarks import machine
from benchmarks.figures import Figure, least, most, percentile
from benchmarks.stage import Connection, Driven, Options, Stage, drive
from benchmarks.texts import notes
from benchmarks.wire import Wire
from memcube_common.ids import new_id

CALLERS = 16
BATCH = 100
STEADY = {"POST": 100, "GET": 400, "batch": 5}
"""Calls a second: about an eighth of what sixteen callers get who never pause."""
PEER = 337
"""Adds a second of the quickest of the systems measured beside MemCube (in process, without HTTP)."""


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure making and reading; see the module."""
    count = options.sized(4_000, at_least=BATCH * 2)
    texts = notes(count, options.seed)
    bodies = [orjson.dumps({"content": note.text, "tags": list(note.tags)}) for note in texts]
    raw_made, raw_read, raw_batched = await _raw(stage, [note.text for note in texts])
    made: dict[int, Driven] = {}
    read: dict[int, Driven] = {}
    used: dict[str, float] = {}
    project = await stage.project("book")
    for callers in (1, CALLERS):
        some = bodies if callers > 1 else bodies[: count // 4]
        before = machine.processor_seconds(stage.stack)
        async with stage.wires(project, callers) as wires:
            made[callers] = await drive([_making(wire) for wire in wires], some)
        used = machine.spent(before, machine.processor_seconds(stage.stack))
        await stage.forget_embedding(project)
        await stage.feed_settled()
    async with stage.admin() as admin:
        rows = await admin.fetch("select id from memories where project_id = $1 limit $2", project.slug, count)
        held = await admin.fetchval("select count(*) from memories where project_id = $1", project.slug)
    ids: list[UUID] = [row["id"] for row in rows]
    halted = await stage.project("halted")
    with stage.embedding_stopped():
        async with stage.wires(halted, CALLERS) as wires:
            alone = await drive([_making(wire) for wire in wires], bodies)
        await stage.forget_embedding(halted)
    await stage.feed_settled()
    for callers in (1, CALLERS):
        async with stage.wires(project, callers) as wires:
            read[callers] = await drive([_reading(wire) for wire in wires], ids if callers > 1 else ids[: count // 4])
    batches = [
        orjson.dumps({"memories": [{"content": note.text, "tags": list(note.tags)} for note in notes(BATCH, seed)]})
        for seed in range(options.sized(100, at_least=CALLERS))
    ]
    async with stage.wires(project, CALLERS) as wires:
        batched = await drive([_batching(wire) for wire in wires], batches)
    await stage.forget_embedding(project)
    await stage.feed_settled()
    async with stage.wires(project, CALLERS) as wires:
        steady_made = await drive([_making(wire) for wire in wires], bodies[: count // 8], every=1 / STEADY["POST"])
        steady_read = await drive([_reading(wire) for wire in wires], ids[: count // 2], every=1 / STEADY["GET"])
        steady_batched = await drive([_batching(wire) for wire in wires], batches[:40], every=1 / STEADY["batch"])
    await stage.forget_embedding(project)
    await stage.feed_settled()
    figures = [
        Figure(
            name="made one by one, 16 at once", value=made[CALLERS].rate, unit="memories/s",
            limit=raw_made.rate, limit_of="the same memories, asyncpg, one to a transaction, 16 connections",
            budgets=(least("3 × the quickest peer", 3 * PEER),),
        ),
        Figure(
            name="the same, embedding halted", value=alone.rate, unit="memories/s", limit=raw_made.rate,
            budgets=(least("3 × the quickest peer", 3 * PEER),),
        ),
        Figure(name=f"one POST p95, steady {STEADY['POST']}/s", value=percentile(steady_made.times, 0.95), unit="ms",
               budgets=(most("create", 8),)),
        Figure(name="one POST p95, 16 at once", value=percentile(made[CALLERS].times, 0.95), unit="ms",
               limit=percentile(raw_made.times, 0.95), limit_of="one such transaction", budgets=(most("create", 8),)),
        Figure(name="one POST p50, alone", value=percentile(made[1].times, 0.5), unit="ms"),
        Figure(name="one POST p95, alone", value=percentile(made[1].times, 0.95), unit="ms"),
        Figure(name="processor time of the gateway", value=1000 * used["gateway"] / len(made[CALLERS].times),
               unit="ms/memory"),
        Figure(name="processor time of Postgres", value=1000 * used["postgres"] / len(made[CALLERS].times),
               unit="ms/memory"),
        Figure(name="read one by one, 16 at once", value=read[CALLERS].rate, unit="reads/s",
               limit=raw_read.rate, limit_of="the same rows by primary key, asyncpg, 16 connections"),
        Figure(name=f"one GET p95, steady {STEADY['GET']}/s", value=percentile(steady_read.times, 0.95), unit="ms",
               budgets=(most("get", 4),)),
        Figure(name="one GET p95, 16 at once", value=percentile(read[CALLERS].times, 0.95), unit="ms",
               limit=percentile(raw_read.times, 0.95), limit_of="one such read", budgets=(most("get", 4),)),
        Figure(name="one GET p50, alone", value=percentile(read[1].times, 0.5), unit="ms"),
        Figure(name="one GET p95, alone", value=percentile(read[1].times, 0.95), unit="ms"),
        Figure(name=f"batch of 100 p95, steady {STEADY['batch']}/s", value=percentile(steady_batched.times, 0.95),
               unit="ms", budgets=(most("batch of 100", 60),)),
        Figure(name="batch of 100 p95, 16 at once", value=percentile(batched.times, 0.95), unit="ms",
               budgets=(most("batch of 100", 60),)),
        Figure(name="made in batches of 100, 16 at once", value=batched.rate * BATCH, unit="memories/s",
               limit=raw_batched.rate * BATCH, limit_of="a hundred in one transaction", budgets=(least("B3", 5_000),)),
    ]  # fmt: skip
    expected = len(made[1].times) + len(made[CALLERS].times)
    notes_ = [f"{held:,} memories held of {expected:,} answered with 201; {made[CALLERS].refused} refused"]
    return figures, notes_


def _making(wire: Wire) -> Callable[[bytes], Awaitable[object]]:
    async def make(body: bytes) -> object:
        return await wire.post("memories", body, headers={"Idempotency-Key": str(new_id())})

    return make


def _batching(wire: Wire) -> Callable[[bytes], Awaitable[object]]:
    async def make(body: bytes) -> object:
        return await wire.post("memories/batch", body, headers={"Idempotency-Key": str(new_id())})

    return make


def _reading(wire: Wire) -> Callable[[UUID], Awaitable[object]]:
    async def read(memory_id: UUID) -> object:
        return await wire.get(f"memories/{memory_id}")

    return read


RAW_INSERT = """
with kept as (
  insert into memories (project_id, id, label, type, origin, provenance_id, governance, metadata, priority, created_by,
                        created_at, updated_at)
  values ($1, $2, 'raw', 'PLAINTEXT', 'raw', $2, '{}', '{}', 'WARM', 'raw', now(), now()) returning id
), words as (
  insert into memory_text (project_id, memory_id, tsv) select $1, id, to_tsvector('english', $3) from kept
)
insert into memory_payloads (project_id, memory_id, storage_mode, content, size_bytes, token_count, checksum)
select $1, id, 'INLINE', $3, 1, 1, '\\x00' from kept
"""
RAW_READ = """
select m.*, p.content from memories m join memory_payloads p on p.project_id = m.project_id and p.memory_id = m.id
 where m.project_id = $1 and m.id = $2
"""


async def _raw(stage: Stage, texts: list[str]) -> tuple[Driven, Driven, Driven]:
    """The same rows made, read, and made a hundred at a time, without HTTP, roles, policies or a queue."""
    project = await stage.project("rawbook")
    given = [(new_id(), text) for text in texts]

    def inserting(connection: Connection) -> Callable[[tuple[UUID, str]], Awaitable[object]]:
        return lambda one: connection.execute(RAW_INSERT, project.slug, *one)

    def reading(connection: Connection) -> Callable[[tuple[UUID, str]], Awaitable[object]]:
        return lambda one: connection.fetchrow(RAW_READ, project.slug, one[0])

    def batching(connection: Connection) -> Callable[[list[tuple[UUID, str]]], Awaitable[object]]:
        async def insert(hundred: list[tuple[UUID, str]]) -> None:
            async with connection.transaction():
                await connection.executemany(RAW_INSERT, [(project.slug, *one) for one in hundred])

        return insert

    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(stage.admin(project)) for _ in range(CALLERS)]
        for connection in connections:
            await connection.fetchrow(RAW_READ, project.slug, new_id())
        made = await drive([inserting(connection) for connection in connections], given)
        read = await drive([reading(connection) for connection in connections], given)
        hundreds = [[(new_id(), text) for text in texts[at : at + BATCH]] for at in range(0, len(texts), BATCH)]
        batched = await drive([batching(connection) for connection in connections], hundreds)
        return made, read, batched
