"""`memcube parked`: what could not be handled and was set aside, to be looked at, tried again or thrown away."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

import nats
import nats.errors
import typer

from memcube_cli.console import complain, one_line, say, table
from memcube_cli.house import House, fail, run, the_house
from memcube_common.db import Database, Statements, Transaction
from memcube_common.ids import new_id
from memcube_common.security.principal import Principal

QUERIES: Final = Statements(__package__ or "memcube_cli")
_PUBLISH_SECONDS: Final = 5.0


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Look after what was set aside.", no_args_is_help=True)
    group.command("list")(list_parked)
    group.command("show")(show)
    group.command("replay")(replay)
    group.command("drop")(drop)
    app.add_typer(group, name="parked")


def list_parked(
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
) -> None:
    """List what was set aside, newest first, with the reasons."""
    run(print_parked(the_house(), project, limit))


def show(id: Annotated[UUID, typer.Argument(help="As `parked list` prints it.")]) -> None:
    """Print one message that was set aside, content included."""
    run(print_one(the_house(), id))


def replay(
    ids: Annotated[list[UUID] | None, typer.Argument(help="As `parked list` prints them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is set aside.")] = False,
) -> None:
    """Hand what was set aside to ingestion again; what fails again is set aside again."""
    if bool(ids) == everything:
        fail("Name the messages to replay, or say --all.", 2)
    run(replay_these(the_house(), ids or []))


def drop(
    ids: Annotated[list[UUID], typer.Argument(help="As `parked list` prints them.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Throw messages away for good."""
    if not yes:
        typer.confirm(f"Throw {len(ids)} away for good?", abort=True)
    run(_drop(the_house(), ids))


async def print_parked(house: House, project: str | None, limit: int) -> None:
    """Print what was set aside, of one project or of all, newest first."""
    async with house.database() as database, database.transaction(Principal.operator()) as tx:
        rows = await tx.fetch(QUERIES["list_parked"], project, limit)
    if not rows:
        complain("nothing is set aside")
        return
    table(
        ("parked", "id", "project", "from", "tries", "reason"),
        [
            (
                row["parked_at"].astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                row["id"],
                row["project_id"] or "-",
                row["source"],
                row["attempts"] if row["attempts"] is not None else "-",
                row["reason"],
            )
            for row in rows
        ],
        right=("tries",),
    )


async def print_one(house: House, id: UUID) -> int:
    """Print what was set aside under this id; returns 0, or 1 where there is nothing."""
    async with house.database() as database, database.transaction(Principal.operator()) as tx:
        row = await tx.fetch_one(QUERIES["read_parked"], id)
        insight = None if row is not None else await tx.fetch_one(QUERIES["read_parked_insight"], id)
        talk = await tx.fetch_one(QUERIES["read_parked_conversation"], id)
    if row is not None:
        _facts(("project", row["project_id"]), ("from", row["source"]), ("subject", row["subject"]))
        _facts(("tries", row["attempts"]), ("parked", row["parked_at"].isoformat()), ("reason", row["reason"]))
        _facts(*json.loads(row["headers"]).items())
        say()
        say(_readable(row["payload"]))
        return 0
    if insight is not None:
        _facts(("project", insight["project_id"]), ("from", "HTTP"), ("agent", insight["agent_id"]))
        _facts(("accepted", insight["accepted_at"].isoformat()), ("reason", insight["reason"] or ""))
        _facts(("label", insight["label"] or ""), ("tags", " ".join(insight["tags"])))
        say()
        say(one_line(insight["insight"]))
        return 0
    if talk is not None:
        _facts(("project", talk["project_id"]), ("from", "HTTP"), ("agent", talk["agent_id"]))
        _facts(("accepted", talk["accepted_at"].isoformat()), ("reason", talk["reason"] or ""))
        say()
        say(_readable(talk["messages"].encode()))
        return 0
    complain("nothing is set aside under this id")
    return 1


async def replay_these(house: House, ids: Sequence[UUID]) -> int:
    """Hand these to ingestion again, or all where there are none; returns 1 if one was not there, else 0."""
    missing = 0
    async with house.database() as database:
        if not ids:
            async with database.transaction(Principal.operator()) as tx:
                ids = [row["id"] for row in await tx.fetch(QUERIES["list_parked"], None, 1_000_000)]
        for id in ids:
            how = await replay_one(database, house.nats, id)
            missing += how is None
            say(f"{id}  {how or 'nothing is set aside under this id'}")
    return 1 if missing else 0


async def replay_one(database: Database, nats_url: str | None, id: UUID) -> str | None:
    """Hand one message, insight or conversation to ingestion again and forget that it was set aside.

    Returns what was done, None if it is not there.

    A message of the bus is published before its row is deleted: a crash in between publishes it twice, and its
    insight's id makes that one insight. Ends the command where NATS does not take it.
    """
    async with database.transaction(Principal.operator()) as tx:
        if await tx.fetch_value(QUERIES["unpark"], id) is not None:
            return "in the line for ingestion"
        row = await tx.fetch_one(QUERIES["read_parked"], id)
    if row is None:
        return None
    await _publish(nats_url, row["source"], row["subject"], json.loads(row["headers"]), row["payload"])
    async with database.transaction(Principal.operator()) as tx:
        await _forget(tx, id)
    return f"published again to {row['subject']}"


async def _publish(nats_url: str | None, stream: str, subject: str, headers: dict[str, str], payload: bytes) -> None:
    """Publish under a new Nats-Msg-Id: under the first one the server may take it for a repetition and drop it."""
    if nats_url is None:
        fail("This needs the address of NATS: set MEMCUBE_NATS_URL.")
    kept = {name: value for name, value in headers.items() if not name.lower().startswith("nats-")}
    try:
        client = await nats.connect(nats_url, connect_timeout=5, max_reconnect_attempts=2)
        try:
            await client.jetstream().publish(
                subject,
                payload,
                stream=stream,
                timeout=_PUBLISH_SECONDS,
                headers={**kept, "Nats-Msg-Id": f"replay/{new_id()}"},
            )
        finally:
            await client.close()
    except (OSError, nats.errors.Error) as error:
        fail(f"NATS does not take the message ({type(error).__name__}); it stays set aside.")


async def _forget(tx: Transaction, id: UUID) -> bool:
    return await tx.fetch_value(QUERIES["drop_parked"], id) is not None


async def _drop(house: House, ids: Sequence[UUID]) -> int:
    missing = 0
    async with house.database() as database:
        for id in ids:
            async with database.transaction(Principal.operator()) as tx:
                gone = await _forget(tx, id)
            missing += not gone
            say(f"{id}  {'dropped' if gone else 'no message of the bus is set aside under this id'}")
    return 1 if missing else 0


def _facts(*facts: tuple[str, Any]) -> None:
    for name, value in facts:
        if value not in {"", None}:
            say(f"{name:<10}  {one_line(str(value))}")


def _readable(payload: bytes) -> str:
    """A payload as text, without what a terminal would obey; JSON is indented."""
    try:
        return json.dumps(json.loads(payload), indent=2, ensure_ascii=True)
    except ValueError:
        return one_line(payload.decode(errors="backslashreplace"))
