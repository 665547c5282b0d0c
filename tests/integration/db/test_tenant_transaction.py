"""The tenant transaction: it acts for one principal, for as long as it lasts, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator

import asyncpg
import pytest
import pytest_asyncio
from tests.rooms import admin, opened

from memcube_common.db import Database, Statement
from memcube_common.errors import NotFound, TryAgain
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase

WHO = Statement(
    "who",
    "Who acts.",
    "select current_user, session_user, current_setting('app.project_id') as project, "
    "current_setting('app.principal') as principal, current_setting('app.role') as role",
)
SETTINGS = """
select current_user = session_user
   and coalesce(current_setting('app.project_id', true), '') = ''
   and coalesce(current_setting('app.principal', true), '') = ''
   and coalesce(current_setting('app.role', true), '') = ''
   and current_setting('search_path') = 'memcube, public'
"""
ADD = Statement(
    "add", "A row of a project.", "insert into parked values ($1, gen_random_uuid(), 's', 's', '{}', '', 'r', 1)"
)
SEEN = Statement("seen", "Projects of the rows in sight.", "select distinct project_id from parked")
WAIT = Statement("wait", "Take a while.", "select pg_sleep($1)")
WRONG = Statement("wrong", "Fail.", "select 1 / 0")
BUSY = Statement("busy", "Backend.", "select pg_backend_pid()")


@pytest_asyncio.fixture
async def db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """The ingestion room's pool, with one connection, so that the next borrower gets what the last one left."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "ingestion", stack, size=1, statement_timeout=2.0)


async def left_behind(db: Database) -> asyncpg.pool.PoolConnectionProxy[asyncpg.Record]:
    """The connection the next borrower would get, as it lies in the pool."""
    return await db._pool.acquire()  # pyright: ignore[reportPrivateUsage]


async def is_clean(db: Database) -> bool:
    connection = await left_behind(db)
    try:
        return bool(await connection.fetchval(SETTINGS))
    finally:
        await db._pool.release(connection)  # pyright: ignore[reportPrivateUsage]


async def test_it_acts_for_its_principal_inside_and_for_nobody_after(db: Database) -> None:
    async with db.transaction(Principal.worker("ingestion", "demo")) as tx:
        row = await tx.fetch_one(WHO)
        assert row is not None
        assert dict(row) == {
            "current_user": "memcube_worker",
            "session_user": "memcube_login_ingestion",
            "project": "demo",
            "principal": "room:ingestion",
            "role": "",
        }
    assert await is_clean(db)


async def test_a_failed_transaction_leaves_nothing_behind(db: Database) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with db.transaction(Principal.worker("ingestion", "demo")) as tx:
            await tx.execute(WRONG)
    assert await is_clean(db)


async def test_an_exception_rolls_back(db: Database) -> None:

    async def changes_its_mind() -> None:
        async with db.transaction(Principal.worker("ingestion", "rolled-back")) as tx:
            await tx.execute(ADD, "rolled-back")
            raise NotFound

    with pytest.raises(NotFound):
        await changes_its_mind()
    async with db.transaction(Principal.worker("ingestion", "rolled-back")) as tx:
        assert await tx.fetch(SEEN) == []


async def test_a_failed_statement_is_never_taken_for_a_commit(db: Database) -> None:
    """Postgres answers COMMIT in a failed transaction by rolling back, quietly."""

    async def looks_away() -> None:
        async with db.transaction(Principal.worker("ingestion", "half-done")) as tx:
            await tx.execute(ADD, "half-done")
            with contextlib.suppress(asyncpg.DivisionByZeroError):
                await tx.execute(WRONG)

    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await looks_away()
    assert await is_clean(db)


@pytest.mark.parametrize(
    "dirt",
    [
        "set role memcube_worker",
        "select set_config('app.project_id', 'canary', false)",
        "set role memcube_relay",
    ],
)
async def test_a_dirty_connection_is_refused_and_thrown_away(db: Database, dirt: str) -> None:
    connection = await left_behind(db)
    await connection.execute(dirt)
    await db._pool.release(connection)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(asyncpg.PostgresError):
        async with db.transaction(Principal.worker("ingestion", "demo")):
            pytest.fail("a dirty connection was handed out")
    async with db.transaction(Principal.worker("ingestion", "demo")) as tx:
        assert await tx.fetch(SEEN) == []


