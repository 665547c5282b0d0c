"""`memcube quota`: what a project may hold and do, and giving it more or less."""

from dataclasses import replace
from typing import Annotated, Final

import typer
from asyncpg import ForeignKeyViolationError

from memcube_cli.console import say, table
from memcube_cli.house import House, fail, run, the_house
from memcube_common.ids import is_project_slug
from memcube_common.quotas import store
from memcube_common.quotas.domain import DAILY, RESOURCES, Resource
from memcube_common.security.principal import Principal

UNLIMITED: Final = "unlimited"
_MAX: Final = 2**60


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Look at quotas and set them.", no_args_is_help=True)
    group.command("show")(show)
    group.command("set")(set_)
    app.add_typer(group, name="quota")


def show(
    project: Annotated[str | None, typer.Argument(help="The project; the stack's own if not given.")] = None,
) -> None:
    """Print what a project may hold and how much of it is used."""
    run(show_quotas(the_house(), project))


def set_(
    project: Annotated[str, typer.Argument(help="The project.")],
    resource: Annotated[str, typer.Argument(help=f"One of {', '.join(RESOURCES)}.")],
    maximum: Annotated[str, typer.Argument(help=f"A whole number, or '{UNLIMITED}'.")],
) -> None:
    """Give a project another maximum; it holds for the next write."""
    if resource not in RESOURCES:
        fail(f"There is no resource '{resource}': it is one of {', '.join(RESOURCES)}.", 2)
    if maximum != UNLIMITED and not (maximum.isascii() and maximum.isdecimal() and int(maximum[:20]) <= _MAX):
        fail(f"A maximum is a whole number of 0 … 2^60, or '{UNLIMITED}'.", 2)
    run(set_quota(the_house(), project, resource, None if maximum == UNLIMITED else int(maximum)))


async def show_quotas(house: House, project: str | None) -> None:
    """Print every resource of `project`, or of the house's own."""
    operator = _operator(project or house.project)
    async with house.database() as database, database.transaction(operator) as tx:
        quotas = await store.read_quotas(tx)
    table(
        ("resource", "used", "max", "counted", "announced"),
        [
            (
                quota.resource,
                quota.used,
                UNLIMITED if quota.max is None else quota.max,
                "by day" if quota.resource in DAILY else "in all",
                "exhausted" if quota.exhausted_at else "warned" if quota.warned_at else "-",
            )
            for quota in quotas
        ],
        right=("used", "max"),
    )


async def set_quota(house: House, project: str, resource: Resource, maximum: int | None) -> None:
    """Give `project` another maximum (None: unlimited) and say so; ends the command where there is no such project."""
    try:
        async with house.database() as database, database.transaction(_operator(project)) as tx:
            await store.set_quota(tx, resource=resource, maximum=maximum)
    except ForeignKeyViolationError:
        fail(f"There is no project '{project}'.")
    say(f"{project}: {resource} {UNLIMITED if maximum is None else maximum}")


def _operator(project: str) -> Principal:
    if not is_project_slug(project):
        fail(f"'{project}' cannot name a project: 1-63 characters of a-z, 0-9 and '-' are needed.")
    return replace(Principal.operator(), project=project)
