"""Postgres or NATS goes away under the ingestion room: nothing is lost, nothing doubled, no delivery is burnt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from nats.aio.client import Client
from tests.eventually import eventually
from tests.feed import assert_sound, heard
from tests.rooms import admin, an_insight, bus_client, hearing, ingestion_room, submitted

from memcube_common.bus import Bell
from memcube_common.contracts.events import InsightSubmitted
from memcube_common.frame import task
from memcube_common.ids import new_id
from memcube_common.insights import store as insights_store
from memcube_common.mailbox.relay import Relay
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, Servers
from memcube_ingestion.jobs import keep_accepted
from memcube_ingestion.room import Room

Breakable = tuple[Servers, HouseDatabase]


async def publish(client: Client, project: str, first: int, many: int) -> None:
    subject = InsightSubmitted.subject(project, "bot")
    for n in range(first, first + many):
        await client.jetstream().publish(subject, submitted(f"Fact {n}.").model_dump_json().encode())


async def memories(house: HouseDatabase, project: str) -> int:
    async with admin(house) as psql:
        return int(await psql.fetchval("select count(*) from memcube.memories where project_id = $1", project))


async def test_while_postgres_is_away_a_batch_is_held_and_no_delivery_is_burnt(breakable: Breakable) -> None:
    servers, house = breakable
    assert servers.postgres is not None
    project = await house.project()
    subject = InsightSubmitted.subject(project.slug, "*")
    async with (
        ingestion_room(house) as room,
        hearing(room, subject=subject) as durable,
        hearing(room, subject=subject, durable=durable),  # another process, to whom the server would give it
        bus_client(servers.nats_url) as agent,
    ):
        await publish(agent, project.slug, 0, 10)
        await eventually(lambda: reached(house, project.slug, 10))
        await servers.postgres.stop()
        try:
            await publish(agent, project.slug, 10, 50)
            # Longer than the server waits for an answer: without heartbeats the batch would be delivered again.
            await asyncio.sleep(5)
        finally:
            await servers.postgres.start()
        await eventually(lambda: reached(house, project.slug, 60), within=10)
        info = await agent.jetstream().consumer_info("INSIGHTS", durable)
        assert info.num_redelivered == 0
        await eventually(lambda: answered(agent, durable))
    assert await memories(house, project.slug) == 60


async def reached(house: HouseDatabase, project: str, many: int) -> bool:
    return await memories(house, project) >= many


async def answered(agent: Client, durable: str) -> bool:
    info = await agent.jetstream().consumer_info("INSIGHTS", durable)
    return info.num_ack_pending == 0 and info.num_pending == 0


async def test_accepted_insights_outlive_a_killed_postgres(breakable: Breakable) -> None:
    servers, house = breakable
    assert servers.postgres is not None
    project = await house.project()
    async with ingestion_room(house) as room, task(keep_accepted(room), "keep-accepted"):
        await accept(room, project.slug, 20)
        await eventually(lambda: reached(house, project.slug, 20))
        process = servers.postgres.process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await servers.postgres.ended()
        await servers.postgres.start()
        await accept(room, project.slug, 20)
        await eventually(lambda: reached(house, project.slug, 40), within=15)


async def accept(room: Room, project: str, many: int) -> None:
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        insights = [an_insight(f"Accepted {n} of {new_id()}.") for n in range(many)]
        await insights_store.insert_insights(tx, project=project, via="http", state="accepted", insights=insights)
        await insights_store.queue_insights(tx, project=project, ids=[insight.id for insight in insights])


async def test_nats_killed_while_changes_are_published_loses_and_doubles_none(breakable: Breakable) -> None:
    servers, house = breakable
    assert servers.nats is not None
    project = await house.project()
    total = 400
    async with ingestion_room(house) as room, task(Relay(room.db, room.bus, Bell(), name="r").run(), "relay"):

        async def write() -> None:
            for _ in range(total // 20):
                await accept(room, project.slug, 20)
                await asyncio.sleep(0.05)  # a load that lasts longer than the outage

        async with task(keep_accepted(room), "keep-accepted"):
            writing = asyncio.create_task(write())
            for _ in range(3):
                await asyncio.sleep(0.15)
                process = servers.nats.process
                assert process is not None
                os.kill(process.pid, signal.SIGKILL)
                await servers.nats.ended()
                await servers.nats.start()
            await writing
            await eventually(lambda: reached(house, project.slug, total), within=20)
            async with bus_client(servers.nats_url) as reader:
                assert_sound(project.slug, await heard(reader, project.slug, many=total, within=20))


async def test_insights_sent_around_a_killed_nats_are_each_stored_once(breakable: Breakable) -> None:
    servers, house = breakable
    assert servers.nats is not None
    project = await house.project()
    events = [submitted(f"Sent until confirmed {n}.") for n in range(30)]
    subject = InsightSubmitted.subject(project.slug, "bot")
    async with (
        ingestion_room(house) as room,
        hearing(room, subject=InsightSubmitted.subject(project.slug, "*")),
        bus_client(servers.nats_url) as agent,
    ):
        for number, event in enumerate(events):
            if number == 15:
                process = servers.nats.process
                assert process is not None
                os.kill(process.pid, signal.SIGKILL)
                await servers.nats.ended()
                await servers.nats.start()

            async def confirmed(body: bytes = event.model_dump_json().encode()) -> bool:
                with contextlib.suppress(Exception):
                    await agent.jetstream(timeout=1).publish(subject, body)
                    return True
                return False

            await eventually(confirmed, within=10)
        await eventually(lambda: reached(house, project.slug, 30), within=10)
    assert await memories(house, project.slug) == 30
