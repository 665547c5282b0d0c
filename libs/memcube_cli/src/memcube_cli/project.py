"""`memcube project`: make projects and keys on the stack of this checkout, and set what is decided about a project."""

from dataclasses import replace
from typing import Annotated, Final

import typer

from memcube_cli.console import say
from memcube_cli.house import House, fail, run, the_house
from memcube_cli.keys import KeyRing
from memcube_common import provision
from memcube_common.contracts.fields import Screening
from memcube_common.ids import is_project_slug
from memcube_common.projects.store import set_settings
from memcube_common.security.principal import Principal

OFF: Final = "off"
LEAST: Final = 0.8

_NO_SLUG: Final = "'{slug}' cannot name a project: 1-63 characters of a-z, 0-9 and '-' are needed."
_Slug = Annotated[str, typer.Argument(help="1-63 characters of a-z, 0-9 and '-'.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Make projects and keys, and set what is decided about one.", no_args_is_help=True)
    group.command()(create)
    group.command()(key)
    group.command("set")(set_)
    app.add_typer(group, name="project")


def create(slug: _Slug) -> None:
    """Make a project and print its key."""
    run(_create(the_house(), slug))


def key(slug: _Slug) -> None:
    """Print a key of a project, the one kept here or a new one."""
    run(_key(the_house(), slug))


def set_(
    slug: _Slug,
    screening: Annotated[
        Screening | None, typer.Option(help="What becomes of personal data and secrets in new text.")
    ] = None,
    near_duplicates: Annotated[
        str | None,
        typer.Option(help=f"Similarity, 0.8-1, from which a new insight supports the memory there is; '{OFF}'."),
    ] = None,
) -> None:
    """Set what is decided about what is written into a project, and print it; what is not given stays."""
    similarity = None if near_duplicates in {None, OFF} else _similarity(str(near_duplicates))
    run(set_project(the_house(), slug, screening=screening, near_duplicates=similarity, forget=near_duplicates == OFF))


async def set_project(
    house: House, slug: str, *, screening: Screening | None, near_duplicates: float | None, forget: bool
) -> None:
    """Set what is given and print how it stands; `forget`: near duplicates off. Ends where there is no such project."""
    if not is_project_slug(slug):
        fail(_NO_SLUG.format(slug=slug))
    operator = replace(Principal.operator(), project=slug)
    async with house.database() as database, database.transaction(operator) as tx:
        now = await set_settings(
            tx,
            project=slug,
            screening=screening,
            near_duplicates=near_duplicates,
            forget_near_duplicates=forget,
        )
    if now is None:
        fail(f"There is no project '{slug}'.")
    say(f"{slug}: screening {now.screening}, near duplicates {now.near_duplicates or OFF}")


def _similarity(text: str) -> float:
    try:
        similarity = float(text)
    except ValueError:
        similarity = 0.0
    if not LEAST <= similarity <= 1:
        fail(f"Near duplicates take a similarity of {LEAST} … 1, or '{OFF}'.", 2)
    return similarity


async def _create(house: House, slug: str) -> int:
    if not is_project_slug(slug):
        fail(_NO_SLUG.format(slug=slug))
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
