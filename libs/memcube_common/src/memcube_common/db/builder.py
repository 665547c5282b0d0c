"""The one connection beside the pool: indexes are built without stopping writers, which no transaction can do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final

import asyncpg

from memcube_common.errors import TryAgain

_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
_BUILDING: Final = 4715
_AGAIN: Final = 60.0
_OPENING: Final = "set role memcube_builder"


class Builder:
    """Runs one statement after the other, each outside any transaction, as the owner of the vectors' partitions."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def run(self, statement: str) -> None:
        """Run a statement that the database made, however long it takes.

        Raises TryAgain where it did not succeed, and says nothing about why but the kind of error: an index that was
        begun then stays behind, not whole.
        """
        try:
            await self._connection.execute(statement)
        except _AWAY as error:
            raise TryAgain(f"Postgres did not do it: {type(error).__name__}", after=_AGAIN) from error


@contextlib.asynccontextmanager
async def building(
    dsn: str, *, memory_mb: int, workers: int, lock_timeout: float = 300.0
) -> AsyncGenerator[Builder | None]:
    """A builder while the block lasts, at most one in a database; None where another is at work.

    dsn: a login that may become memcube_builder, connected to Postgres itself (no pooler that changes sessions between
    transactions). memory_mb: what an index is built in, MiB. workers: processes of Postgres that help.
    lock_timeout: seconds to wait for transactions that were open when an index was begun. A block that is cancelled
    ends its statement. Raises TryAgain where Postgres is away, or refuses the role.
    """
    connection: asyncpg.Connection[asyncpg.Record] | None = None
    try:
        try:
            connection = await asyncpg.connect(
                dsn,
                timeout=10,
                server_settings={
                    "application_name": "memcube-builder",
                    "search_path": "",
                    "statement_timeout": "0",
                    "lock_timeout": str(int(lock_timeout * 1000)),
                    "maintenance_work_mem": f"{memory_mb}MB",
                    "max_parallel_maintenance_workers": str(workers),
                    "client_connection_check_interval": "2000",  # a room that was killed does not go on building
                },
            )
            await connection.execute(_OPENING)
            # Tried, never waited for: who waits holds a snapshot, and building waits for all that do.
            free = await connection.fetchval("select pg_catalog.pg_try_advisory_lock($1, 0)", _BUILDING)
        except _AWAY as error:
            raise TryAgain(f"no builder: {type(error).__name__}", after=_AGAIN) from error
        yield Builder(connection) if free else None
    finally:
        if connection is not None:
            with contextlib.suppress(*_AWAY):
                await connection.close(timeout=5)
