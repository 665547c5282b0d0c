"""How fast insights that agents publish over NATS are stored.

10,000 insights in atomic batches of 1,000 into the stream, from the first publish until the last message is
acknowledged, which ingestion does after the commit; once with the embedding room halted and once with it running (at
its low priority). Every insight is counted afterwards.
Raw limit: the same rows through the same `insert_memories`, 250 to a transaction, on one connection.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from benchmarks import machine
from benchmarks.figures import Figure, least
from benchmarks.insights import AGENT, bodies
from benchmarks.stage import Options, Stage, until
from memcube_common.bus import Bus
from memcube_common.bus.accounts import INSIGHTS_DURABLE
from memcube_common.bus.connection import Letter
from memcube_common.contracts.events import InsightSubmitted
from memcube_common.insights.domain import distil, from_event
from memcube_common.memories.store import insert_memories
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseProject

PORTION = 250


@dataclass(frozen=True, slots=True)
class Stored:
    """What one pass took, in seconds, and what it left behind."""

    seconds: float
    publishing: float
    held: int
    used: dict[str, float]


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure storing over the bus; see the module."""
    count = options.sized(10_000, multiple=PORTION)
    with stage.embedding_stopped():
        limit = count / await _raw_seconds(stage, count, options.seed)
        alone = await _store(stage, await stage.project("nats"), count, options.seed)
    beside = await _store(stage, await stage.project("nats"), count, options.seed + 1)
    of = "the same rows through insert_memories, 250 to a transaction, one connection"
    budgets = (least("0.1", 3000), least("B4", 5000))
    figures = [
        Figure(
            name="stored over NATS, embedding halted", value=count / alone.seconds, unit="insights/s",
            limit=limit, limit_of=of, budgets=budgets,
        ),
        Figure(
            name="stored over NATS, embedding running", value=count / beside.seconds, unit="insights/s",
            limit=limit, limit_of=of, budgets=budgets,
        ),
        Figure(
            name="processor time to store, embedding halted",
            value=1000 * sum(alone.used[name] for name in ("ingestion", "postgres", "nats")) / count, unit="ms/insight",
        ),
    ]  # fmt: skip
    notes = [
        f"{stored.held:,} memories of {count:,} published; publishing took {stored.publishing:.1f} s of "
        f"{stored.seconds:.1f} s; processor seconds: "
        + ", ".join(f"{name} {seconds:.1f}" for name, seconds in stored.used.items() if seconds >= 0.05)
        for stored in (alone, beside)
    ]
    return figures, notes


async def _store(stage: Stage, project: HouseProject, count: int, seed: int) -> Stored:
    subject = InsightSubmitted.subject(project.slug, AGENT)
    letters = [Letter(subject, orjson.dumps(body), str(body["id"])) for body in bodies(count, seed)]
    async with contextlib.AsyncExitStack() as opened:
        bus = await Bus.open(stage.nats, name="benchmarks")
        opened.push_async_callback(bus.close)
        jetstream = bus.client.jetstream(timeout=10)

        async def is_settled() -> bool:
            consumer = await jetstream.consumer_info("INSIGHTS", INSIGHTS_DURABLE)
            return not consumer.num_pending and not consumer.num_ack_pending

        await until(is_settled, within=60)
        before = machine.processor_seconds(stage.stack)
        began = time.perf_counter()
        await bus.publish_all("INSIGHTS", letters, timeout=60.0)
        published = time.perf_counter()
        await until(is_settled, within=120, every=0.01)
        ended = time.perf_counter()
        used = machine.spent(before, machine.processor_seconds(stage.stack))
        async with stage.admin() as admin:
            held = await admin.fetchval("select count(*) from memories where project_id = $1", project.slug)
    await stage.forget_embedding(project)
    await stage.feed_settled()
    return Stored(ended - began, published - began, held, used)


async def _raw_seconds(stage: Stage, count: int, seed: int) -> float:
    project = await stage.project("raw")
    events = [InsightSubmitted.model_validate(body) for body in bodies(count, seed)]
    moment = datetime.now(UTC)
    memories = [distil(from_event(event, AGENT), moment) for event in events]
    async with stage.database("ingestion") as database:
        began = time.perf_counter()
        for start in range(0, count, PORTION):
            async with database.transaction(Principal.worker("ingestion", project.slug)) as tx:
                await insert_memories(tx, project=project.slug, memories=memories[start : start + PORTION])
        seconds = time.perf_counter() - began
    await stage.forget_embedding(project)
    await stage.feed_settled()
    return seconds
