"""`memcube verify isolation`: attack the running house as a tenant would, and say what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from typing import Annotated, Final

import asyncpg
import httpx
import nats.errors
import typer

from memcube_cli.console import complain, say, table
from memcube_cli.house import INTERRUPTED, House, fail, run, the_house
from memcube_cli.isolation import agents, changes, database, http, rooms
from memcube_cli.isolation.catalogue import Connection
from memcube_cli.isolation.report import Report
from memcube_cli.isolation.tenants import tenants

ROADS: Final = (database.ROAD, http.ROAD, changes.ROAD, agents.ROAD)
COULD_NOT_RUN: Final = 2


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Attack this MemCube and see that it holds.", no_args_is_help=True)

    @group.callback()
    def _verify() -> None:  # a group of one command stays a group
        pass

    group.command("isolation")(isolation)
    app.add_typer(group, name="verify")


def isolation(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave the two tenants where they are.")] = False,
    roads: Annotated[
        str, typer.Option(help="Roads to try: database, http, changes, nats; separated by commas.")
    ] = ",".join(ROADS),
) -> None:
    """Two tenants are made; one tries everything to read, change or count what is the other's; both are removed.

    Exit code 0: nothing went across. 1: something did, or something that has to work did not. 2: it could not run.
    """
    wanted = [road.strip() for road in roads.split(",") if road.strip()]
    if unknown := sorted(set(wanted) - set(ROADS)):
        fail(f"No such road: {', '.join(unknown)}. There are: {', '.join(ROADS)}.", COULD_NOT_RUN)
    try:
        house = the_house()
    except typer.Exit:
        raise typer.Exit(COULD_NOT_RUN) from None
    run(_isolation(house, wanted, as_json=as_json, keep=keep))


async def _isolation(house: House, wanted: list[str], *, as_json: bool, keep: bool) -> int:
    if house.postgres is None:
        fail("This needs the administrator's address of Postgres: set MEMCUBE_POSTGRES_DSN.", COULD_NOT_RUN)
    report = Report()
    task = asyncio.current_task()
    assert task is not None, "run by asyncio.run"
    with contextlib.suppress(NotImplementedError):  # the tenants are removed then, too
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        admin: Connection = await asyncpg.connect(house.postgres, timeout=10)
    except (OSError, asyncpg.PostgresError) as error:
        fail(f"Postgres does not let the administrator in: {type(error).__name__}.", COULD_NOT_RUN)
    try:
        await _attack(house, admin, report, wanted, keep=keep)
    except asyncio.CancelledError:
        complain("Interrupted; what was made is removed.")
        return INTERRUPTED
    except (asyncpg.PostgresError, httpx.HTTPError, nats.errors.Error, OSError, RuntimeError) as error:
        complain(f"Could not run to the end: {type(error).__name__}: {error}")
        _print(report, as_json=as_json)
        return 1 if report.findings else COULD_NOT_RUN
    finally:
        await admin.close(timeout=5)
    _print(report, as_json=as_json)
    return 1 if report.findings else 0


async def _attack(house: House, admin: Connection, report: Report, wanted: list[str], *, keep: bool) -> None:
    if database.ROAD in wanted:
        async with database.DatabaseRoad.open(admin, report) as road:
            await road.attack()
            await road.call()
    if {http.ROAD, changes.ROAD, agents.ROAD} & set(wanted):
        async with http.at(house.gateway) as client, tenants(client, admin, house.nats, keep=keep) as (a, b):
            if agents.ROAD in wanted:
                if house.nats is None:
                    report.could_not(agents.ROAD, "all subjects", "the address of NATS is not known")
                else:
                    await agents.AgentsRoad(house.nats, report, a, b).attack()
                    await rooms.RoomsRoad(house.nats, house.home / "nats", report).attack()
            if changes.ROAD in wanted:
                await changes.ChangesRoad(client, admin, report, a, b).attack()
            if http.ROAD in wanted:
                await http.HttpRoad(client, admin, report, a, b).attack()


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(), indent=2) + "\n")
        return
    leaks = [one for one in report.findings if one.kind == "leak"]
    broken = [one for one in report.findings if one.kind == "broken control"]
    table(("road", "attempts"), sorted(report.attempts.items()), right=("attempts",))
    say(f"{report.total} attempts, {len(leaks)} leaks, {len(broken)} broken controls, {len(report.untried)} not tried")
    for title, findings in (("Leaks", leaks), ("Broken controls", broken)):
        if findings:
            say(f"\n{title}")
            table(
                ("road", "operation", "principal", "seen"),
                [(one.road, one.operation, one.principal, one.seen) for one in findings],
            )
    if report.untried:
        say("\nCould not try")
        rows = dict.fromkeys((one.road, one.operation, one.why) for one in report.untried)
        table(("road", "operation", "why"), list(rows))
