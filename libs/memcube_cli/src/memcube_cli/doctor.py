"""`memcube doctor`: is everything there, up to date and keeping up?"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import nats
import nats.errors
import nats.js.errors
import typer
from asyncpg import PostgresError

from memcube_cli.console import say, table
from memcube_cli.house import House, run, the_house
from memcube_cli.parked import QUERIES
from memcube_cli.stack import StackFile, ailments_of, status_of
from memcube_common.db import Database
from memcube_common.db.migrate import known_version, shake_hands
from memcube_common.errors import MemCubeError, TryAgain
from memcube_common.security.principal import Principal
from memcube_common.streams import streams

OLD_WORK: Final = 60.0  # seconds that due work may wait before something must be wrong
_FULL: Final = 0.8  # share of a stream's space that calls for attention


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. A doctor that finds anything not `fine` ends with 1."""

    what: str
    fine: bool
    words: str


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(doctor)


def doctor() -> None:
    """Look at servers, rooms, schema, streams and the work that waits. Exits with 1 if anything is wrong."""
    run(_doctor(the_house()))


async def _doctor(house: House) -> int:
    findings = [*await _rooms(house), *await _postgres(house), *await _nats(house)]
    table(("", "what", "finding"), [("ok" if f.fine else "!!", f.what, f.words) for f in findings])
    wrong = sum(not finding.fine for finding in findings)
    say()
    say("all is well" if not wrong else f"{wrong} of {len(findings)} need attention")
    return 1 if wrong else 0


async def _rooms(house: House) -> list[Finding]:
    stack = StackFile(house.home).read() if house.is_local else None
    if stack is None:
        return []
    found: list[Finding] = []
    for name, state in (await status_of(stack))["services"].items():
        restarts = stack.services[name].restarts
        again = f", restarted {restarts} times" if restarts else ""
        ailments = await ailments_of(stack, name)
        without = f", without {', '.join(ailments)}: see {house.home / 'logs' / name}.log" if ailments else ""
        found.append(Finding(name, state == "ready" and not ailments, f"{state}{again}{without}"))
    return found


async def _postgres(house: House) -> list[Finding]:
    if house.postgres is None:
        return []
    checks: tuple[tuple[str, Callable[[Database], Awaitable[list[Finding]]]], ...] = (
        ("schema", _schema),
        ("work that waits", _queues),
        ("parked", _parked),
    )
    found: list[Finding] = []
    async with AsyncExitStack() as opened:
        try:
            database = await opened.enter_async_context(house.database())
        except (MemCubeError, PostgresError, OSError) as error:
            return [Finding("database", False, f"does not answer ({type(error).__name__})")]
        for what, check in checks:
            try:
                found += await check(database)
            except (MemCubeError, PostgresError) as error:
                found.append(Finding(what, False, f"cannot be read ({type(error).__name__})"))
    return found


async def _schema(database: Database) -> list[Finding]:
    try:
        await shake_hands(database)
    except TryAgain as error:
        return [Finding("schema", False, error.detail)]
    return [Finding("schema", True, known_version())]


async def _queues(database: Database) -> list[Finding]:
    async with database.transaction(Principal.operator()) as tx:
        rows = {row["kind"]: row for row in await tx.fetch(QUERIES["queue_depth"])}
    found: list[Finding] = []
    for kind in ("insight", "embedding"):
        row = rows.get(kind)
        if row is None:
            found.append(Finding(f"{kind} queue", True, "empty"))
            continue
        late = max(0.0, row["oldest"])
        words = f"{row['waiting']:,} waiting, {row['tried']:,} tried before, the oldest due for {late:.0f} s"
        found.append(Finding(f"{kind} queue", late < OLD_WORK, words))
    return found


async def _parked(database: Database) -> list[Finding]:
    async with database.transaction(Principal.operator()) as tx:
        count = await tx.fetch_value(QUERIES["count_parked"])
    return [
        Finding("parked", count == 0, f"{count:,} set aside: memcube parked list" if count else "nothing set aside")
    ]


async def _nats(house: House) -> list[Finding]:
    if house.nats is None:
        return []
    try:
        client = await asyncio.wait_for(nats.connect(house.nats, allow_reconnect=False, connect_timeout=3), 5)
    except (OSError, TimeoutError, nats.errors.Error) as error:
        return [Finding("streams", False, f"NATS does not answer ({type(error).__name__})")]
    found: list[Finding] = []
    try:
        jetstream = client.jetstream(timeout=3)
        for declared in streams():
            name = declared.name or ""
            try:
                info = await jetstream.stream_info(name)
            except nats.js.errors.NotFoundError:
                found.append(Finding(f"stream {name}", False, "is not there: provisioning makes it"))
                continue
            space = info.config.max_bytes or 0
            is_full = space > 0 and info.state.bytes > _FULL * space
            words = f"{info.state.messages:,} messages, {info.state.bytes / 2**20:,.1f} MiB"
            found.append(Finding(f"stream {name}", not is_full, words + (", nearly full" if is_full else "")))
    except (TimeoutError, nats.errors.Error) as error:
        found.append(Finding("streams", False, f"JetStream does not answer ({type(error).__name__})"))
    finally:
        await client.close()
    return found
