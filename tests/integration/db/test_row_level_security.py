"""The walls as rooms meet them: signed in as themselves, through the pool they have, in a database of two tenants.

What every role of the database may do with every row is tried in tests/security; here it is the real way in.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import asyncpg
import pytest
import pytest_asyncio
from tests.rooms import admin, opened

from memcube_cli.isolation.catalogue import read_grants, read_tables
from memcube_cli.isolation.database import insertion
from memcube_cli.isolation.pair import Pair
from memcube_cli.isolation.rows import rows_of
from memcube_common.db import Database, Statement
from memcube_common.provision import ROOMS
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase


@pytest_asyncio.fixture(scope="module")
async def pair(database: HouseDatabase) -> Pair:
    """Two tenants with rows in every table."""
    pair = Pair.fresh()
    async with admin(database) as connection, connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        tables = await read_tables(connection)
        for table, rows in rows_of(pair).items():
            if table in tables:
                for row in rows:
                    await connection.execute(insertion(table, row))
    return pair


@pytest_asyncio.fixture(scope="module")
async def readable(database: HouseDatabase) -> list[tuple[str, str]]:
    """Every table of projects with a role that may read whose rows they are."""
    async with admin(database) as connection:
        return [
            (grant.table, grant.role)
            for grant in await read_grants(connection)
            if grant.command == "SELECT" and "project_id" in grant.columns
        ]


@pytest_asyncio.fixture(scope="module")
async def pools(database: HouseDatabase) -> AsyncGenerator[dict[str, Database]]:
    """A pool of every room."""
    async with contextlib.AsyncExitStack() as stack:
        yield {room: await opened(database, room, stack, size=1) for room in ROOMS}


def principals(room: str, project: str) -> list[Principal]:
    """Everybody a room could act for, its own work included."""
    return [
        Principal.worker(room, project),
        Principal.user(project, "olga", "OWNER"),
        Principal.user(project, "vic", "VIEWER"),
        Principal.public(project, "key4"),
        Principal.doorkeeper(project=project),
    ]


async def test_a_room_sees_one_project_whoever_it_acts_for(
    pools: dict[str, Database], pair: Pair, readable: list[tuple[str, str]]
) -> None:
    seen: dict[str, set[str]] = {}
    for room, db in pools.items():
        for principal in principals(room, pair.a):
            for table in [table for table, role in readable if role == principal.database_role]:
                if (principal.name, table) == ("room:gateway", "idempotency_keys"):
                    continue  # it forgets the old ones of all projects
                statement = Statement("seen", "Projects in sight.", f"select distinct project_id from {table}")
                try:
                    async with db.transaction(principal) as tx:
                        found = {row["project_id"] for row in await tx.fetch(statement)}
                except asyncpg.InsufficientPrivilegeError:
                    continue  # this room may not become this role
                assert found <= {pair.a}, f"{room} as {principal.database_role} sees others in {table}"
                seen.setdefault(table, set()).update(found)
    # A test that sees nothing would prove nothing.
    assert {table for table, projects in seen.items() if projects} >= {
        "changes", "feed", "feed_heads", "insights", "members", "memories", "memory_payloads", "memory_text",
        "memory_vectors", "memory_events", "parked", "project_events", "work_queue",
    }  # fmt: skip


async def test_a_transaction_without_a_project_sees_no_project(
    pools: dict[str, Database], pair: Pair, readable: list[tuple[str, str]]
) -> None:
    tables = [table for table, role in readable if role == "memcube_worker"]
    assert len(tables) >= 6
    for table in tables:
        statement = Statement("seen", "Seen.", f"select project_id from {table} where project_id = any ($1)")
        async with pools["ingestion"].transaction(Principal.worker("ingestion")) as tx:
            assert await tx.fetch(statement, [pair.a, pair.b]) == [], table


@pytest.mark.parametrize("change", ["update {table} set attempts = 1", "delete from {table}"])
async def test_a_worker_changes_its_own_project_alone(
    pools: dict[str, Database], pair: Pair, database: HouseDatabase, change: str
) -> None:
    sql = change.format(table="work_queue") + " returning project_id"
    with contextlib.suppress(_RollBack):
        async with pools["embedding"].transaction(Principal.worker("embedding", pair.a)) as tx:
            touched = {row["project_id"] for row in await tx.fetch(Statement("change", "Change all.", sql))}
            assert touched == {pair.a}
            raise _RollBack
    async with admin(database) as connection:
        kept = await connection.fetchval("select count(*) from memcube.work_queue where project_id = $1", pair.b)
    assert kept == 2


class _RollBack(Exception):
    """Nothing of this transaction is to be kept."""
