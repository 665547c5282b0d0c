"""Counting in how many memories each term stands: what was written is folded into the statistics of its project."""

from __future__ import annotations

import asyncio
from typing import Final

from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.security.principal import Principal
from memcube_lifecycle import store

_BATCH: Final = 1_000


async def keep_counting(db: Database, *, every: float) -> None:
    """Fold what waits, for ever: at once while there is more, else every `every` seconds."""
    while True:
        try:
            folded = await count_terms(db)
        except TryAgain as error:
            await asyncio.sleep(error.after)
            continue
        if folded < _BATCH:
            await asyncio.sleep(every)


async def count_terms(db: Database) -> int:
    """Fold the oldest changes of some projects, each project in a transaction of its own; returns how many.

    Raises TryAgain where Postgres is away.
    """
    async with db.transaction(Principal.worker("lifecycle")) as tx:
        projects = await store.uncounted_projects(tx, limit=_BATCH)
    folded = 0
    for project in projects:
        async with db.transaction(Principal.worker("lifecycle", project)) as tx:
            folded += await store.fold_terms(tx, limit=_BATCH)
    return folded
