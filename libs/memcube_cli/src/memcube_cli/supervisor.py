"""Keeps one machine's stack running: starts it in order, restarts what dies, stops it in order."""

import asyncio
import contextlib
import functools
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from memcube_cli.room_process import Room, RoomPlan
from memcube_cli.stack import ServiceRecord, Stack, StackFile, State, ailments_of, checkout_name
from memcube_common.embedded import CannotStart, EmbeddedNats, EmbeddedPostgres
from memcube_common.embedded.loopback import HOST
from memcube_common.embedded.private import private_folder
from memcube_common.embedded.process import ProcessId, log_tail
from memcube_common.provision import dsn_as
from memcube_common.security.tokens import new_token_key

LONGEST_PAUSE: Final = 2.0  # seconds between two restarts, at most: a killed room must do its work again within 5 s
STEADY_AFTER: Final = 5.0  # seconds a service must have lived for the pause to begin anew
_WITH_OBJECTS: Final = frozenset({"gateway", "lifecycle"})  # the rooms that a bucket's keys are handed on to
ENOUGH_FAILURES: Final = 5  # deaths before ever being ready, after which a start is given up


class Provision(Protocol):
    """Makes roles, schema and streams; idempotent."""

    async def __call__(self, *, admin_dsn: str, nats_url: str, logins: Mapping[str, str]) -> None: ...


class ProvisionStreams(Protocol):
    """Makes the streams alone; idempotent."""

    async def __call__(self, *, nats_url: str) -> None: ...


class NewKey(Protocol):
    """Makes another key for a project that exists and returns its secret."""

    async def __call__(self, *, admin_dsn: str, project: str) -> str: ...


