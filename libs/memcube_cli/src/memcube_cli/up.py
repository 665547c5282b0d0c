"""`memcube up`, `down` and `status`: the stack of this checkout, started, stopped and looked at."""

import asyncio
import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Annotated, Final

import typer

from memcube_cli.room_process import RoomPlan
from memcube_cli.settings import CliSettings
from memcube_cli.stack import Stack, StackFile, State, Status, home_folder, status_of
from memcube_cli.supervisor import Plan, Supervisor
from memcube_common import provision
from memcube_common.embedded.private import private_folder
from memcube_common.embedded.process import ProcessId, log_size, log_tail

_LOWERED: Final = {"embedding": 10}  # niceness: the model must never starve the gateway
_DOWN_WITHIN: Final = 60.0  # seconds; the supervisor's own deadlines add up to less


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when ready and keep running.")] = False,
    unattended: Annotated[bool, typer.Option(hidden=True, help="Print no key: the output goes to a log.")] = False,
) -> None:
    """Start Postgres, NATS and every room of this checkout, and print how to use them."""
    settings = CliSettings()
    home = _home(settings)
    StackFile(home).make_home()
    _wait_while_stopping(home)
    with _sole_supervisor(home) as lock:
        if lock is not None and not detach:
            raise typer.Exit(_run(home, settings, on_ready=_nothing_more if unattended else _announce_attached))
    if lock is None:
        _announce_running(_follow(home, None, settings.ready_within))
        return
    supervisor = _run_detached(home)
    _announce(_follow(home, supervisor, settings.ready_within))


def down() -> None:
    """Stop the stack of this checkout and wait until all of it is gone."""
    home = _home(CliSettings())
    stack = StackFile(home).read()
    if stack is None or not stack.is_running or stack.supervisor is None:
        leftovers = _living(stack)
        _end(leftovers)
        typer.echo("MemCube was not running here." if not leftovers else "Ended what an earlier run left behind.")
        return
    everything = [stack.supervisor, *_living(stack)]
    _signal(stack.supervisor, signal.SIGTERM)
    if not _gone(everything, within=_DOWN_WITHIN):
        typer.echo("It does not stop by itself: ending it.", err=True)
        latest = StackFile(home).read()
        _end([stack.supervisor, *_living(stack), *_living(latest)])
    typer.echo("MemCube is stopped.")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print it for scripts, secrets included.")] = False,
) -> None:
    """Say what runs in this checkout, and where."""
    stack = StackFile(_home(CliSettings())).read()
    if stack is None:
        services: dict[str, State] = dict.fromkeys(("postgres", "nats", *provision.ROOMS), "stopped")
        found = Status(gateway=None, nats=None, postgres=None, project="demo", key=None, services=services)
    else:
        found = asyncio.run(status_of(stack))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    running = stack is not None and stack.is_running
    typer.echo(f"MemCube {f'is {stack.phase} at {stack.gateway}' if stack and running else 'is stopped'}")
    for name, state in found["services"].items():
        record = None if stack is None else stack.services.get(name)
        again = f" (restarts: {record.restarts})" if record is not None and record.restarts else ""
        typer.echo(f"  {name:<12} {state}{again}")


def _home(settings: CliSettings) -> Path:
    """The stack's folder; exits with 1 and a plain sentence when it belongs to somebody else."""
    home = home_folder(settings.home, Path.cwd())
    file = StackFile(home).path
    for path in (home, file):
        if not os.access(path if path.exists() else home.parent, os.R_OK | os.W_OK):
            typer.echo(
                f"{path} cannot be read and written by you: was MemCube started here by another user?"
                " Go on as that user, or set MEMCUBE_HOME to a folder of your own.",
                err=True,
            )
            raise typer.Exit(1)
    return home


def _run(home: Path, settings: CliSettings, *, on_ready: Callable[[Stack], None]) -> int:
    """Be the supervisor until asked to stop; returns the exit code."""
    plan = Plan(
        rooms=tuple(
            RoomPlan(room, (sys.executable, "-m", f"memcube_{room}"), nice=_LOWERED.get(room, 0))
            for room in provision.ROOMS
        ),
        provision=provision.provision,
        provision_streams=provision.provision_streams,
        ensure_project=provision.ensure_project,
        new_project_key=provision.new_project_key,
        environment=os.environ,
        postgres_dsn=settings.postgres_dsn,
        nats_url=settings.nats_url,
        ready_within=settings.ready_within,
    )
    supervisor = Supervisor(home, plan, say=typer.echo)
    return asyncio.run(supervisor.run(on_ready=on_ready))


