"""The stack a benchmark runs against: MemCube as shipped, in a folder of its own, with projects to fill."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg

from benchmarks.wire import Wire
from memcube_cli.stack import Stack, StackFile
from memcube_common import provision
from memcube_common.db import Database
from memcube_common.db.pool import Row
from memcube_common.provision import dsn_as
from memcube_common.testing.servers import HouseProject

Connection: TypeAlias = "asyncpg.Connection[Row]"

CHECKOUT: Final = Path(__file__).resolve().parent.parent
KEPT: Final = CHECKOUT / ".memcube" / "benchmarks"
"""Where results and vectors of earlier runs lie; never committed."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is made. `scale` multiplies the sizes: below 1 for trying things out, never for figures to keep."""

    seed: int
    scale: float
    data: Path
    out: Path | None

    def sized(self, count: int, *, multiple: int = 1, at_least: int = 1) -> int:
        """`count` by the scale, a multiple of `multiple`, at least `at_least`."""
        return max(multiple, at_least, round(count * self.scale / multiple) * multiple)


class Stage:
    """One running stack. `first_up` and `warm_up` are the seconds its `up` commands took."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.first_up: float | None = None
        self._projects = 0

    @property
    def stack(self) -> Stack:
        """Addresses, secrets and processes as they are now."""
        stack = StackFile(self.home).read()
        if stack is None or not stack.is_running or stack.gateway is None or stack.postgres is None:
            raise RuntimeError("the stack does not run")
        return stack

    @property
    def gateway(self) -> str:
        """The gateway's address."""
        assert self.stack.gateway is not None
        return self.stack.gateway

    @property
    def nats(self) -> str:
        """The address of NATS, credentials included."""
        assert self.stack.nats is not None
        return self.stack.nats

    @property
    def postgres(self) -> str:
        """The administrator's address of Postgres."""
        assert self.stack.postgres is not None
        return self.stack.postgres

    async def up(self) -> float:
        """Start everything as `make up DETACH=1` does; the seconds until the command returned."""
        started = time.perf_counter()
        await self.memcube("up", "--detach")
        seconds = time.perf_counter() - started
        self.first_up = self.first_up or seconds
        return seconds

    async def down(self) -> None:
        """Stop everything; data stays."""
        await self.memcube("down")

    async def memcube(self, *arguments: str) -> str:
        """Run a command of the shipped CLI against this stack; what it printed. Raises RuntimeError if it fails."""
        outcome = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "memcube_cli", *arguments],
            env=self.environment(),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if outcome.returncode != 0:
            raise RuntimeError(f"memcube {arguments[0]} ended with {outcome.returncode}: {outcome.stdout[-2000:]}")
        return outcome.stdout

    def environment(self) -> dict[str, str]:
        """Nothing of the caller's MemCube, this home, and graphs built by who measures them, not in between."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEMCUBE_", "PG"))}
        return {**kept, "MEMCUBE_HOME": str(self.home), "MEMCUBE_GRAPH_INTERVAL": "86400"}

    async def project(self, name: str) -> HouseProject:
        """A fresh project whose slug begins with `name`."""
        self._projects += 1
        slug = f"{name}-{self._projects}-{os.getpid()}"
        key = await provision.ensure_project(admin_dsn=self.postgres, project=slug)
        assert key is not None
        return HouseProject(slug, key)

    @contextlib.asynccontextmanager
    async def wires(self, project: HouseProject, count: int) -> AsyncGenerator[list[Wire]]:
        """`count` connections into `project`, open while the block lasts, each used once so that the key is known."""
        wires = [await Wire.open(self.gateway, project=project.slug, key=project.key) for _ in range(count)]
        try:
            for wire in wires:
                await wire.get("")
            yield wires
        finally:
            for wire in wires:
                await wire.close()

    @contextlib.asynccontextmanager
    async def admin(self, project: HouseProject | None = None) -> AsyncGenerator[Connection]:
        """A bare connection as the administrator: no roles, no policies, no pool; set to `project` if given."""
        settings = {"search_path": "memcube, public", "timezone": "UTC", "jit": "off"}
        connection = await asyncpg.connect(self.postgres, timeout=10, server_settings=settings)
        try:
            if project is not None:
                await connection.execute("select set_config('app.project_id', $1, false)", project.slug)
            yield connection
        finally:
            await connection.close(timeout=5)

    @contextlib.asynccontextmanager
    async def database(self, room: str, size: int = 1) -> AsyncGenerator[Database]:
        """The database as `room` sees it: its login, its roles, its policies."""
        dsn = dsn_as(self.postgres, f"memcube_login_{room}", self.stack.logins[room])
        database = await Database.open(dsn, room="benchmarks", size=size, statement_timeout=60.0, connect_timeout=10.0)
        try:
            yield database
        finally:
            await database.close()

    @contextlib.contextmanager
    def embedding_stopped(self) -> Generator[Callable[[], None]]:
        """The embedding room's process is halted until the block ends, or until what is yielded is called."""
        record = self.stack.services["embedding"]
        assert record.process is not None
        pid = record.process.pid

        def go_on() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

        os.kill(pid, signal.SIGSTOP)
        try:
            yield go_on
        finally:
            go_on()

    async def forget_embedding(self, project: HouseProject) -> None:
        """Take what waits for a vector off the queue, so that the next measurement finds a quiet embedding room."""
        async with self.admin() as admin:
            await admin.execute(
                "delete from work_queue where project_id = $1 and kind = 'embedding'", project.slug, timeout=60
            )

    async def feed_settled(self) -> None:
        """Return when every change so far was carried to NATS."""
        async with self.admin() as admin:

            async def is_carried() -> bool:
                return bool(
                    await admin.fetchval(
                        "select c.published >= s.last_value from relay_cursor c cross join changes_seq s"
                    )
                )

            await until(is_carried, within=120.0, every=0.1)


async def until(is_so: Callable[[], Awaitable[bool]], *, within: float, every: float = 0.02) -> None:
    """Return when `is_so`; look every `every` seconds. Raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while not await is_so():  # noqa: ASYNC110  (what is waited for happens in other processes)
            await asyncio.sleep(every)


@dataclass(frozen=True, slots=True)
class Driven:
    """What a number of requests took: `times` in milliseconds in the order they ended, `seconds` for all of them."""

    times: list[float]
    seconds: float
    refused: int

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return len(self.times) / self.seconds


async def drive(
    workers: Sequence[Callable[[Any], Awaitable[object]]], requests: Sequence[Any], *, every: float | None = None
) -> Driven:
    """Give each worker the next request as soon as it has finished its last; a refused request is counted apart.

    every: seconds from one request's moment to the next one's, from which it is timed; without it each comes when a
    worker is free.
    """
    waiting = enumerate(requests)
    times: list[float] = []
    refused = 0
    began = time.perf_counter()

    async def work(worker: Callable[[Any], Awaitable[object]]) -> None:
        nonlocal refused
        for place, request in waiting:
            started = time.perf_counter()
            if every is not None:
                await asyncio.sleep(max(0.0, began + place * every - started))
                started = began + place * every
            try:
                await worker(request)
            except RuntimeError:
                refused += 1
            else:
                times.append((time.perf_counter() - started) * 1000)

    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(work(worker))
    return Driven(times, time.perf_counter() - began, refused)
