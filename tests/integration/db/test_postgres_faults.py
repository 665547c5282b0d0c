"""Postgres killed, restarted and frozen: callers hear TryAgain in time, and all is well after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.eventually import eventually
from tests.rooms import admin, opened

from memcube_common.db import Database, Statement
from memcube_common.db.migrate import shake_hands
from memcube_common.errors import TryAgain
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, Servers

WORKER = Principal.worker("ingestion", "demo")
ONE = Statement("one", "One.", "select 1")
PID = Statement("pid", "Backend.", "select pg_backend_pid()")

freezable = pytest.mark.skipif(sys.platform != "linux", reason="a server's children are found in /proc")
Breakable = tuple[Servers, HouseDatabase]


@pytest_asyncio.fixture
async def db(breakable: Breakable) -> AsyncGenerator[Database]:
    """The ingestion room's pool on a server that a test may take down."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(breakable[1], "ingestion", stack, size=4, statement_timeout=3.0)


async def works(db: Database) -> bool:
    try:
        async with db.transaction(WORKER, deadline=2.0) as tx:
            return bool(await tx.fetch_value(ONE))
    except TryAgain:
        return False


@contextlib.contextmanager
def frozen(servers: Servers) -> Generator[None]:
    """All processes of the server stand still, as behind a network that swallows every packet."""
    assert servers.postgres is not None
    process = servers.postgres.process
    assert process is not None
    children = [
        int(child)
        for task in Path(f"/proc/{process.pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    family = [process.pid, *children]
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def test_a_killed_backend_is_try_again_and_the_next_transaction_works(breakable: Breakable, db: Database) -> None:

    async def killed_inside() -> None:
        async with db.transaction(WORKER) as tx:
            pid = await tx.fetch_value(PID)
            async with admin(breakable[1]) as connection:
                await connection.execute("select pg_terminate_backend($1, 2000)", pid)
            await tx.fetch_value(ONE)

    with pytest.raises(TryAgain):
        await killed_inside()
    assert await works(db)


async def test_backends_killed_while_idle_cost_a_try_again_each_at_most(breakable: Breakable, db: Database) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(db.transaction(WORKER))
    async with admin(breakable[1]) as connection:
        await connection.execute(
            "select pg_terminate_backend(pid, 2000) from pg_stat_activity where application_name = 'memcube-ingestion'"
        )
    for _ in range(4):
        if await works(db):
            break
    assert await works(db)


@freezable
async def test_a_frozen_postgres_is_try_again_within_the_deadline(breakable: Breakable, db: Database) -> None:
    assert await works(db)
    loop = asyncio.get_running_loop()
    with frozen(breakable[0]):
        began = loop.time()
        results = await asyncio.gather(
            *(asyncio.wait_for(shake(db, deadline=1.0), 5) for _ in range(10)), return_exceptions=True
        )
        assert loop.time() - began < 2.0
        assert {type(result) for result in results} == {TryAgain}
    await eventually(lambda: works(db), within=5)


@freezable
async def test_without_a_deadline_a_frozen_postgres_is_try_again_after_the_statement_timeout(
    breakable: Breakable, db: Database
) -> None:
    """A server that stands still cannot enforce its own timeout: the client has to."""
    assert await works(db)
    with frozen(breakable[0]), pytest.raises(TryAgain):
        await asyncio.wait_for(shake(db, deadline=None), 8)
    await eventually(lambda: works(db), within=5)


async def shake(db: Database, *, deadline: float | None) -> None:
    async with db.transaction(WORKER, deadline=deadline) as tx:
        await tx.fetch_value(ONE)


async def test_a_postgres_killed_and_started_again_is_used_again(breakable: Breakable, db: Database) -> None:
    servers, _ = breakable
    assert servers.postgres is not None
    process = servers.postgres.process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert await servers.postgres.ended() is not None
    try:
        for _ in range(3):
            assert not await works(db)
        with pytest.raises(TryAgain):
            await Database.open(breakable[1].dsn("gateway"), room="gateway")
    finally:
        await servers.postgres.start()
    await eventually(lambda: works(db), within=5)
    await shake_hands(db)
