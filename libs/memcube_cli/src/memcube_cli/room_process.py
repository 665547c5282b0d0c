"""One room as the supervisor sees it: a process with a port, a log and a /readyz."""

import signal
import subprocess
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memcube_common.embedded.loopback import HOST, free_port, http_status
from memcube_common.embedded.process import ProcessId, log_size, log_tail, spawn, stop, until

GRACE: Final = 10.0  # seconds a room has to finish what it holds


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """How one room is started: its command, and how politely it shares the processor (`nice`, 0 to 19)."""

    name: str
    command: tuple[str, ...]
    nice: int = 0


class Room:
    """One room's process; ready when its own /readyz says so. `promised` tells the ports that other services have."""

    def __init__(
        self,
        plan: RoomPlan,
        *,
        environment: Mapping[str, str],
        port: int | None,
        promised: Callable[[], Collection[int]],
        log: Path,
    ) -> None:
        self.plan = plan
        self.log = log
        self.port = free_port(port, besides=promised())
        self._promised = promised
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._log_began = log_size(log)

    @property
    def process(self) -> ProcessId | None:
        """The room's process while it runs."""
        return None if self._process is None or self._process.poll() is not None else ProcessId.of(self._process.pid)

    async def start(self) -> None:
        """Start the process and return at once; takes another port if its own was taken meanwhile."""
        self.port = free_port(self.port, besides=self._promised())
        self._log_began = log_size(self.log)
        self._process = spawn(
            self.plan.command,
            environment={**self._environment, "MEMCUBE_HTTP_HOST": HOST, "MEMCUBE_HTTP_PORT": str(self.port)},
            log=self.log,
            death_signal=signal.SIGKILL,  # rooms lose nothing by it, and must not outlive their servers
            nice=self.plan.nice,
        )

    async def is_ready(self) -> bool:
        """Whether the room answers 200 to /readyz."""
        return self.process is not None and await http_status(self.port, "/readyz") == 200

    async def stop(self, *, within: float = GRACE) -> None:
        """Ask the room to finish, kill it after `within` seconds."""
        if self._process is not None:
            await stop(self._process, gently=signal.SIGTERM, within=within)

    async def ended(self) -> int | None:
        """Wait until the process ends; return its exit code, None if none was started."""
        process = self._process
        if process is None:
            return None
        while not await until(lambda: process.poll() is not None, within=60.0, every=0.05):
            pass
        return process.returncode

    def last_words(self) -> str:
        """The end of what this run wrote to its log."""
        return log_tail(self.log, since=self._log_began, most=1_500)
