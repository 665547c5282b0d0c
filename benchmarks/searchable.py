"""How soon an insight can be found, at 50 insights a second with the local model.

Insights are posted at fixed moments, 50 a second for 30 s, whether or not earlier ones are done. By words: one in ten
is looked for with a keyword query every 5 ms, from the moment its POST began until a query returns it. By meaning: one
in ten is waited for with its receipt (`?wait=searchable`), and afterwards a semantic query must find it. A subscriber
of server-sent events (the SDK) reads every change: from the time the database wrote it until it was read, and from each
POST until its `memory.v1.embedded` arrived, which is a bound for all insights.
Raw limits: one memory committed through the write model on one connection; one text embedded by the idle model.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from benchmarks.corpus import local_embedder, memory_of
from benchmarks.figures import Figure, most, percentile
from benchmarks.insights import bodies
from benchmarks.stage import Options, Stage, until
from benchmarks.texts import notes
from benchmarks.wire import UnexpectedAnswer, Wire
from memcube import Change, MemCubeClient
from memcube_common.ids import derive
from memcube_common.memories.store import insert_memories
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseProject

RATE = 50
EVERY = 10
CALLERS = 8
_LOST_AFTER = 30.0


@dataclass
class Seen:
    """What was noticed, in milliseconds."""

    accepted: list[float] = field(default_factory=list[float])
    by_words: list[float] = field(default_factory=list[float])
    by_meaning: list[float] = field(default_factory=list[float])
    to_subscriber: list[float] = field(default_factory=list[float])
    embedded_heard: dict[UUID, float] = field(default_factory=dict[UUID, float])
    refused: int = 0
    late: float = 0.0


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure the way of an insight; see the module."""
    count = options.sized(30 * RATE, multiple=EVERY)
    commit, model = await _raw(stage, options.seed)
    project = await stage.project("fresh")
    sent = bodies(count, options.seed)
    memory_ids = [derive(UUID(str(body["id"])), "memory") for body in sent]
    for number, body in enumerate(sent):
        body["insight"] = f"{body['insight']} Note qz{number}zq."
    seen = Seen()
    posted_at: dict[UUID, float] = {}

    async def all_heard() -> bool:
        return len(seen.embedded_heard) >= count - seen.refused

    async with MemCubeClient(stage.gateway, project.key, project.slug) as client:
        ready = asyncio.Event()
        listening = asyncio.create_task(_listen(client, seen, posted_at, ready))
        await asyncio.wait_for(ready.wait(), 10)
        async with stage.wires(project, CALLERS + 4) as wires:
            await _post_all(stage, project, sent, memory_ids, posted_at, seen, wires)
        with contextlib.suppress(TimeoutError):
            await until(all_heard, within=_LOST_AFTER, every=0.05)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        found = 0
        looked = range(5, count, EVERY * max(1, count // (EVERY * 20)))
        for number in looked:
            answer = await client.memories.query(text=str(sent[number]["insight"]), mode="semantic", limit=5)
            found += memory_ids[number] in {memory.id for memory in answer}
    heard = list(seen.embedded_heard.values())
    of_words, of_meaning = "one memory committed on one connection", "one text embedded by the idle model"
    commit95, model95 = percentile(commit, 0.95), percentile(model, 0.95)
    figures = [
        Figure(
            name="insight → found by words, p50", value=percentile(seen.by_words, 0.5), unit="ms",
            limit=percentile(commit, 0.5), limit_of=of_words,
        ),
        Figure(
            name="insight → found by words, p95", value=percentile(seen.by_words, 0.95), unit="ms",
            limit=commit95, limit_of=of_words, budgets=(most("B5", 100),),
        ),
        Figure(
            name="insight → searchable by meaning, p50", value=percentile(seen.by_meaning, 0.5), unit="ms",
            limit=percentile(model, 0.5), limit_of=of_meaning,
        ),
        Figure(
            name="insight → searchable by meaning, p95", value=percentile(seen.by_meaning, 0.95), unit="ms",
            limit=model95, limit_of=of_meaning, budgets=(most("0.1", 1000), most("B5", 1000)),
        ),
        Figure(
            name="insight → subscriber hears it is embedded, p95 of all", value=percentile(heard, 0.95), unit="ms",
            limit=model95, limit_of=of_meaning,
        ),
        Figure(
            name="change → subscriber, p50", value=percentile(seen.to_subscriber, 0.5), unit="ms",
            limit=percentile(commit, 0.5), limit_of=of_words,
        ),
        Figure(
            name="change → subscriber, p95", value=percentile(seen.to_subscriber, 0.95), unit="ms",
            limit=commit95, limit_of=of_words, budgets=(most("B5", 100),),
        ),
        Figure(name="POST of one insight, p95", value=percentile(seen.accepted, 0.95), unit="ms"),
    ]  # fmt: skip
    return figures, [
        f"{count:,} insights at {RATE}/s; {len(heard):,} heard as embedded, {seen.refused} refused; samples: "
        f"{len(seen.by_words)} by words, {len(seen.by_meaning)} by meaning, {len(seen.to_subscriber):,} changes",
        f"semantic queries afterwards found {found} of {len(looked)}",
        f"the generator was at most {seen.late * 1000:.0f} ms behind its plan",
    ]


async def _post_all(
    stage: Stage, project: HouseProject, sent: list[dict[str, object]], memory_ids: list[UUID],
    posted_at: dict[UUID, float], seen: Seen, wires: list[Wire],
) -> None:  # fmt: skip
    """Post on time, look for the samples meanwhile, and return when every sample was found."""
    free: asyncio.Queue[Wire] = asyncio.Queue()
    for wire in wires:
        free.put_nowait(wire)

    @contextlib.asynccontextmanager
    async def borrowed() -> AsyncGenerator[Wire]:
        wire = free.get_nowait() if not free.empty() else None
        wire = wire or await Wire.open(stage.gateway, project=project.slug, key=project.key)
        try:
            yield wire
        finally:
            free.put_nowait(wire)

    async def post(number: int) -> None:
        async with borrowed() as wire:
            began = posted_at[memory_ids[number]] = time.time()
            try:
                await wire.post("insights", orjson.dumps(sent[number]))
            except UnexpectedAnswer:
                seen.refused += 1
                return
            seen.accepted.append((time.time() - began) * 1000)
            if number % EVERY == 0:
                await look_for(wire, number)
            elif number % EVERY == EVERY // 2:
                await wait_for(wire, number)

    async def look_for(wire: Wire, number: int) -> None:
        body = orjson.dumps({"text": f"qz{number}zq", "mode": "keyword", "limit": 1})
        give_up = time.time() + _LOST_AFTER
        while time.time() < give_up:
            if orjson.loads(await wire.post("memories/query", body))["memories"]:
                seen.by_words.append((time.time() - posted_at[memory_ids[number]]) * 1000)
                return
            await asyncio.sleep(0.005)

    async def wait_for(wire: Wire, number: int) -> None:
        receipt = orjson.loads(await wire.get(f"receipts/{sent[number]['id']}?wait=searchable&timeout=30"))
        if receipt["state"] == "searchable":
            seen.by_meaning.append((time.time() - posted_at[memory_ids[number]]) * 1000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(len(sent)):
            ahead = began + number / RATE - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            else:
                seen.late = max(seen.late, -ahead)
            group.create_task(post(number))


async def _listen(client: MemCubeClient, seen: Seen, posted_at: dict[UUID, float], ready: asyncio.Event) -> None:
    position = await client.position()
    ready.set()
    async for change in client.changes(after=position):
        arrived = time.time()
        if not isinstance(change, Change) or change.memory_id is None or change.at is None:
            continue
        if change.memory_id not in posted_at:
            continue
        seen.to_subscriber.append((arrived - change.at.timestamp()) * 1000)
        if change.type == "memory.v1.embedded":
            seen.embedded_heard[change.memory_id] = (arrived - posted_at[change.memory_id]) * 1000


async def _raw(stage: Stage, seed: int) -> tuple[list[float], list[float]]:
    """Milliseconds of one memory committed, and of one text embedded, 50 times each."""
    project = await stage.project("raw")
    made = notes(50, seed)

    async def timed(work: Coroutine[Any, Any, object]) -> float:
        started = time.perf_counter()
        await work
        return (time.perf_counter() - started) * 1000

    async with stage.database("ingestion") as database, local_embedder(stage) as embedder:

        async def commit(number: int) -> None:
            async with database.transaction(Principal.worker("ingestion", project.slug)) as tx:
                await insert_memories(tx, project=project.slug, memories=[memory_of(made[number], datetime.now(UTC))])

        commits = [await timed(commit(number)) for number in range(50)]
        await stage.forget_embedding(project)
        texts = [await timed(embedder.embed([note.text])) for note in made]
    return commits[1:], texts[1:]
