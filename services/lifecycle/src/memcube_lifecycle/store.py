"""Housekeeping in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from memcube_common.db import Statements, Transaction

QUERIES = Statements(__package__)


async def maintain_partitions(tx: Transaction, *, keep_days: int) -> int:
    """Make the change feed's coming partitions, drop those older than `keep_days`; returns how many were made."""
    return int(await tx.fetch_value(QUERIES["maintain_partitions"], keep_days))


async def read_clock(tx: Transaction) -> datetime:
    """The database's own time."""
    moment: datetime = await tx.fetch_value(QUERIES["read_clock"])
    return moment


async def claim_objects(tx: Transaction, *, before: datetime, arriving: timedelta, limit: int) -> list[tuple[str, str]]:
    """Objects that must leave the store, as project and key: each once in a round that began at `before`.

    arriving: how long one may be on its way before nobody is taken to bring it any more.
    """
    rows = await tx.fetch(QUERIES["claim_objects"], before, arriving, limit)
    return [(row["project_id"], row["key"]) for row in rows]


async def forget_objects(tx: Transaction, *, gone: Sequence[tuple[str, str]]) -> int:
    """Forget objects (project and key) that are gone from the store; returns how many were known."""
    projects, keys = [project for project, _ in gone], [key for _, key in gone]
    return int(await tx.fetch_value(QUERIES["forget_objects"], projects, keys))
