"""`memcube project`: make projects and keys on the stack of this checkout."""

from typing import Annotated

import typer

from memcube_cli.console import say
from memcube_cli.house import House, fail, run, the_house
from memcube_cli.keys import KeyRing
from memcube_common import provision
from memcube_common.ids import is_project_slug

_Slug = Annotated[str, typer.Argument(help="1-63 characters of a-z, 0-9 and '-'.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Make projects and keys.", no_args_is_help=True)
    group.command()(create)
    group.command()(key)
    app.add_typer(group, name="project")


def create(slug: _Slug) -> None:
    """Make a project and print its key."""
    run(_create(the_house(), slug))


def key(slug: _Slug) -> None:
    """Print a key of a project, the one kept here or a new one."""
    run(_key(the_house(), slug))


async def _create(house: House, slug: str) -> int:
    if not is_project_slug(slug):
        fail(f"'{slug}' cannot name a project: 1-63 characters of a-z, 0-9 and '-' are needed.")
    if house.postgres is None:
        fail("This needs the administrator's address of Postgres: set MEMCUBE_POSTGRES_DSN.")
    secret = await provision.ensure_project(admin_dsn=house.postgres, project=slug)
    if secret is None:
        fail(f"There is a project '{slug}' already. Its key: memcube project key {slug}")
    KeyRing(house.home).keep(slug, secret)
    say(secret)
    return 0


async def _key(house: House, slug: str) -> int:
    say(await house.key_of(slug, create=False))
    return 0
