"""`memcube member`: who is in a project, for its owners and admins."""

from typing import Annotated, Literal

import typer

from memcube_cli.console import complain, say, table
from memcube_cli.house import run
from memcube_cli.people import EmailOption, ProjectOption, TokenOption, person

_Handle = Annotated[str, typer.Argument(help="The member's name in the project.")]
_Role = Annotated[str, typer.Argument(help="OWNER, ADMIN, MEMBER, AGENT or VIEWER.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Invite, list, change and remove the members of a project.", no_args_is_help=True)
    group.command("invite")(invite)
    group.command("list")(list_members)
    group.command("role")(change)
    group.command("remove")(remove)
    app.add_typer(group, name="member")


def invite(
    handle: _Handle,
    role: _Role = "MEMBER",
    project: ProjectOption = None,
    token: TokenOption = None,
    email: EmailOption = None,
) -> None:
    """Invite somebody and print the invitation's token, this once."""
    run(_invite(handle, role, project, token, email))


def list_members(project: ProjectOption = None, token: TokenOption = None, email: EmailOption = None) -> None:
    """List members and open invitations."""
    run(_list(project, token, email))


def change(
    handle: _Handle,
    role: _Role,
    project: ProjectOption = None,
    token: TokenOption = None,
    email: EmailOption = None,
) -> None:
    """Give a member another role."""
    run(_ask("PATCH", handle, {"role": role}, project, token, email))


def remove(
    handle: _Handle, project: ProjectOption = None, token: TokenOption = None, email: EmailOption = None
) -> None:
    """Take a member out, or withdraw an invitation."""
    run(_ask("DELETE", handle, None, project, token, email))


async def _invite(handle: str, role: str, project: str | None, token: str | None, email: str | None) -> int:
    async with person(project, token, email) as me:
        made = await me.ask("POST", "members", {"handle": handle, "role": role})
    complain(f"'{handle}' may join as {role} until {made['expires_at']}; the invitation, shown this once:")
    say(made["token"])
    return 0


async def _list(project: str | None, token: str | None, email: str | None) -> int:
    async with person(project, token, email) as me:
        found = await me.ask("GET", "members")
    rows = [(member["handle"], member["role"], member["joined_at"]) for member in found["members"]]
    rows += [(open_["handle"], open_["role"], f"invited until {open_['expires_at']}") for open_ in found["invitations"]]
    table(("handle", "role", "since"), rows)
    return 0


async def _ask(
    method: Literal["PATCH", "DELETE"],
    handle: str,
    body: dict[str, str] | None,
    project: str | None,
    token: str | None,
    email: str | None,
) -> int:
    async with person(project, token, email) as me:
        await me.ask(method, f"members/{handle}", body)
    return 0
