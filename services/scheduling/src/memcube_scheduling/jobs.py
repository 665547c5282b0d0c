"""What the scheduling room does by the clock: schedules that are over are forgotten."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.schedules.store import forget_schedules
from memcube_common.security.principal import Principal

BATCH: Final = 1_000
_log = structlog.get_logger(__name__)


async def keep_forgetting(db: Database, *, every: float, days: int) -> None:
    """A sweep every `every` seconds, for ever; one that meets no database is made again soon."""
    while True:
        try:
            forgotten = await forget_old(db, days=days)
        except TryAgain as error:
            await asyncio.sleep(error.after)
            continue
        if forgotten:
            _log.info("schedules_forgotten", count=forgotten)
        await asyncio.sleep(every)


async def forget_old(db: Database, *, days: int) -> int:
    """One sweep: forget every schedule of more than `days` days; returns how many. Raises TryAgain."""
    forgotten = 0
    while True:
        async with db.transaction(Principal.worker("scheduling")) as tx:
            gone = await forget_schedules(tx, days=days, at_most=BATCH)
        forgotten += gone
        if gone < BATCH:
            return forgotten