def _run_detached(home: Path) -> subprocess.Popen[bytes]:
    """Start this command again in a session of its own, its words going to `logs/supervisor.log`."""
    log = private_folder(home / "logs") / "supervisor.log"
    log.unlink(missing_ok=True)
    with os.fdopen(os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "memcube_cli", "up", "--unattended"],
            env={**os.environ, "MEMCUBE_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def _follow(home: Path, started: subprocess.Popen[bytes] | None, within: float) -> Stack:
    """Wait until the stack is ready, passing on what its supervisor says; exits with 1 if it fails.

    `started` is the supervisor made just now; None follows the one that another command started.
    """
    log = home / "logs" / "supervisor.log"
    told = 0 if started is not None else log_size(log)
    deadline = time.monotonic() + within + 30
    while time.monotonic() < deadline:
        ended = started is not None and started.poll() is not None
        told = _pass_on(log, told) if started is not None else told
        stack = StackFile(home).read()
        if stack is not None and stack.is_running and stack.phase == "ready":
            return stack
        if ended or (started is None and stack is not None and stack.phase in ("stopping", "stopped", "failed")):
            break
        time.sleep(0.05)
    typer.echo(f"MemCube is not ready; what it said is in {log}", err=True)
    raise typer.Exit(1)


def _pass_on(log: Path, told: int) -> int:
    """Print whole new lines of a log, except the closing announcement, and return how far we are."""
    size = log_size(log)
    if size <= told:
        return told
    for line in log_tail(log, since=told, most=100_000).splitlines():
        typer.echo(line)
    return size


def _wait_while_stopping(home: Path) -> None:
    """A stack on its way down is waited for, so that `up` right after `down` just works."""
    deadline = time.monotonic() + _DOWN_WITHIN
    while time.monotonic() < deadline:
        stack = StackFile(home).read()
        if stack is None or not stack.is_running or stack.phase != "stopping":
            return
        time.sleep(0.05)


@contextlib.contextmanager
def _sole_supervisor(home: Path) -> Generator[IO[str] | None]:
    """Hold the checkout's lock while inside; None when another supervisor holds it."""
    with (home / "supervisor.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock


def _announce_running(stack: Stack) -> None:
    typer.echo(f"MemCube is already running in this checkout: {stack.gateway}")


def _announce_attached(stack: Stack) -> None:
    _announce(stack)
    typer.echo("Ctrl-C stops it; data stays.")


def _nothing_more(stack: Stack) -> None:
    typer.echo(f"ready at {stack.gateway}")


def _announce(stack: Stack) -> None:
    """Print the address, the key and three commands that work as they stand."""
    memcube = _memcube_command()
    typer.echo(
        f"""
MemCube is ready.

  gateway  {stack.gateway}
  project  {stack.project}
  key      {stack.key}

Try:

  curl -sS '{stack.gateway}/v1/projects/{stack.project}/insights' \\
    -H 'Authorization: Bearer {stack.key}' -H 'Content-Type: application/json' \\
    -d '{{"insight": "The staging database is rebuilt every Monday at six."}}'

  {memcube} query "when is staging rebuilt?"

  {memcube} watch
"""
    )


def _memcube_command() -> str:
    """How to call this very command from the folder we are in."""
    script = Path(sys.executable).with_name("memcube")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m memcube_cli"
    with contextlib.suppress(ValueError):
        script = script.relative_to(Path.cwd())
    return shlex.quote(str(script))


def _living(stack: Stack | None) -> list[ProcessId]:
    """The stack's processes that still run."""
    records = stack.services.values() if stack is not None else ()
    return [record.process for record in records if record.process is not None and record.process.is_alive()]


def _signal(process: ProcessId, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if process.is_alive():
            os.kill(process.pid, number)


def _gone(processes: list[ProcessId], *, within: float) -> bool:
    deadline = time.monotonic() + within
    while any(process.is_alive() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _end(processes: list[ProcessId]) -> None:
    """End processes by force, Postgres' own way first (SIGINT), and wait for it."""
    for number in (signal.SIGINT, signal.SIGKILL):
        for process in processes:
            _signal(process, number)
        if _gone(processes, within=10.0):
            return
