"""The change feed: every committed change once, in order, without gaps, whoever made it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from uuid import UUID

import pytest
import pytest_asyncio
from nats.aio.client import Client
from tests.eventually import eventually, stopped
from tests.feed import assert_sound, heard
from tests.rooms import admin, an_insight, bus_client, opened

from memcube_common.bus import Bell, Bus
from memcube_common.db import Database, Statement, Transaction
from memcube_common.frame import task
from memcube_common.insights.domain import distil
from memcube_common.mailbox.relay import Relay
from memcube_common.memories.store import insert_memories
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject

BUMP = Statement("bump", "A new version.", "update memories set version = version + 1 where id = any($1) returning id")
PURGE = Statement("purge", "Gone.", "delete from memories where id = any($1)")
TOUCH = Statement(
    "touch", "Nothing a reader would see.", "update memories set usage_hits = usage_hits + 1 where id = $1"
)


@pytest_asyncio.fixture(scope="module")
async def db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """The ingestion room's pool, wide enough for many writers."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "ingestion", stack, size=12)


@pytest_asyncio.fixture(scope="module")
async def bus(database: HouseDatabase) -> AsyncGenerator[Bus]:
    """The relay's connection."""
    bus = await Bus.open(database.nats_url, name="test-relay")
    yield bus
    await bus.close()


@pytest_asyncio.fixture(scope="module")
async def reader(database: HouseDatabase) -> AsyncGenerator[Client]:
    """A subscriber's connection."""
    async with bus_client(database.nats_url) as client:
        yield client


@pytest_asyncio.fixture
async def relay(db: Database, bus: Bus) -> AsyncGenerator[Relay]:
    """A running relay."""
    relay = Relay(db, bus, Bell(), name="test")
    async with task(relay.run(), "relay"):
        yield relay
    async with db.transaction(Principal.relay()) as tx:
        await tx.execute(
            Statement("leave", "Nobody leads.", "update relay_cursor set lease_until = now(), leader = ''")
        )


async def remember(tx: Transaction, project: str, *texts: str) -> list[UUID]:
    """Memories of these texts."""
    memories = [distil(an_insight(text), datetime.now(UTC)) for text in texts]
    await insert_memories(tx, project=project, memories=memories)
    return [memory.id for memory in memories]


def worker(project: HouseProject) -> Principal:
    return Principal.worker("ingestion", project.slug)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_concurrent_writers_lose_nothing_double_nothing_and_leave_no_gap(
    database: HouseDatabase, db: Database, relay: Relay, reader: Client, seed: int
) -> None:
    """Transactions draw their numbers, then wait for each other, then commit or roll back in any order."""
    dice = random.Random(seed)
    writers, rounds = 6, 8
    projects = [await database.project() for _ in range(3)]
    shared: dict[str, UUID] = {}
    expected: Counter[str] = Counter()
    for project in projects:
        async with db.transaction(worker(project)) as tx:
            [shared[project.slug]] = await remember(tx, project.slug, "shared")
        expected[project.slug] += 1

    async def write(project: HouseProject, plan: list[int], fate: str, everybody: asyncio.Barrier) -> None:
        with contextlib.suppress(_RolledBack):
            async with db.transaction(worker(project)) as tx:
                changes = plan[0]
                mine = await remember(tx, project.slug, *(f"m{n}" for n in range(plan[0])))
                await everybody.wait()  # all have drawn numbers, none has committed
                if plan[1]:
                    await tx.fetch(BUMP, mine)
                    changes += len(mine)
                await tx.fetch(BUMP, [shared[project.slug]])
                if plan[2]:
                    await tx.execute(PURGE, mine[:1])
                    changes += 1
                if fate == "rolled back":
                    raise _RolledBack
                changes += 1
            expected[project.slug] += changes

    for _ in range(rounds):
        everybody = asyncio.Barrier(writers)
        await asyncio.gather(
            *(
                write(
                    dice.choice(projects),
                    [dice.randint(1, 4), dice.randint(0, 1), dice.randint(0, 1)],
                    dice.choice(["kept", "kept", "rolled back"]),
                    everybody,
                )
                for _ in range(writers)
            )
        )
    for project in projects:
        events = await heard(reader, project.slug, many=expected[project.slug])
        assert_sound(project.slug, events)
        versions: dict[str, list[int]] = {}
        last: dict[str, str] = {}
        for one in events:
            identity = one.event["memory_id"]
            assert (one.event["type"] == "memory.v1.created") == (identity not in versions)
            assert last.get(identity) != "memory.v1.purged"
            last[identity] = one.event["type"]
            if one.event["type"] != "memory.v1.purged":
                versions.setdefault(identity, []).append(one.event["version"])
        for told in versions.values():
            assert told == list(range(1, len(told) + 1)), "versions of one memory are told in the order they were made"


async def test_a_slow_writer_holds_back_the_ones_behind_it_and_then_none_is_missing(
    db: Database, bus: Bus, project: HouseProject, reader: Client
) -> None:
    """The trap of `seq > last`: the lower number commits after the higher one was read."""
    relay = Relay(db, bus, Bell(), name="by-hand")
    async with db.transaction(worker(project)) as slow:
        await remember(slow, project.slug, "slow")
        async with db.transaction(worker(project)) as quick:
            await remember(quick, project.slug, "quick")
        while await relay.carry():
            pass
        stored = (await reader.jetstream().stream_info("CHANGES", subjects_filter=f"memcube.{project.slug}.>")).state
        assert not stored.subjects
    while await relay.carry():
        pass
    events = await heard(reader, project.slug, many=2)
    assert_sound(project.slug, events)
    assert [one.event["label"] for one in events] == ["slow", "quick"]
    async with db.transaction(Principal.relay()) as tx:
        await tx.execute(
            Statement("leave", "Nobody leads.", "update relay_cursor set lease_until = now(), leader = ''")
        )


