"""Housekeeping in Postgres."""

from __future__ import annotations

from memcube_common.db import Statements, Transaction

QUERIES = Statements(__package__)


async def maintain_partitions(tx: Transaction, *, keep_days: int) -> int:
    """Make the change feed's coming partitions, drop those older than `keep_days`; returns how many were made."""
    return int(await tx.fetch_value(QUERIES["maintain_partitions"], keep_days))
