"""`memcube watch`: what changes, as it changes."""

from typing import Annotated

import typer

from memcube import Change, Reset
from memcube_cli.console import complain, console, cut, say
from memcube_cli.house import House, run, the_house


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(watch)


def watch(
    after: Annotated[
        int | None, typer.Option(min=0, help="Replay behind this position; 0 is all that is kept.")
    ] = None,
    event: Annotated[str, typer.Option(help="Only these types, e.g. 'memory.v1.created' or 'memory.*'.")] = "*",
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print changes live until Ctrl-C."""
    run(_watch(the_house(), after, event, project, as_json), on_interrupt=0)


async def _watch(house: House, after: int | None, event: str, project: str | None, as_json: bool) -> None:
    chosen = project or house.project
    async with house.client(chosen, await house.key_of(chosen, create=False)) as client:
        if console().is_terminal:
            complain(f"watching {chosen}; Ctrl-C ends")
        async for change in client.changes(after=after, event=event):
            say(change.model_dump_json(exclude_none=True) if as_json else line_of(change))


def line_of(change: Change | Reset) -> str:
    """One change on one line: position, time, type, label, tags."""
    match change:
        case Reset():
            return f"{change.position or '?':>8}  reset: this position is too old, changes were missed"
        case Change():
            at = change.at.astimezone().strftime("%H:%M:%S") if change.at else "        "
            what = change.label or (str(change.receipt_id) if change.receipt_id else "")
            tags = f"  [{' '.join(change.tags)}]" if change.tags else ""
            return f"{change.position:>8}  {at}  {change.type:<22}  {cut(what + tags, 100)}"
