"""Housekeeping: partitions are made and dropped in time, Idempotency-Keys are forgotten after their day."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest_asyncio
from tests.eventually import eventually
from tests.rooms import admin, opened

from memcube_common.db import Database, Statement
from memcube_common.db.pool import Row
from memcube_common.frame import task
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase
from memcube_gateway.jobs import forget_some
from memcube_lifecycle.jobs import keep_house, make_round
from memcube_lifecycle.store import maintain_partitions

if TYPE_CHECKING:
    Psql = asyncpg.Connection[Row]


@pytest_asyncio.fixture(scope="module")
async def db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """The lifecycle room's pool."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "lifecycle", stack)


@pytest_asyncio.fixture(scope="module")
async def psql(database: HouseDatabase) -> AsyncGenerator[Psql]:
    """Somebody who looks at everything."""
    async with admin(database) as connection:
        yield connection


def today() -> date:
    return datetime.now(UTC).date()


async def days(psql: Psql, parent: str) -> set[date]:
    rows = await psql.fetch(
        "select right(relname, 8) as day from pg_class where relnamespace = 'memcube'::regnamespace"
        " and relispartition and relkind = 'r' and relname ~ ('^' || $1 || '_[0-9]{8}$')",
        parent,
    )
    return {datetime.strptime(row["day"], "%Y%m%d").date() for row in rows}


async def add_day(psql: Psql, parent: str, day: date) -> None:
    await psql.execute(
        f"create table memcube.{parent}_{day:%Y%m%d} partition of memcube.{parent}"
        f" for values from ('{day}') to ('{day + timedelta(days=1)}')"
    )
    await psql.execute(f"alter table memcube.{parent}_{day:%Y%m%d} owner to memcube_owner")


async def drop_day(psql: Psql, parent: str, day: date) -> None:
    await psql.execute(f"drop table if exists memcube.{parent}_{day:%Y%m%d}")


async def test_the_coming_week_has_its_partitions(db: Database, psql: Psql) -> None:
    for parent in ("changes", "feed"):
        await drop_day(psql, parent, today() + timedelta(days=3))
    await make_round(db, changes_kept_days=30)
    week = {today() + timedelta(days=n) for n in range(8)}
    for parent in ("changes", "feed"):
        assert await days(psql, parent) >= week


async def test_a_second_round_makes_nothing(db: Database) -> None:
    await make_round(db, changes_kept_days=30)
    async with db.transaction(Principal.worker("lifecycle")) as tx:
        assert await maintain_partitions(tx, keep_days=30) == 0


async def test_a_partition_is_dropped_after_its_days_and_not_before(db: Database, psql: Psql) -> None:
    old, kept = today() - timedelta(days=31), today() - timedelta(days=30)
    for parent in ("changes", "feed"):
        for day in (old, kept):
            await add_day(psql, parent, day)
    await make_round(db, changes_kept_days=30)
    for parent in ("changes", "feed"):
        assert old not in await days(psql, parent)
        assert kept in await days(psql, parent)
        await drop_day(psql, parent, kept)


async def test_partitions_made_later_are_as_closed_as_the_first(db: Database, psql: Psql) -> None:
    for parent in ("changes", "feed"):
        await drop_day(psql, parent, today() + timedelta(days=7))
    await make_round(db, changes_kept_days=30)
    rows = await psql.fetch(
        "select relname from pg_class where relnamespace = 'memcube'::regnamespace and relkind = 'r'"
        " and relname ~ '^(changes|feed)_' and not (relrowsecurity and relforcerowsecurity)"
    )
    assert rows == []


async def test_a_day_whose_rows_already_lie_in_the_rest_is_left_there(db: Database, psql: Psql) -> None:
    """The room was away for longer than it had made partitions for; nothing is lost and later days are made."""
    late = today() + timedelta(days=5)
    for parent in ("changes", "feed"):
        await drop_day(psql, parent, late)
        await drop_day(psql, parent, late + timedelta(days=1))
    await psql.execute("insert into memcube.changes (day, project_id, type, body) values ($1, 'x', 'x', '{}')", late)
    try:
        await make_round(db, changes_kept_days=30)
        assert late not in await days(psql, "changes")
        assert late + timedelta(days=1) in await days(psql, "changes")
        assert late in await days(psql, "feed")
        assert await psql.fetchval("select count(*) from memcube.changes where day = $1", late) == 1
    finally:
        await psql.execute("delete from memcube.changes where day = $1", late)
    await make_round(db, changes_kept_days=30)
    assert late in await days(psql, "changes")


async def test_two_rounds_at_once_do_not_disturb_each_other(db: Database, psql: Psql) -> None:
    for parent in ("changes", "feed"):
        await drop_day(psql, parent, today() + timedelta(days=6))
    await asyncio.gather(*(make_round(db, changes_kept_days=30) for _ in range(3)))
    assert today() + timedelta(days=6) in await days(psql, "changes")


async def test_idempotency_keys_are_forgotten_after_a_day_and_not_before(db: Database, psql: Psql) -> None:
    await psql.execute("delete from memcube.idempotency_keys")
    for project in ("one", "two"):
        for key, age in (("young", "23 hours 59 minutes"), ("old", "24 hours 1 minute")):
            await psql.execute(
                "insert into memcube.idempotency_keys (project_id, principal, route, key, request_hash, created_at)"
                " values ($1, 'p', 'r', $2, '', now() - $3::text::interval)",
                project,
                key,
                age,
            )
    assert await forget_some(db) == 2
    rows = await psql.fetch("select project_id, key from memcube.idempotency_keys order by 1")
    assert [tuple(row) for row in rows] == [("one", "young"), ("two", "young")]


async def test_no_other_work_of_a_room_can_forget_a_young_key(db: Database, psql: Psql) -> None:
    await psql.execute("delete from memcube.idempotency_keys")
    await psql.execute(
        "insert into memcube.idempotency_keys (project_id, principal, route, key, request_hash, created_at)"
        " values ('one', 'p', 'r', 'k', '', now() - interval '23 hours 59 minutes')"
    )
    everything = Statement("all", "All.", "delete from idempotency_keys returning key")
    async with db.transaction(Principal.worker("lifecycle")) as tx:
        assert await tx.fetch(everything) == []
    async with db.transaction(Principal.worker("lifecycle", "two")) as tx:
        assert await tx.fetch(everything) == []


async def test_the_room_goes_round_by_itself(db: Database, psql: Psql) -> None:
    async with task(keep_house(db, every=0.1, changes_kept_days=30), "keep-house"):
        for _ in range(2):
            await drop_day(psql, "feed", today() + timedelta(days=4))

            async def made() -> bool:
                return today() + timedelta(days=4) in await days(psql, "feed")

            await eventually(made, within=5)
