"""Child processes that do not outlive us: start, recognise, wait for and stop them without blocking the loop."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOG_LIMIT = 16 * 1024 * 1024


class CannotStart(RuntimeError):
    """A process of the embedded stack cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told apart from a later one that happens to get the same pid."""

    pid: int
    birth: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """Return the identity of a running process, None if there is none (a zombie counts as none)."""
        birth = _birth(pid)
        return None if birth is None else cls(pid, birth)

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return _birth(self.pid) == self.birth


def _birth(pid: int) -> str | None:
    """When a process began, in whatever unit the system tells it; None when it is gone or a zombie."""
    if sys.platform == "linux":
        try:
            # The name in brackets may hold anything; the third field (state) begins after the last bracket.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] in "ZX":
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{fields[19]}"
    told = _ps(pid, "stat=,lstart=")
    return None if told is None or told.startswith("Z") else told.partition(" ")[2].strip()


def command_line(pid: int) -> tuple[str, ...]:
    """Return the arguments of a running process, empty when it is gone or hidden from us."""
    if sys.platform == "linux":
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ()
        return tuple(part.decode(errors="surrogateescape") for part in raw.split(b"\0") if part)
    return tuple((_ps(pid, "command=") or "").split())


def _ps(pid: int, columns: str) -> str | None:
    told = subprocess.run(["ps", "-o", columns, "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
    return told.stdout.strip() or None


def _load_prctl() -> "Callable[[int, int], int] | None":
    if sys.platform != "linux":
        return None
    return ctypes.CDLL(None, use_errno=True).prctl


def spawn(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    log: Path,
    death_signal: signal.Signals,
    user: int | None = None,
    group: int | None = None,
    nice: int = 0,
    folder: Path | str = "/",
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, both outputs appended to `log`, and return at once.

    Linux sends the child `death_signal` when the calling *thread* ends, so call this from the thread that runs the
    event loop, never from a worker thread. A log beyond 16 MiB is set aside once as `<log>.1`.
    """
    parent = os.getpid()
    prctl = _load_prctl()

    def before_exec() -> None:
        if nice:
            os.nice(nice)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != parent:  # the parent died before it could be watched
                os._exit(1)

    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_name(f"{log.name}.1"))
    descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        return subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            preexec_fn=before_exec,
            user=user,
            group=group,
            extra_groups=[] if user is not None else None,
        )
    except OSError as error:
        raise CannotStart(f"{Path(command[0]).name} could not be started: {error}") from error
    finally:
        os.close(descriptor)


async def until(condition: Callable[[], bool], *, within: float, every: float = 0.02) -> bool:
    """Wait until the condition holds, looking every `every` seconds; False if it does not within `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        if condition():
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(every)


async def stop(process: subprocess.Popen[bytes], *, gently: signal.Signals, within: float) -> bool:
    """Ask a child to end with `gently`, kill it after `within` seconds, and reap it; True if asking was enough."""
    if process.poll() is None:
        process.send_signal(gently)
    if await until(lambda: process.poll() is not None, within=within):
        return True
    process.kill()
    await until(lambda: process.poll() is not None, within=10.0)
    return False


async def end_stray(pid: int, *, marks: Sequence[str], gently: signal.Signals, within: float) -> bool:
    """End a process left by an earlier run, if all `marks` are among its arguments; True if there was one.

    A process that does not carry the marks is somebody else's, whatever pid file names it, and is left alone.
    """
    stray = ProcessId.of(pid)
    if stray is None or not set(marks) <= set(command_line(pid)):
        return False
    for sent in (gently, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)
        if await until(lambda: not stray.is_alive(), within=within):
            return True
    raise CannotStart(f"an earlier server (process {pid}) does not end: end it by hand and try again")


def log_size(log: Path) -> int:
    """Return how many bytes a log holds, 0 if it does not exist."""
    return log.stat().st_size if log.exists() else 0


def log_tail(log: Path, *, since: int = 0, most: int = 2_000) -> str:
    """Return what was written to a log after byte `since`, at most the last `most` characters."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        if log.stat().st_size >= since:
            file.seek(since)
        return file.read().decode(errors="replace")[-most:].strip()
