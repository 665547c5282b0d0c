"""How fast insights are accepted over HTTP in batches of 50.

10,000 insights, four callers, each posting its next batch when the last was answered, with an Idempotency-Key as the
SDK sends it; ingestion and embedding work meanwhile, as they do in life. An answer means: committed to disk.
Raw limit: the same rows by asyncpg and unnest, 50 to a transaction, over four bare connections.
Afterwards every insight is counted, and what still waits for its vector is taken off the queue.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from benchmarks import machine
from benchmarks.figures import Figure, least, percentile
from benchmarks.insights import batches, insert_raw
from benchmarks.stage import Options, Stage, drive, until
from benchmarks.wire import Wire
from memcube_common.ids import new_id

SIZE = 50
CALLERS = 4


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure acceptance; see the module."""
    count = options.sized(10_000, multiple=SIZE)
    raw = await insert_raw(stage, await stage.project("raw"), count, size=SIZE, callers=CALLERS, seed=options.seed)
    project = await stage.project("accept")
    posted = batches(count, SIZE, options.seed)
    before = machine.processor_seconds(stage.stack)
    began = time.perf_counter()
    async with stage.wires(project, CALLERS) as wires:
        accepted = await drive([posting(wire) for wire in wires], posted)

    async with stage.admin() as admin:

        async def are_stored() -> bool:
            waiting = "select not exists (select from work_queue where project_id = $1 and kind = 'insight')"
            return bool(await admin.fetchval(waiting, project.slug))

        await until(are_stored, within=120, every=0.05)
        stored = time.perf_counter() - began
        used = machine.spent(before, machine.processor_seconds(stage.stack))
        held = await admin.fetchval("select count(*) from memories where project_id = $1", project.slug)
    await stage.forget_embedding(project)
    expected = count - accepted.refused * SIZE
    figures = [
        Figure(
            name="accepted, batches of 50",
            value=(count - accepted.refused * SIZE) / accepted.seconds,
            unit="insights/s",
            limit=count / raw.seconds,
            limit_of="the same rows, asyncpg and unnest, 50 to a transaction, 4 connections",
            budgets=(least("0.1", 2000),),
        ),
        Figure(
            name="one batch p50", value=percentile(accepted.times, 0.5), unit="ms",
            limit=percentile(raw.times, 0.5), limit_of="one such transaction",
        ),
        Figure(
            name="one batch p95", value=percentile(accepted.times, 0.95), unit="ms",
            limit=percentile(raw.times, 0.95), limit_of="one such transaction",
        ),
        Figure(name="stored, first post to last memory", value=expected / stored, unit="insights/s"),
        Figure(
            name="processor time to accept and store",
            value=1000 * sum(used[name] for name in ("gateway", "ingestion", "postgres", "nats")) / expected,
            unit="ms/insight",
        ),
    ]  # fmt: skip
    notes = [
        f"{held:,} memories of {expected:,} accepted insights" + ("" if held == expected else ": SOME ARE MISSING"),
        "processor seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items()),
    ]
    if accepted.refused:
        notes.append(f"{accepted.refused} batches were refused")
    return figures, notes


def posting(wire: Wire) -> Callable[[bytes], Awaitable[object]]:
    """Posts insights over `wire`."""

    async def post(body: bytes) -> object:
        return await wire.post("insights", body, headers={"Idempotency-Key": str(new_id())})

    return post
