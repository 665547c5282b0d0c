"""`memcube key`: the keys of a project, for its owners and admins."""

from typing import Annotated, Literal
from uuid import UUID

import typer

from memcube_cli.console import complain, say, table
from memcube_cli.house import run
from memcube_cli.people import EmailOption, ProjectOption, TokenOption, person


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Make, list and revoke the keys of a project.", no_args_is_help=True)
    group.command("create")(create)
    group.command("list")(list_keys)
    group.command("revoke")(revoke)
    app.add_typer(group, name="key")


def create(
    name: Annotated[str, typer.Argument(help="Who its memories are by.")],
    kind: Annotated[Literal["secret", "publishable"], typer.Option(help="A publishable key reads what is public.")] = (
        "secret"
    ),
    role: Annotated[str | None, typer.Option(help="Its role; SERVICE if not given, at most your own.")] = None,
    project: ProjectOption = None,
    token: TokenOption = None,
    email: EmailOption = None,
) -> None:
    """Make a key and print it, this once."""
    run(_create({"name": name, "kind": kind, **({"role": role} if role else {})}, project, token, email))


def list_keys(project: ProjectOption = None, token: TokenOption = None, email: EmailOption = None) -> None:
    """List the keys, newest first, without their secrets."""
    run(_list(project, token, email))


def revoke(
    id: Annotated[UUID, typer.Argument(help="As `key list` prints it.")],
    project: ProjectOption = None,
    token: TokenOption = None,
    email: EmailOption = None,
) -> None:
    """Revoke a key: it opens nothing within five seconds."""
    run(_revoke(id, project, token, email))


async def _create(body: dict[str, str], project: str | None, token: str | None, email: str | None) -> int:
    async with person(project, token, email) as me:
        made = await me.ask("POST", "keys", body)
    complain(f"{made['id']} {made['name']} {made['role']}; the key, shown this once:")
    say(made["key"])
    return 0


async def _list(project: str | None, token: str | None, email: str | None) -> int:
    async with person(project, token, email) as me:
        keys = (await me.ask("GET", "keys"))["keys"]
    table(
        ("id", "name", "role", "begins", "last used", "state"),
        [
            (
                key["id"],
                key["name"],
                key["role"],
                key["prefix"],
                key["last_used_at"] or "never",
                "revoked" if key["revoked_at"] else "good",
            )
            for key in keys
        ],
    )
    return 0


async def _revoke(key: UUID, project: str | None, token: str | None, email: str | None) -> int:
    async with person(project, token, email) as me:
        await me.ask("DELETE", f"keys/{key}")
    return 0
