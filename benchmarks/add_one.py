"""How fast single insights are accepted over HTTP, one to a POST, sixteen at once.

4,000 insights over sixteen connections, each with an Idempotency-Key: durable, under row-level security, with the
answer kept. Raw limit: the same rows by asyncpg, one to a transaction, over sixteen bare connections.
"""

from __future__ import annotations

import orjson

from benchmarks import machine
from benchmarks.accept_http import posting
from benchmarks.figures import Figure, least, most, percentile
from benchmarks.insights import bodies, insert_raw
from benchmarks.stage import Options, Stage, drive

CALLERS = 16


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure single acceptance; see the module."""
    count = options.sized(4_000, at_least=CALLERS)
    raw = await insert_raw(stage, await stage.project("raw"), count, size=1, callers=CALLERS, seed=options.seed)
    project = await stage.project("add")
    posted = [orjson.dumps(body) for body in bodies(count, options.seed)]
    before = machine.processor_seconds(stage.stack)
    async with stage.wires(project, CALLERS) as wires:
        accepted = await drive([posting(wire) for wire in wires], posted)
    used = machine.spent(before, machine.processor_seconds(stage.stack))
    async with stage.admin() as admin:
        held = await admin.fetchval("select count(*) from insights where project_id = $1", project.slug)
    await stage.feed_settled()
    await stage.forget_embedding(project)
    figures = [
        Figure(
            name="added one by one, 16 at once", value=accepted.rate, unit="insights/s",
            limit=raw.rate, limit_of="the same rows, asyncpg, one to a transaction, 16 connections",
            budgets=(least("B1", 700),),
        ),
        Figure(
            name="one POST p50", value=percentile(accepted.times, 0.5), unit="ms",
            limit=percentile(raw.times, 0.5), limit_of="one such transaction",
        ),
        Figure(
            name="one POST p95", value=percentile(accepted.times, 0.95), unit="ms",
            limit=percentile(raw.times, 0.95), limit_of="one such transaction", budgets=(most("B1", 40),),
        ),
        Figure(
            name="processor time of the gateway", value=1000 * used["gateway"] / len(accepted.times), unit="ms/insight"
        ),
        Figure(
            name="processor time of Postgres", value=1000 * used["postgres"] / len(accepted.times), unit="ms/insight"
        ),
    ]  # fmt: skip
    notes = [f"{held:,} insights held of {len(accepted.times):,} answered with 202; {accepted.refused} refused"]
    return figures, notes