class EnsureProject(Protocol):
    """Makes the project and its key; returns the secret only when it was made now."""

    async def __call__(self, *, admin_dsn: str, project: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the supervisor is told; the rooms are data, so that a test can bring its own.

    `environment` is what the rooms inherit; `postgres_dsn` and `nats_url` name servers of one's own.
    `ready_within` is in seconds, and so is `first_pause`, the wait before a first restart (it doubles). `gateway` is
    the room that is stopped first and whose address is announced.
    """

    rooms: tuple[RoomPlan, ...]
    provision: Provision
    provision_streams: ProvisionStreams
    ensure_project: EnsureProject
    new_project_key: NewKey
    environment: Mapping[str, str]
    postgres_dsn: str | None = None
    nats_url: str | None = None
    project: str = "demo"
    gateway: str = "gateway"
    ready_within: float = 180.0
    first_pause: float = 0.2


class Service(Protocol):
    """Something the supervisor keeps running: a server or a room."""

    @property
    def process(self) -> ProcessId | None: ...

    async def start(self) -> None: ...

    async def ended(self) -> int | None: ...


class Supervisor:
    """One checkout's stack. `say` is told, in plain sentences, what happens; `run` returns when all is stopped."""

    def __init__(self, home: Path, plan: Plan, *, say: Callable[[str], None]) -> None:
        self._file = StackFile(home)
        self._home = home
        self._plan = plan
        self._told = say
        before = self._file.read()
        name = checkout_name(home)
        # A folder copied from elsewhere keeps the key, which lies in its database; ports are only wishes.
        kept = before or Stack(name=name)
        database = "embedded" if plan.postgres_dsn is None else _without_password(plan.postgres_dsn)
        if kept.database != database:
            kept = kept.model_copy(update={"key": None, "database": database})
        self._stack = kept.model_copy(
            update={
                "name": name,
                "phase": "starting",
                "supervisor": None,
                "project": plan.project,
                "services": {
                    service: ServiceRecord(state="starting")
                    for service in ("postgres", "nats", *(room.name for room in plan.rooms))
                },
            }
        )
        self._postgres: EmbeddedPostgres | None = None
        self._nats: EmbeddedNats | None = None
        self._rooms: dict[str, Room] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._asked = asyncio.Event()
        self._gave_up: str | None = None

    @property
    def stack(self) -> Stack:
        """The stack as it stands."""
        return self._stack

    async def run(self, *, on_ready: Callable[[Stack], None]) -> int:
        """Start everything, call `on_ready`, keep it running until asked to stop; return the exit code.

        SIGINT, SIGTERM and SIGHUP ask; a second one does not wait for anything any more.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        asked = asyncio.create_task(self._asked.wait())
        starting = asyncio.create_task(self._start())
        code = 0
        try:
            await asyncio.wait({asked, starting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._save(phase="ready")
                on_ready(self._stack)
                await asked
        except CannotStart as error:
            self._say(f"MemCube did not start: {error}")
            code = 1
        finally:
            starting.cancel()
            asked.cancel()
            await asyncio.gather(starting, asked, return_exceptions=True)
            await self._stop(failed=code != 0)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
        return code

    def ask_to_stop(self) -> None:
        """Do what SIGTERM does."""
        self._on_signal()

    def _on_signal(self) -> None:
        if not self._asked.is_set():
            self._asked.set()
            return
        self._say("stopping without waiting")
        for service in (*self._rooms.values(), self._nats, self._postgres):
            if service is not None and (process := service.process) is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    # SIGQUIT is Postgres' immediate shutdown; it recovers from its log at the next start.
                    os.kill(process.pid, signal.SIGQUIT if service is self._postgres else signal.SIGKILL)

    # Starting

    async def _start(self) -> None:
        self._save(supervisor=ProcessId.of(os.getpid()))
        private_folder(self._home / "logs")
        self._say("starting Postgres and NATS")
        outcomes = await asyncio.gather(self._start_postgres(), self._start_nats(), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        logins = {room.name: secrets.token_urlsafe(24) for room in self._plan.rooms} | self._stack.logins
        self._save(logins=logins, token_keys=self._stack.token_keys or new_token_key())
        await self._provision(logins)
        for plan in self._plan.rooms:
            room = Room(
                plan,
                environment=self._room_environment(plan.name),
                port=self._stack.ports.get(plan.name),
                promised=functools.partial(self._ports_of_others, plan.name),
                log=self._log(plan.name),
            )
            self._rooms[plan.name] = room
            self._save(ports={**self._stack.ports, plan.name: room.port})
            self._keep(plan.name, room, room.is_ready)
        await self._wait_until_ready()
        for name in self._rooms:
            for ailment in await ailments_of(self._stack, name):
                self._say(f"{name} goes on without {ailment} for now: {self._log(name)} says why")

    async def _start_postgres(self) -> None:
        if self._plan.postgres_dsn is not None:
            self._save(postgres=self._plan.postgres_dsn)
            self._note("postgres", "ready")
            return
        self._postgres = EmbeddedPostgres(
            self._home / "postgres",
            name=self._stack.name,
            port=self._stack.ports.get("postgres"),
            log=self._log("postgres"),
        )
        await self._postgres.start()
        self._save(postgres=self._postgres.dsn())
        self._note("postgres", "ready", process=self._postgres.process, port=self._postgres.port)
        self._keep("postgres", self._postgres)

    async def _start_nats(self) -> None:
        if self._plan.nats_url is not None:
            self._save(nats=self._plan.nats_url)
            self._note("nats", "ready")
            return
        self._nats = EmbeddedNats(
            self._home / "nats",
            name=self._stack.name,
            port=self._stack.ports.get("nats"),
            monitor_port=self._stack.ports.get("nats_monitor"),
            log=self._log("nats"),
        )
        await self._nats.start()
        self._save(nats=self._nats.url, ports={**self._stack.ports, "nats_monitor": self._nats.monitor_port})
        self._note("nats", "ready", process=self._nats.process, port=self._nats.port)
        self._keep("nats", self._nats, on_return=self._streams_again)

    async def _provision(self, logins: Mapping[str, str]) -> None:
        dsn, url = self._addresses()
        self._say("making roles, schema and streams")
        try:
            await self._plan.provision(admin_dsn=dsn, nats_url=url, logins=logins)
            key = await self._plan.ensure_project(admin_dsn=dsn, project=self._plan.project) or self._stack.key
            if key is None:  # the project is older than what this checkout knows
                key = await self._plan.new_project_key(admin_dsn=dsn, project=self._plan.project)
        except (CannotStart, asyncio.CancelledError):
            raise
        except Exception as error:
            raise CannotStart(f"the servers could not be prepared: {type(error).__name__}: {error}") from error
        self._save(key=key)

    async def _wait_until_ready(self) -> None:
        began = time.monotonic()
        told = began
        waiting = self._unready()
        self._say(f"waiting for {', '.join(waiting)}")
        while waiting := self._unready():
            if self._gave_up is not None:
                raise CannotStart(self._gave_up)
            if time.monotonic() - began > self._plan.ready_within:
                late = "\n".join(f"{name} ({self._rooms[name].log}):\n{self._last_words(name)}" for name in waiting)
                raise CannotStart(f"not ready after {self._plan.ready_within:.0f} s: {', '.join(waiting)}\n{late}")
            if time.monotonic() - told > 5.0:
                told = time.monotonic()
                self._say(f"still waiting for {', '.join(waiting)} ({told - began:.0f} s)")
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._changed.wait()

    def _unready(self) -> list[str]:
        return [name for name, record in self._stack.services.items() if record.state != "ready"]

    # Keeping

    def _keep(
        self,
        name: str,
        service: Service,
        is_ready: Callable[[], Awaitable[bool]] | None = None,
        on_return: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._keepers[name] = asyncio.create_task(self._keep_running(name, service, is_ready, on_return))

    async def _keep_running(
        self,
        name: str,
        service: Service,
        is_ready: Callable[[], Awaitable[bool]] | None,
        on_return: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """Start a service again whenever it ends, with growing pauses, and note how it fares.

        `on_return` is awaited after each start but the first, before the service counts as ready.
        """
        pause, deaths, ever_ready = self._plan.first_pause, 0, service.process is not None
        while True:
            began = time.monotonic()
            code: int | None = None
            try:
                await service.start()
                if deaths and on_return is not None:
                    await on_return()
                self._note(name, "starting" if is_ready else "ready", process=service.process, port=_port(service))
                if is_ready is not None and await _ready_or_ended(service, is_ready):
                    self._note(name, "ready", process=service.process, port=_port(service))
                    ever_ready = True
                code = await service.ended()
            except Exception as error:  # whatever it is, the next try may do; nobody else would make it
                self._say(f"{name}: {type(error).__name__}: {error}")
            deaths += 1
            if time.monotonic() - began > STEADY_AFTER:
                pause = self._plan.first_pause
            self._note(name, "failed", restarts=deaths)
            if not ever_ready and deaths >= ENOUGH_FAILURES:
                self._gave_up = f"{name} ended {deaths} times before it was ready:\n{self._last_words(name)}"
                self._changed.set()
                return
            self._say(f"{name} ended{'' if code is None else f' with {code}'}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _streams_again(self) -> None:
        """A NATS that comes back may have lost its store; what it still has is left as it is."""
        _, url = self._addresses()
        await self._plan.provision_streams(nats_url=url)

    # Stopping

    async def _stop(self, *, failed: bool) -> None:
        self._save(phase="stopping")
        self._say("stopping")
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        first = self._rooms.get(self._plan.gateway)
        if first is not None:
            await first.stop()
        await asyncio.gather(*(room.stop() for room in self._rooms.values()))
        if self._nats is not None:
            await self._nats.stop()
        if self._postgres is not None:
            await self._postgres.stop()
        self._save(
            phase="failed" if failed else "stopped",
            services={
                name: ServiceRecord(state="stopped", restarts=record.restarts)
                for name, record in self._stack.services.items()
            },
        )
        self._say("stopped")

    # What is known

    def _say(self, sentence: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone; stopping in order matters more
            self._told(sentence)

    def _note(
        self,
        name: str,
        state: State,
        *,
        process: ProcessId | None = None,
        port: int | None = None,
        restarts: int | None = None,
    ) -> None:
        before = self._stack.services[name]
        record = ServiceRecord(
            state=state,
            process=process,
            port=port if port is not None else before.port,
            restarts=before.restarts if restarts is None else restarts,
        )
        if record == before:
            return
        ports = self._stack.ports if port is None else {**self._stack.ports, name: port}
        addresses: dict[str, object] = {}
        if name == self._plan.gateway and port is not None:
            addresses["gateway"] = f"http://{HOST}:{port}"
        self._save(services={**self._stack.services, name: record}, ports=ports, **addresses)
        self._changed.set()

    def _save(self, **changes: object) -> None:
        self._stack = self._stack.model_copy(update=changes)
        self._file.write(self._stack)

    def _ports_of_others(self, name: str) -> set[int]:
        return {port for owner, port in self._stack.ports.items() if owner != name}

    def _log(self, name: str) -> Path:
        return self._home / "logs" / f"{name}.log"

    def _last_words(self, name: str) -> str:
        room = self._rooms.get(name)
        return room.last_words() if room is not None else log_tail(self._log(name))

    def _addresses(self) -> tuple[str, str]:
        dsn, url = self._stack.postgres, self._stack.nats
        if dsn is None or url is None:
            raise CannotStart("the servers have no addresses yet")
        return dsn, url

    def _room_environment(self, room: str) -> dict[str, str]:
        dsn, url = self._addresses()
        others: tuple[str, ...] = (
            ("PG",)
            if room == self._plan.gateway
            else (
                "PG",
                "MEMCUBE_NATS_CALLOUT_",
                "MEMCUBE_NATS_SYSTEM_",
                "MEMCUBE_TOKEN_KEYS",
            )
        )
        if room not in _WITH_OBJECTS:
            others += ("S3_", "MEMCUBE_S3_")
        inherited = {name: value for name, value in self._plan.environment.items() if not name.startswith(others)}
        defaults = {"MEMCUBE_LOG_LEVEL": "info", "MEMCUBE_LOG_FORMAT": "json"}
        return {
            **defaults,
            "MEMCUBE_MODELS_DIR": str(self._home / "models"),
            "MEMCUBE_OBJECTS_DIR": str(self._home / "objects"),
            **inherited,
            "MEMCUBE_HOME": str(self._home),
            "MEMCUBE_POSTGRES_DSN": dsn_as(dsn, f"memcube_login_{room}", self._stack.logins[room]),
            "MEMCUBE_NATS_URL": url if self._nats is None else self._nats.url_of(room),
            **self._agents_environment(room),
            **self._tokens_environment(room),
        }

    def _tokens_environment(self, room: str) -> dict[str, str]:
        """What the gateway signs access tokens with: what its environment brings, else the stack's own."""
        brought = self._plan.environment.get("MEMCUBE_TOKEN_KEYS")
        if room != self._plan.gateway or brought or self._stack.token_keys is None:
            return {}
        return {"MEMCUBE_TOKEN_KEYS": self._stack.token_keys}

    def _agents_environment(self, room: str) -> dict[str, str]:
        """What the gateway needs to let agents in; a NATS of one's own brings it in the gateway's own environment."""
        if self._nats is None or room != self._plan.gateway:
            return {}
        return {
            "MEMCUBE_NATS_CALLOUT_URL": self._nats.callout_url,
            "MEMCUBE_NATS_SYSTEM_URL": self._nats.system_url,
            "MEMCUBE_NATS_CALLOUT_SEED": self._nats.callout_seed,
        }


def _without_password(dsn: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


async def _ready_or_ended(service: Service, is_ready: Callable[[], Awaitable[bool]]) -> bool:
    """Wait until the service is ready (True) or its process is gone (False)."""
    while service.process is not None:
        if await is_ready():
            return True
        await asyncio.sleep(0.05)
    return False


def _port(service: Service) -> int | None:
    match service:
        case Room() | EmbeddedPostgres() | EmbeddedNats():
            return service.port
        case _:
            return None
