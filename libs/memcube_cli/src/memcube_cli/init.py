"""`memcube init`: the first owner of a project, with a password that is made here and printed once."""

import secrets
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from pydantic import ValidationError

from memcube_cli.console import complain, say
from memcube_cli.house import fail, run
from memcube_cli.settings import CliSettings
from memcube_cli.stack import StackFile, home_folder
from memcube_common.contracts.fields import Closed, Label
from memcube_common.contracts.identity import Email, Handle
from memcube_common.ids import is_project_slug
from memcube_common.provision import first_owner
from memcube_common.security.passwords import Passwords


class NewOwner(Closed):
    """Who the owner is: the same limits as at the gateway."""

    email: Email
    handle: Handle
    name: Label


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command("init")(init)


def init(
    email: Annotated[str, typer.Option(help="Who the owner signs in as.")],
    project: Annotated[str, typer.Option(help="The project to own; made if it is not there.")] = "demo",
    name: Annotated[str | None, typer.Option(help="What people call the owner; the handle if not given.")] = None,
    handle: Annotated[str, typer.Option(help="What the owner is called inside the project.")] = "owner",
) -> None:
    """Make the first owner of a project. The password is printed this once; a project that has an owner is refused."""
    if not is_project_slug(project):
        fail(f"'{project}' cannot name a project: 1-63 characters of a-z, 0-9 and '-' are needed.", 2)
    try:
        NewOwner(email=email, handle=handle, name=name or handle)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        fail(f"--{fault['loc'][0]}: {fault['msg'].removeprefix('Value error, ')}", 2)
    run(_init(_administrator(), email, project, name or handle, handle))


def _administrator() -> str:
    """The administrator's address of Postgres: what the environment names, else the running stack's."""
    settings = CliSettings()
    if settings.postgres_dsn is not None:
        return settings.postgres_dsn
    stack = StackFile(home_folder(settings.home, Path.cwd())).read()
    if stack is None or not stack.is_running or stack.postgres is None:
        fail("MemCube does not run in this checkout. Start it with: make up, or set MEMCUBE_POSTGRES_DSN.")
    return stack.postgres


async def _init(dsn: str, email: str, project: str, name: str, handle: str) -> int:
    password = secrets.token_urlsafe(18)
    passwords = Passwords()
    try:
        hashed = await passwords.hash(password)
    finally:
        passwords.close()
    try:
        made = await first_owner(admin_dsn=dsn, project=project, email=email, name=name, handle=handle, password=hashed)
    except (OSError, asyncpg.PostgresError) as error:
        fail(f"Postgres could not be asked ({type(error).__name__}).")
    if not made:
        fail(f"The project '{project}' has an owner already; owners invite others: memcube member invite.")
    complain(f"'{handle}' owns '{project}' and may make projects. The password, shown this once:")
    say(password)
    return 0
