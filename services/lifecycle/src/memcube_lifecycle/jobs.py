"""Rounds of housekeeping: the change feed's partitions."""

from __future__ import annotations

import asyncio

import structlog

from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.security.principal import Principal
from memcube_lifecycle import store

_log = structlog.get_logger(__name__)


async def keep_house(db: Database, *, every: float, changes_kept_days: int) -> None:
    """A round every `every` seconds, for ever; a round that meets no database is made again soon."""
    while True:
        try:
            await make_round(db, changes_kept_days=changes_kept_days)
        except TryAgain as error:
            await asyncio.sleep(error.after)
            continue
        await asyncio.sleep(every)


async def make_round(db: Database, *, changes_kept_days: int) -> None:
    """One round of housekeeping."""
    async with db.transaction(Principal.worker("lifecycle")) as tx:
        made = await store.maintain_partitions(tx, keep_days=changes_kept_days)
    _log.info("house_kept", partitions_made=made)
