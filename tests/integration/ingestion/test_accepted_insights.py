"""Insights accepted over HTTP wait in Postgres; the room makes each a memory exactly once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest
from tests.eventually import eventually
from tests.rooms import an_insight

from memcube_common.contracts import subjects
from memcube_common.db.pool import Row
from memcube_common.frame import task
from memcube_common.ids import derive
from memcube_common.insights import store as insights_store
from memcube_common.insights.domain import Insight
from memcube_common.insights.receipts import read_receipts
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_ingestion import jobs
from memcube_ingestion.handlers import keep
from memcube_ingestion.room import Room

if TYPE_CHECKING:
    Psql = asyncpg.Connection[Row]


async def accept(room: Room, project: str, *insights: Insight) -> None:
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        await insights_store.insert_insights(tx, project=project, via="http", state="accepted", insights=insights)
        await insights_store.queue_insights(tx, project=project, ids=[insight.id for insight in insights])


async def states(psql: Psql, project: str) -> dict[str, int]:
    rows = await psql.fetch(
        "select state, count(*) from memcube.insights where project_id = $1 group by 1 order by 1", project
    )
    return {row["state"]: row["count"] for row in rows}


async def count(psql: Psql, table: str, project: str) -> int:
    return int(await psql.fetchval(f"select count(*) from memcube.{table} where project_id = $1", project))


async def test_racing_rooms_make_each_insight_one_memory(room: Room, psql: Psql, database: HouseDatabase) -> None:
    projects = [await database.project() for _ in range(3)]
    insights = {project.slug: [an_insight(f"Fact {n}.") for n in range(60)] for project in projects}
    for slug, those in insights.items():
        await accept(room, slug, *those)

    async def work() -> None:
        while await jobs.keep_due(room):
            pass

    await asyncio.gather(*(work() for _ in range(4)))
    for slug, those in insights.items():
        ids = {row["id"] for row in await psql.fetch("select id from memcube.memories where project_id = $1", slug)}
        assert ids == {derive(insight.id, "memory") for insight in those}
        assert await states(psql, slug) == {"stored": 60}
        assert (
            await psql.fetchval(
                "select count(*) from memcube.work_queue where project_id = $1 and kind = 'insight'", slug
            )
            == 0
        )
        assert (
            await psql.fetchval(
                "select count(*) from memcube.work_queue where project_id = $1 and kind = 'embedding'", slug
            )
            == 60
        )


async def test_a_worker_that_died_with_a_claim_loses_nothing(
    room: Room, psql: Psql, project: HouseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accept(room, project.slug, *(an_insight(f"Fact {n}.") for n in range(5)))

    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "keep_project", killed)
        patch.setattr(jobs, "LEASE_SECONDS", 0.2)
        with pytest.raises(asyncio.CancelledError):
            await jobs.keep_due(room)
    assert await count(psql, "memories", project.slug) == 0
    await eventually(lambda: jobs.keep_due(room), within=2)
    assert await count(psql, "memories", project.slug) == 5


async def test_an_insight_that_also_came_over_the_bus_is_one_memory(
    room: Room, psql: Psql, project: HouseProject
) -> None:
    insight = an_insight("Told twice.")
    await accept(room, project.slug, insight)
    assert await keep(project.slug, [insight, insight], room) is None
    await jobs.keep_due(room)
    assert await keep(project.slug, [insight], room) is None
    assert await count(psql, "memories", project.slug) == 1
    assert await states(psql, project.slug) == {"stored": 1}


async def test_an_insight_that_cannot_be_kept_is_tried_again_then_parked_and_its_neighbours_are_kept(
    room: Room, psql: Psql, project: HouseProject
) -> None:
    await psql.execute(
        "alter table memcube.memories add constraint surprise"
        f" check (project_id <> '{project.slug}' or label <> 'surprise')"
    )
    bad = an_insight("surprise")
    try:
        await accept(room, project.slug, an_insight("one"), bad, an_insight("two"))
        for _ in range(jobs.MAX_ATTEMPTS):
            await psql.execute("update memcube.work_queue set due_at = now() where item_id = $1", bad.id)
            await jobs.keep_due(room)
            assert await count(psql, "memories", project.slug) == 2
        assert await states(psql, project.slug) == {"parked": 1, "stored": 2}
        async with room.db.transaction(Principal.worker("ingestion", project.slug)) as tx:
            [receipt] = await read_receipts(tx, project=project.slug, ids=[bad.id])
        assert (receipt.state, receipt.reason) == ("parked", "could not be kept: CheckViolationError")
        await psql.execute("update memcube.work_queue set due_at = now() where project_id = $1", project.slug)
        assert not await psql.fetchval(
            "select count(*) from memcube.work_queue where project_id = $1 and kind = 'insight'", project.slug
        )
    finally:
        await psql.execute("alter table memcube.memories drop constraint surprise")


async def test_a_bell_wakes_the_room_before_its_next_look(
    room: Room, psql: Psql, project: HouseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 60.0)
    async with task(jobs.keep_accepted(room), "keep-accepted"):
        await eventually(lambda: idle(psql), within=5)
        await accept(room, project.slug, an_insight("Wake up."))
        await room.bus.ring(subjects.BELL_INSIGHTS)

        async def kept() -> bool:
            return await count(psql, "memories", project.slug) == 1

        await eventually(kept, within=5)


async def idle(psql: Psql) -> bool:
    return not await psql.fetchval("select count(*) from memcube.work_queue where kind = 'insight' and due_at <= now()")
