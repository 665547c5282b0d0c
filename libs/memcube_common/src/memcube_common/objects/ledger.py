"""What Postgres knows of objects: a row before the first byte, until the last one is gone."""

from __future__ import annotations

from memcube_common.db import Statements, Transaction

QUERIES = Statements(__package__)


async def announce_object(tx: Transaction, *, project: str, key: str, size: int) -> None:
    """Say that an object of at most `size` bytes is about to arrive; to be committed before its first byte."""
    await tx.execute(QUERIES["announce_object"], project, key, size)


async def abandon_object(tx: Transaction, *, project: str, key: str) -> bool:
    """Give an object that nobody kept to the sweep; False where nothing is known of it any more.

    The latter means that it was swept while it still arrived: whoever brought it must remove it from the store.
    """
    await tx.execute(QUERIES["abandon_object"], project, key)
    return await tx.fetch_value(QUERIES["find_object"], project, key) is not None
