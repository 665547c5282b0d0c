"""The whole stack as an operator has it: started, looked at and stopped through the `memcube` command alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from memcube_cli.stack import Stack, StackFile, status_of
from memcube_common.embedded.process import ProcessId
from memcube_common.provision import ensure_project, new_project_key

T = TypeVar("T")

EVERYTHING: Final = (
    "postgres",
    "nats",
    "gateway",
    "ingestion",
    "embedding",
    "scheduling",
    "marketplace",
    "lifecycle",
)


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


@dataclass
class RunningStack:
    """One stack in the folder `home`. `settings` are the MEMCUBE_… variables its processes see beside it."""

    home: Path
    settings: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def now(self) -> Stack:
        """The stack as `stack.json` tells it at this moment."""
        stack = StackFile(self.home).read()
        assert stack is not None, "this stack was never started"
        return stack

    @property
    def gateway(self) -> str:
        """The gateway's address."""
        return _known(self.now.gateway)

    @property
    def nats(self) -> str:
        """The address of NATS, credentials inside."""
        return _known(self.now.nats)

    @property
    def postgres(self) -> str:
        """The administrator's DSN."""
        return _known(self.now.postgres)

    @property
    def project(self) -> str:
        """The ready-made project."""
        return self.now.project

    @property
    def key(self) -> str:
        """The ready-made project's key."""
        return _known(self.now.key)

    def process_of(self, service: str) -> ProcessId:
        """The process of a service that runs."""
        process = self.now.services[service].process
        assert process is not None, f"{service} has no process now"
        return process

    def pid_of(self, service: str) -> int:
        """The process id of a service that runs."""
        return self.process_of(service).pid

    def log_of(self, service: str) -> str:
        """The end of what a service (or the supervisor) wrote to its log."""
        path = self.home / "logs" / f"{service}.log"
        return path.read_text(errors="replace")[-4_000:] if path.exists() else ""

    async def up(self) -> Said:
        """`memcube up --detach`, which must succeed."""
        said = await self.memcube("up", "--detach", within=240)
        assert said.code == 0, said
        return said

    async def down(self) -> Said:
        """`memcube down`."""
        return await self.memcube("down", within=120)

    async def memcube(self, *words: str, within: float = 60) -> Said:
        """Run `memcube` with these words for this stack; it must end within so many seconds."""
        process = await self.begin(*words)
        try:
            out, err = await asyncio.wait_for(process.communicate(), within)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())

    async def begin(self, *words: str) -> asyncio.subprocess.Process:
        """Begin `memcube` with these words and return while it runs."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("MEMCUBE_", "OPENAI_", "S3_"))
        }
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "memcube_cli",
            *words,
            env={**inherited, "COLUMNS": "200", **self.settings, "MEMCUBE_HOME": str(self.home)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def key_of(self, project: str) -> str:
        """A key for `project`, which is made if it is not there."""
        dsn = self.postgres
        return await ensure_project(admin_dsn=dsn, project=project) or await new_project_key(
            admin_dsn=dsn, project=project
        )

    def send(self, service: str, number: signal.Signals) -> ProcessId:
        """Send a signal to a service that runs; which process got it."""
        process = self.process_of(service)
        assert process.is_alive(), f"{service} does not run"
        os.kill(process.pid, number)
        return process

    def is_another(self, service: str, before: ProcessId) -> bool:
        """Whether `service` runs in another process than `before`."""
        process = self.now.services[service].process
        return process is not None and process != before and process.is_alive()

    async def all_ready(self, *, within: float = 60, services: Collection[str] = EVERYTHING) -> None:
        """Return when all services are ready."""

        async def ready() -> bool:
            states = (await status_of(self.now))["services"]
            return all(states[name] == "ready" for name in services)

        await eventually(ready, within=within, what="every service ready")


async def eventually(
    look: Callable[[], Awaitable[T]], *, within: float, what: str, every: float = 0.05, patient: bool = False
) -> T:
    """The first truthy thing that `look` returns; fails after `within` seconds.

    patient: errors of the network count as "not yet".
    """
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            found = await look()
        except OSError as error:
            if not patient:
                raise
            last = error
        else:
            if found:
                return found
            last = found
        assert time.monotonic() < deadline, f"not within {within:g} s: {what} (last seen: {last!r})"
        await asyncio.sleep(every)


def _known(value: str | None) -> str:
    assert value is not None, "this stack does not run"
    return value
