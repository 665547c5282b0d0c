"""`memcube receipt`: the fate of one write."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import typer

from memcube_cli.console import say
from memcube_cli.house import House, run, the_house


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(receipt)


def receipt(
    id: Annotated[UUID, typer.Argument(help="The id the write was answered with.")],
    wait: Annotated[Literal["stored", "searchable"] | None, typer.Option(help="Wait until it got there.")] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 30.0,
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
) -> None:
    """Print how far a write got, and when. Exits with 1 where it failed or was parked."""
    run(_receipt(the_house(), id, wait, timeout, project, as_json))


async def _receipt(
    house: House,
    id: UUID,
    wait: Literal["stored", "searchable"] | None,
    timeout: float,
    project: str | None,
    as_json: bool,
) -> int:
    chosen = project or house.project
    async with house.client(chosen, await house.key_of(chosen, create=False)) as client:
        got = await (client.receipts.wait(id, wait, timeout) if wait else client.receipts.get(id))
    if as_json:
        say(got.model_dump_json())
    else:
        say(f"{got.state}{f': {got.reason}' if got.reason else ''}")
        for name, moment in (
            ("accepted", got.accepted_at),
            ("stored", got.stored_at),
            ("searchable", got.searchable_at),
        ):
            if moment is not None:
                say(f"  {name:<10}  {_time(moment)}{_later(got.accepted_at, moment)}")
        say(f"  {'memory':<10}  {got.memory_id}")
    return 1 if got.state in {"failed", "parked"} else 0


def _time(moment: datetime) -> str:
    return moment.astimezone().isoformat(sep=" ", timespec="milliseconds")


def _later(since: datetime | None, moment: datetime) -> str:
    if since is None or moment == since:
        return ""
    return f"  +{(moment - since).total_seconds() * 1000:,.0f} ms"
