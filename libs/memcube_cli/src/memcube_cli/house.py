"""Which MemCube a command speaks to: the one its environment names, else the stack of this checkout."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import typer
from asyncpg import ForeignKeyViolationError
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from memcube import MemCubeClient, MemCubeError, NotSignedIn, Patience
from memcube.errors import NotFound
from memcube_cli.console import complain
from memcube_cli.keys import KeyRing
from memcube_cli.settings import CliSettings
from memcube_cli.stack import StackFile, home_folder
from memcube_common import provision
from memcube_common.db import Database
from memcube_common.errors import MemCubeError as RoomError
from memcube_common.ids import is_project_slug, new_id

INTERRUPTED: Final = 130


class GatewaySettings(BaseSettings):
    """A gateway that is named; without these, commands speak to the stack of the checkout."""

    model_config = SettingsConfigDict(env_prefix="MEMCUBE_", frozen=True, extra="ignore", env_ignore_empty=True)

    url: str | None = Field(default=None, description="Address of a gateway, instead of this checkout's own")
    key: SecretStr | None = Field(default=None, description="A key of the project there")
    project: str | None = Field(default=None, description="The project; the stack's own if unset")


@dataclass(frozen=True)
class House:
    """Addresses and the key of a running MemCube. `postgres` is the administrator's DSN, where it is known."""

    home: Path
    gateway: str
    project: str
    key: str
    nats: str | None
    postgres: str | None
    is_local: bool

    def client(self, project: str | None = None, key: str | None = None, *, patience: float = 30.0) -> MemCubeClient:
        """A client for `project`, the house's own if not given; `patience` in seconds."""
        return MemCubeClient(self.gateway, key or self.key, project or self.project, patience=Patience(total=patience))

    @asynccontextmanager
    async def database(self) -> AsyncGenerator[Database]:
        """The house's Postgres as its administrator, for work as `Principal.operator()`."""
        if self.postgres is None:
            fail("This needs the administrator's address of Postgres: set MEMCUBE_POSTGRES_DSN.")
        database = await Database.open(self.postgres, room="operator", size=2, connect_timeout=5.0)
        try:
            yield database
        finally:
            await database.close()

    async def key_of(self, project: str, *, create: bool) -> str:
        """A key that opens `project`: kept from before, or made now with the administrator's rights.

        create: make the project too where it does not exist; else the command ends with a sentence.
        """
        if not is_project_slug(project):
            fail(f"'{project}' cannot name a project: 1-63 characters of a-z, 0-9 and '-' are needed.")
        if project == self.project or not self.is_local or self.postgres is None:
            return self.key
        ring = KeyRing(self.home)
        kept = ring.read(project)
        if kept is not None and await self._opens(project, kept):
            return kept
        made = await provision.ensure_project(admin_dsn=self.postgres, project=project) if create else None
        if made is None:
            made = await self._another_key(project)
        ring.keep(project, made)
        return made

    async def _another_key(self, project: str) -> str:
        try:
            return await provision.new_project_key(admin_dsn=self.postgres or "", project=project)
        except ForeignKeyViolationError:
            fail(f"There is no project '{project}'. Make it with: memcube project create {project}")

    async def _opens(self, project: str, key: str) -> bool:
        async with self.client(project, key) as client:
            try:
                await client.receipts.get(new_id())
            except NotFound:
                return True
            except NotSignedIn:
                return False
        return True


def the_house() -> House:
    """The MemCube of this command; ends the command with a sentence where there is none."""
    settings = CliSettings()
    elsewhere = GatewaySettings()
    home = home_folder(settings.home, Path.cwd())
    stack = StackFile(home).read()
    ours = None if stack is None or not stack.is_running else stack
    if elsewhere.url is not None:
        if elsewhere.key is None:
            fail("MEMCUBE_URL is set, MEMCUBE_KEY is not.")
        if ours is not None and ours.gateway != elsewhere.url.rstrip("/"):
            ours = None
        return House(
            home=home,
            gateway=elsewhere.url,
            project=elsewhere.project or "demo",
            key=elsewhere.key.get_secret_value(),
            nats=settings.nats_url or (ours and ours.nats),
            postgres=settings.postgres_dsn or (ours and ours.postgres),
            is_local=ours is not None,
        )
    if ours is None or ours.gateway is None or ours.key is None:
        fail("MemCube does not run in this checkout. Start it with: make up")
    return House(
        home=home,
        gateway=ours.gateway,
        project=ours.project,
        key=ours.key,
        nats=ours.nats,
        postgres=ours.postgres,
        is_local=True,
    )


def fail(sentence: str, code: int = 1) -> NoReturn:
    """End the command with a sentence on stderr."""
    complain(sentence)
    raise typer.Exit(code)


def run(work: Coroutine[Any, Any, int | None], *, on_interrupt: int = INTERRUPTED) -> NoReturn:
    """Run a command's work and exit with its code; an error becomes a sentence, Ctrl-C becomes `on_interrupt`."""
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(on_interrupt) from None
    except MemCubeError as error:
        fail(str(error))
    except RoomError as error:
        fail(f"{error.code}: {error.detail}")
    raise typer.Exit(code or 0)