async def test_a_room_cannot_become_what_it_may_not(db: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with db.transaction(Principal.operator()):
            pytest.fail("the ingestion room opened the operator's drawer")
    assert await is_clean(db)


async def test_a_project_cannot_write_for_another(db: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with db.transaction(Principal.worker("ingestion", "mine")) as tx:
            await tx.execute(ADD, "yours")


async def test_a_statement_that_takes_too_long_is_try_again(db: Database) -> None:
    with pytest.raises(TryAgain):
        async with db.transaction(Principal.worker("ingestion", "demo")) as tx:
            await tx.fetch(WAIT, 30.0)
    assert await is_clean(db)


async def test_the_deadline_covers_everything_inside(db: Database) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TryAgain):
        async with db.transaction(Principal.worker("ingestion", "demo"), deadline=0.2) as tx:
            await tx.fetch(WAIT, 30.0)
    assert loop.time() - began < 1.5
    assert await is_clean(db)


async def test_waiting_for_a_connection_ends_in_try_again(db: Database) -> None:
    async with db.transaction(Principal.worker("ingestion", "demo")):
        with pytest.raises(TryAgain):
            async with db.transaction(Principal.worker("ingestion", "demo")):
                pytest.fail("the pool has one connection")


async def test_a_cancelled_transaction_is_rolled_back_and_its_connection_closed(db: Database) -> None:
    async with db.transaction(Principal.worker("ingestion", "demo")) as tx:
        before = await tx.fetch_value(BUSY)
    inside = asyncio.Event()

    async def work() -> None:
        async with db.transaction(Principal.worker("ingestion", "cancelled")) as tx:
            await tx.execute(ADD, "cancelled")
            inside.set()
            await tx.fetch(WAIT, 30.0)

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with db.transaction(Principal.worker("ingestion", "cancelled")) as tx:
        assert await tx.fetch_value(BUSY) != before
        assert await tx.fetch(SEEN) == []


async def test_2000_cancelled_and_failed_transactions_of_20_projects_mix_nothing_up(database: HouseDatabase) -> None:
    """RELIABILITY G18: 4 connections, random cancellation; nobody sees or writes for another, every checkout clean."""
    dice = random.Random(18)
    projects = [f"mix-{n}" for n in range(20)]
    outcomes = {"committed": 0, "cancelled": 0, "failed": 0, "late": 0}
    committed: dict[str, int] = dict.fromkeys(projects, 0)
    at_once = asyncio.Semaphore(16)

    async with contextlib.AsyncExitStack() as stack:
        db = await Database.open(database.dsn("ingestion"), room="ingestion", size=4, connect_timeout=20.0)
        stack.push_async_callback(db.close)

        async def work(project: str, fails: bool) -> None:
            async with db.transaction(Principal.worker("ingestion", project)) as tx:
                row = await tx.fetch_one(WHO)
                assert row is not None
                assert (row["current_user"], row["project"]) == ("memcube_worker", project)
                await tx.execute(ADD, project)
                assert {row["project_id"] for row in await tx.fetch(SEEN)} == {project}
                if fails:
                    await tx.execute(WRONG)

        async def one(project: str, fate: float, patience: float) -> None:
            async with at_once:
                task = asyncio.create_task(work(project, fails=fate > 0.9))
                if fate < 0.5:
                    await asyncio.wait({task}, timeout=patience)
                    task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    outcomes["cancelled"] += 1
                except asyncpg.DivisionByZeroError:
                    outcomes["failed"] += 1
                except TryAgain:
                    outcomes["late"] += 1
                else:
                    outcomes["committed"] += 1
                    committed[project] += 1

        await asyncio.gather(
            *(one(dice.choice(projects), dice.random(), dice.random() * 0.02) for _ in range(2000)),
        )
        for _ in range(8):
            assert await is_clean(db)
    assert sum(outcomes.values()) == 2000
    assert outcomes["late"] == 0
    assert min(outcomes["committed"], outcomes["cancelled"], outcomes["failed"]) > 100
    async with admin(database) as connection:
        rows = await connection.fetch(
            "select project_id, count(*) from memcube.parked where project_id like 'mix-%' group by 1"
        )
        found = {row["project_id"]: row["count"] for row in rows}
    for project in projects:
        assert found.get(project, 0) >= committed[project]
    assert sum(found.values()) - sum(committed.values()) <= outcomes["cancelled"]


async def test_a_project_that_holds_its_share_of_connections_leaves_others_theirs(database: HouseDatabase) -> None:
    db = await Database.open(database.dsn("ingestion"), room="test", size=3, share=2, statement_timeout=5.0)
    a, b = Principal.worker("ingestion", "a"), Principal.worker("ingestion", "b")
    try:
        async with contextlib.AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(db.transaction(a))
            with pytest.raises(TryAgain):
                async with db.transaction(a, deadline=0.05):
                    pass
            third = asyncio.create_task(_asked(db, a))
            assert await _asked(db, b) == "b"
            assert not third.done()
        assert await third == "a"
        assert not db._turns  # pyright: ignore[reportPrivateUsage]
    finally:
        await db.close()


async def _asked(db: Database, principal: Principal) -> str:
    async with db.transaction(principal, deadline=2.0) as tx:
        row = await tx.fetch_one(WHO)
        assert row is not None
        return row["project"]
