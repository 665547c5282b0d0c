"""Made-up insights as they are sent, and the same rows as they are inserted, for the raw limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import orjson

from benchmarks.stage import Connection, Driven, Stage, drive
from benchmarks.texts import Note, notes
from memcube_common.contracts.fields import DEFAULT_GOVERNANCE
from memcube_common.db.arrays import array_literal
from memcube_common.ids import derive, new_id
from memcube_common.insights.store import QUERIES
from memcube_common.testing.servers import HouseProject

AGENT = "bench"


def bodies(count: int, seed: int) -> list[dict[str, object]]:
    """`count` insights as an agent sends them, each with an id of its own."""
    return [{"id": str(new_id()), "insight": n.text, "tags": list(n.tags)} for n in notes(count, seed)]


def batches(count: int, size: int, seed: int) -> list[bytes]:
    """`count` insights as bodies of POST …/insights, `size` in each."""
    made = bodies(count, seed)
    return [orjson.dumps({"insights": made[start : start + size]}) for start in range(0, count, size)]


async def insert_raw(stage: Stage, project: HouseProject, count: int, *, size: int, callers: int, seed: int) -> Driven:
    """The raw limit of acceptance: the same rows by asyncpg and unnest, `size` to a transaction, over `callers`
    connections without roles, policies, HTTP or a queue.
    """
    made = notes(count, seed)
    groups = [made[start : start + size] for start in range(0, count, size)]
    statement = QUERIES["insert_insights"].sql

    def worker(connection: Connection) -> Callable[[Sequence[Note]], Awaitable[object]]:
        async def insert(group: Sequence[Note]) -> None:
            async with connection.transaction():
                await connection.fetch(statement, *_columns(project.slug, group))

        return insert

    async def connected(left: int, workers: list[Callable[[Sequence[Note]], Awaitable[object]]]) -> Driven:
        if left == 0:
            await asyncio.gather(*(worker(groups[0][:1]) for worker in workers))  # prepares the statement
            return await drive(workers, groups)
        async with stage.admin() as connection:
            return await connected(left - 1, [*workers, worker(connection)])

    return await connected(callers, [])


def _columns(project: str, group: Sequence[Note]) -> tuple[object, ...]:
    ids = [new_id() for _ in group]
    many = len(group)
    return (
        project, "http", "stored", ids, [AGENT] * many, [n.text for n in group], [None] * many,
        [array_literal(n.tags) for n in group], [array_literal(())] * many, [None] * many, ["WARM"] * many,
        [DEFAULT_GOVERNANCE] * many, ["{}"] * many, [derive(i, "memory") for i in ids],
    )  # fmt: skip
