"""Insights over NATS beyond the project's quota: those that fit are kept, the others parked with the reason."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
from nats.aio.client import Client
from tests.eventually import eventually
from tests.rooms import hearing, submitted

from memcube_common.contracts.events import InsightSubmitted
from memcube_common.db import Database
from memcube_common.db.pool import Row
from memcube_common.quotas.store import read_quotas, set_quota
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_ingestion.room import Room


async def test_what_fits_is_kept_and_the_rest_is_parked_with_the_reason(
    room: Room,
    agent: Client,
    psql: asyncpg.Connection[Row],
    database: HouseDatabase,
    project: HouseProject,
) -> None:
    operator = await Database.open(database.admin_dsn, room="operator", size=1)
    try:
        async with operator.transaction(replace(Principal.operator(), project=project.slug)) as tx:
            await set_quota(tx, resource="memories", maximum=10)
    finally:
        await operator.close()
    events = [submitted(f"Fact {n:02}.") for n in range(25)]
    subject = InsightSubmitted.subject(project.slug, "bot")

    async with hearing(room, subject=InsightSubmitted.subject(project.slug, "*")):
        await asyncio.gather(*(agent.jetstream().publish(subject, e.model_dump_json().encode()) for e in events))

        async def parked() -> bool:
            return await psql.fetchval("select count(*) from memcube.parked where project_id = $1", project.slug) == 15

        await eventually(parked, within=20)

    reasons = await psql.fetch("select distinct reason from memcube.parked where project_id = $1", project.slug)
    assert [row["reason"] for row in reasons] == ["This would exceed the project's quota of 10 memories."]
    assert await psql.fetchval("select count(*) from memcube.memories where project_id = $1", project.slug) == 10
    said = await psql.fetch(
        "select type, count(*) as many from memcube.changes where project_id = $1 group by type order by type",
        project.slug,
    )
    assert {row["type"]: row["many"] for row in said} == {
        "memory.v1.created": 10,
        "quota.v1.exhausted": 1,
        "quota.v1.warned": 1,
        "receipt.v1.parked": 15,
        "receipt.v1.stored": 10,
    }
    async with room.db.transaction(Principal.worker("ingestion", project.slug)) as tx:
        used = {quota.resource: quota.used for quota in await read_quotas(tx)}
    assert (used["memories"], used["insights_per_day"], used["bytes"]) == (10, 10, 80)
