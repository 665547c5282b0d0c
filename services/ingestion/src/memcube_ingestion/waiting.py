"""One kind of work that waits in Postgres: claimed for ever, done one by one, tried again or given up for itself."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from memcube_common.bus import Bell
from memcube_common.errors import TryAgain
from memcube_common.mailbox import work
from memcube_common.mailbox.work import Claim, Kind
from memcube_common.security.principal import Principal
from memcube_ingestion.room import Room

RENEW_SECONDS: Final = 2.0
_log = structlog.get_logger(__name__)


class Later(Exception):
    """This piece of work is to be tried again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds:g} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Line:
    """A kind of work: `do` does one piece or raises Later, `give_up` ends one tried `attempts` times, told why.

    lease: seconds a claim is ours; a room that dies gives it back then. pause: seconds between two looks,
    unless the bell rings. gather: seconds that are let go by before it is answered where there was nothing to do: it
    rings for other work too.
    """

    kind: Kind
    do: Callable[[Claim, Room], Awaitable[None]]
    give_up: Callable[[Claim, str, Room], Awaitable[None]]
    at_once: int
    attempts: int
    lease: float = 10.0
    pause: float = 2.0
    gather: float = 0.1


def where(error: BaseException) -> list[str]:
    """The innermost frames of `error` and not what it says: Postgres quotes the row it refused."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


async def work_off(line: Line, bell: Bell, room: Room) -> None:
    """Do this kind of work for ever; the bell saves the wait, the poll finds the rest.

    A place that comes free is given away at once: what takes long keeps nobody waiting but for its own place.
    """
    under_way: set[asyncio.Task[None]] = set()

    def ended(one: asyncio.Task[None]) -> None:
        under_way.discard(one)
        room.changes_bell.ring()
        bell.ring()

    async with asyncio.TaskGroup() as group:
        while True:
            free = line.at_once - len(under_way)
            try:
                found = await claim_due(line, free, room) if free else []
            except TryAgain as error:
                await bell.wait(error.after)
                continue
            for claim in found:
                one = group.create_task(_unless_away(line, claim, room), name=line.kind)
                under_way.add(one)
                one.add_done_callback(ended)
            if not found:
                await bell.wait(line.pause)
                if free:  # there was nothing to do
                    await asyncio.sleep(line.gather)


async def claim_due(line: Line, most: int, room: Room) -> list[Claim]:
    """At most `most` pieces of work of this kind that are due, ours from now on. Raises TryAgain."""
    async with room.db.transaction(Principal.worker("ingestion")) as tx:
        claims = await work.claim(tx, kind=line.kind, limit=most, lease=line.lease)
    return [claim for claimed in claims.values() for claim in claimed]


async def _unless_away(line: Line, claim: Claim, room: Room) -> None:
    with contextlib.suppress(TryAgain):  # its lease ends, and it is claimed again
        await work_on(line, claim, room)


async def work_on(line: Line, claim: Claim, room: Room) -> None:
    """Do one piece of work, put it off or give it up. Raises TryAgain while Postgres is away."""
    try:
        async with _held(line, claim, room):
            await line.do(claim, room)
        return
    except TryAgain:
        raise
    except Later as later:
        await _put_off(line, claim, later.seconds, room)
        return
    except Exception as error:
        _log.error("work_not_done", kind=line.kind, error=type(error).__name__, where=where(error))
        reason = f"could not be kept: {type(error).__name__}"
    if claim.attempts >= line.attempts:
        await line.give_up(claim, reason, room)
        return
    await _put_off(line, claim, work.pause_after(claim.attempts), room)


async def _put_off(line: Line, claim: Claim, seconds: float, room: Room) -> None:
    """Leave a piece of work on the queue and try it again in `seconds`."""
    async with room.db.transaction(Principal.worker("ingestion", claim.project)) as tx:
        await work.postpone(tx, kind=line.kind, project=claim.project, ids=[claim.item_id], seconds=seconds)


@contextlib.asynccontextmanager
async def _held(line: Line, claim: Claim, room: Room) -> AsyncGenerator[None]:
    """Renew the lease of `claim` while it is worked on: however long that takes, the work stays ours."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with contextlib.suppress(TryAgain):
                await _put_off(line, claim, line.lease, room)

    renewing = asyncio.create_task(renew(), name="renew-lease")
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