async def test_more_changes_than_one_window_carries_are_all_carried(
    db: Database, relay: Relay, project: HouseProject, reader: Client
) -> None:
    async with db.transaction(worker(project)) as tx:
        await remember(tx, project.slug, *(f"m{n}" for n in range(2500)))
    assert_sound(project.slug, await heard(reader, project.slug, many=2500, within=30))


async def test_what_an_administrator_changes_by_hand_is_announced(
    database: HouseDatabase, db: Database, relay: Relay, project: HouseProject, reader: Client
) -> None:
    async with db.transaction(worker(project)) as tx:
        [first, second] = await remember(tx, project.slug, "first", "second")
        await tx.execute(TOUCH, first)
    async with admin(database) as psql:
        for change in (
            "update memcube.memories set label = 'renamed', tags = '{a}' where id = $1",
            "update memcube.memories set lifecycle = 'ACTIVE' where id = $1",
            "update memcube.memories set lifecycle = 'ARCHIVED' where id = $1",
            "update memcube.memories set lifecycle = 'ACTIVE' where id = $1",
            "update memcube.memories set lifecycle = 'EXPIRED' where id = $1",
            "update memcube.memories set label = label where id = $1",
            "delete from memcube.memories where id = $1",
        ):
            await psql.execute(change, first)
        await psql.execute("delete from memcube.memories where project_id = $1 and id = $2", project.slug, second)
    events = await heard(reader, project.slug, many=9)
    assert_sound(project.slug, events)
    assert [one.event["type"].removeprefix("memory.v1.") for one in events] == [
        "created", "created", "updated", "promoted", "archived", "restored", "expired", "purged", "purged",
    ]  # fmt: skip
    assert events[2].event["changed"] == ["label", "tags"]
    assert events[2].event["actor"] not in {"", "room:ingestion"}


async def test_content_is_never_in_an_event(db: Database, relay: Relay, project: HouseProject, reader: Client) -> None:
    async with db.transaction(worker(project)) as tx:
        await remember(tx, project.slug, "A first line.\nThe canary sang in the second line.")
    [event] = await heard(reader, project.slug, many=1)
    assert "canary" not in str(event)


@pytest.mark.parametrize(
    "occupation",
    [
        "create index held_open on memcube.insights_p0 (agent_id)",
        "select pg_current_xact_id()",
        "insert into memcube.parked values ('x', gen_random_uuid(), 's', 's', '{}', '', 'r', 1)",
        "select pg_advisory_xact_lock_shared(0), pg_advisory_xact_lock_shared(1, 1)",
    ],
)
async def test_a_long_transaction_that_changes_no_memory_holds_nothing_back(
    database: HouseDatabase, db: Database, relay: Relay, project: HouseProject, reader: Client, occupation: str
) -> None:
    async with admin(database) as psql, psql.transaction():
        await psql.execute(occupation)
        async with db.transaction(worker(project)) as tx:
            await remember(tx, project.slug, "meanwhile")
        await heard(reader, project.slug, many=1, within=5)


async def test_one_relay_leads_and_another_takes_over_within_five_seconds(
    db: Database, bus: Bus, project: HouseProject, reader: Client
) -> None:
    leads = Statement("leads", "Who leads.", "select leader from relay_cursor where lease_until > now()")

    async def leader() -> str | None:
        async with db.transaction(Principal.relay()) as tx:
            return await tx.fetch_value(leads)

    first = asyncio.create_task(Relay(db, bus, Bell(), name="first").run())
    try:
        await eventually(leader, within=5)
        second_relay = Relay(db, bus, Bell(), name="second")
        second = asyncio.create_task(second_relay.run())
        try:
            async with db.transaction(worker(project)) as tx:
                await remember(tx, project.slug, "one")
            await heard(reader, project.slug, many=1)
            assert await leader() == "first"
            await stopped(first)
            async with db.transaction(worker(project)) as tx:
                await remember(tx, project.slug, "two")
            assert_sound(project.slug, await heard(reader, project.slug, many=2, within=5))
            assert await leader() == "second"
        finally:
            await stopped(second)
    finally:
        await stopped(first)
    async with db.transaction(Principal.relay()) as tx:
        await tx.execute(
            Statement("leave", "Nobody leads.", "update relay_cursor set lease_until = now(), leader = ''")
        )


async def test_a_relay_that_dies_before_it_notes_what_it_published_doubles_nothing(
    db: Database, bus: Bus, project: HouseProject, reader: Client
) -> None:
    rewind = Statement(
        "rewind", "Forget the publishing.", "update relay_cursor set published = $1, lease_until = now()"
    )
    where = Statement("where", "How far.", "select published from relay_cursor")
    async with db.transaction(Principal.relay()) as tx:
        before = await tx.fetch_value(where)
    async with db.transaction(worker(project)) as tx:
        await remember(tx, project.slug, *(f"m{n}" for n in range(20)))
    for name in ("dies", "follows"):
        relay = Relay(db, bus, Bell(), name=name)
        while await relay.carry():
            pass
        async with db.transaction(Principal.relay()) as tx:
            await tx.execute(rewind, before)
    assert_sound(project.slug, await heard(reader, project.slug, many=20))


class _RolledBack(Exception):
    """This writer changes its mind."""
