"""The stack of one checkout as kept in `.memcube/stack.json`: addresses, secrets, processes and their states."""

import asyncio
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Final, Literal, TypedDict, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from memcube_common.embedded.loopback import http_answer, http_status
from memcube_common.embedded.private import private_folder, write_private
from memcube_common.embedded.process import ProcessId

State = Literal["ready", "starting", "stopped", "failed"]
Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]

WORKSPACE: Final = "memcube-workspace"
SERVERS: Final = ("postgres", "nats")


class ServiceRecord(BaseModel):
    """What is known of one service; `process` and `port` are None for a server of one's own."""

    model_config = ConfigDict(frozen=True)

    state: State = "stopped"
    process: ProcessId | None = None
    port: int | None = None
    restarts: int = 0


class Stack(BaseModel):
    """Everything a later command must know of the stack; holds secrets, so it is only ever kept in a 0600 file.

    `database` says which database the key belongs to: "embedded", or an address without its password.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    phase: Phase = "stopped"
    supervisor: ProcessId | None = None
    gateway: str | None = None
    nats: str | None = None
    postgres: str | None = None
    project: str = "demo"
    key: str | None = None
    database: str = "embedded"
    logins: dict[str, str] = {}
    token_keys: str | None = None
    ports: dict[str, int] = {}
    services: dict[str, ServiceRecord] = {}

    @property
    def is_running(self) -> bool:
        """Whether the supervisor that wrote this still runs; a later process with its pid does not count."""
        return self.supervisor is not None and self.supervisor.is_alive()


class Status(TypedDict):
    """What `memcube status --json` prints."""

    gateway: str | None
    nats: str | None
    postgres: str | None
    project: str
    key: str | None
    services: dict[str, State]


class StackFile:
    """`stack.json` in the home folder: read as a whole, replaced as a whole."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "stack.json"

    def make_home(self) -> None:
        """Make the home folder: others may pass through it (Postgres may have to, as `nobody`) and see nothing."""
        private_folder(self.home, mode=0o711)

    def read(self) -> Stack | None:
        """Return what was last written, None if nothing was or it cannot be understood; PermissionError if not ours."""
        try:
            return Stack.model_validate_json(self.path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    def write(self, stack: Stack) -> None:
        """Replace the file atomically, readable by its owner only."""
        self.make_home()
        write_private(self.path, stack.model_dump_json(indent=2) + "\n")


def home_folder(configured: Path | None, working: Path) -> Path:
    """Return the stack's folder: the configured one, else `.memcube` in the checkout around `working` or in itself."""
    if configured is not None:
        return configured.expanduser().absolute()
    for folder in (working, *working.parents):
        if _is_checkout(folder / "pyproject.toml"):
            return folder / ".memcube"
    return working / ".memcube"


def checkout_name(home: Path) -> str:
    """Return the name this checkout's servers go by: no other home folder on the machine has the same."""
    return f"memcube-{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]}"


async def status_of(stack: Stack) -> Status:
    """Return addresses and the states as they are now: processes are looked at and rooms are asked."""
    names = list(stack.services)
    states = await asyncio.gather(*(_state_of(name, stack) for name in names))
    return Status(
        gateway=stack.gateway,
        nats=stack.nats,
        postgres=stack.postgres,
        project=stack.project,
        key=stack.key,
        services=dict(zip(names, states, strict=True)),
    )


async def _state_of(name: str, stack: Stack) -> State:
    record = stack.services[name]
    if not stack.is_running:
        return "stopped"
    if record.process is None:
        return record.state
    if not record.process.is_alive():
        return "failed"
    if name in SERVERS or record.port is None:
        return record.state
    return "ready" if await http_status(record.port, "/readyz", within=2.0) == 200 else "starting"


async def ailments_of(stack: Stack, name: str) -> list[str]:
    """What a room does without for now (`objects`, …), by its own account; its log says why."""
    port = stack.services[name].port
    if name in SERVERS or port is None:
        return []
    answer = await http_answer(port, "/readyz", within=2.0)
    try:
        checks: dict[str, str] = json.loads(answer[1])["checks"] if answer is not None else {}
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name, state in checks.items() if state != "ok"]


def _is_checkout(pyproject: Path) -> bool:
    try:
        declared = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    project = declared.get("project")
    return isinstance(project, dict) and cast("dict[str, object]", project).get("name") == WORKSPACE
