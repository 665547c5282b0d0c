"""The tenant transaction: `Database.transaction(principal)` is the only way to a connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy
from pgvector.asyncpg import register_vector

from memcube_common.db.statements import Statement
from memcube_common.errors import FieldError, Frozen, Held, Invalid, MemCubeError, NotAllowed, TryAgain
from memcube_common.security.principal import Principal

Row = asyncpg.Record
_log = structlog.get_logger(__name__)

# Postgres answers COMMIT in a failed transaction with a silent rollback; any other command before it is refused there.
_END: Final = "SET LOCAL app.role TO DEFAULT; COMMIT; RESET ROLE; RESET ALL"
_UNDO: Final = "ROLLBACK; RESET ROLE; RESET ALL"

# A plan made while a table is empty would scan it, and is kept when it has grown.
_PLANNED_ONCE: Final = (
    ", set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true)"
)

_GRACE: Final = 0.5
"""Seconds by which the client outwaits the server's own statement timeout, which a frozen server cannot enforce."""

_GONE: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke between being handed out and being used
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)


_REFUSALS: Final[Mapping[str, Callable[[], MemCubeError]]] = {
    "42501": NotAllowed,
    "MC001": Frozen,
    "MC002": Held,
    "MC003": lambda: Invalid(errors=[FieldError("parents", "every parent must be a memory that you may read")]),
    "MC004": lambda: Invalid(errors=[FieldError("parents", "a memory is at most 64 steps from its first source")]),
}
"""What the database's own rules refuse, by SQLSTATE."""


class Transaction:
    """One open transaction, acting for one principal. Store functions take it first and never commit it."""

    __slots__ = ("_connection", "principal")

    def __init__(self, connection: PoolConnectionProxy[Row], principal: Principal) -> None:
        self._connection = connection
        self.principal = principal

    async def fetch(self, statement: Statement, *args: Any) -> Sequence[Row]:
        """All rows of `statement`."""
        return await self._connection.fetch(statement.sql, *args)

    async def fetch_one(self, statement: Statement, *args: Any) -> Row | None:
        """The first row of `statement`, or None."""
        return await self._connection.fetchrow(statement.sql, *args)

    async def fetch_value(self, statement: Statement, *args: Any) -> Any:
        """The first column of the first row of `statement`, or None."""
        return await self._connection.fetchval(statement.sql, *args)

    async def execute(self, statement: Statement, *args: Any) -> str:
        """Run `statement`; Postgres' own word on what it did."""
        return await self._connection.execute(statement.sql, *args)

    @contextlib.asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """A part of the transaction that is undone by itself where the block raises; the rest stands.

        Raises NotAllowed, Frozen, Held or Invalid where a policy or a rule of the database refuses the part.
        """
        await self._connection.execute("SAVEPOINT part")
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            await self._connection.execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
            refused = _refusal(error, self.principal)
            if refused is not None:
                raise refused from error
            raise
        await self._connection.execute("RELEASE SAVEPOINT part")


class Database:
    """A pool of connections to one Postgres, handed out only inside a tenant transaction."""

    def __init__(self, pool: asyncpg.Pool[Row], *, connect_timeout: float, share: int | None = None) -> None:
        self._pool = pool
        self._connect_timeout = connect_timeout
        self._share = share
        self._turns = WeakValueDictionary[str, asyncio.Semaphore]()

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        room: str,
        size: int = 6,
        share: int | None = None,
        statement_timeout: float = 10.0,
        connect_timeout: float = 1.0,
    ) -> Database:
        """Open the pool of `room`: at most `size` connections, `share` of them for one project; times in seconds.

        Raises TryAgain where Postgres does not answer.
        """
        try:
            pool = await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=size,
                max_inactive_connection_lifetime=120.0,
                timeout=connect_timeout,
                command_timeout=statement_timeout + _GRACE,
                init=register_vector,
                reset=_already_reset,
                server_settings={
                    "application_name": f"memcube-{room}",
                    "search_path": "memcube, public",
                    "timezone": "UTC",
                    "plan_cache_mode": "force_custom_plan",
                    "jit": "off",
                    "client_connection_check_interval": "500",  # what nobody waits for any more gives its locks back
                    "statement_timeout": str(int(statement_timeout * 1000)),
                    "lock_timeout": str(int(statement_timeout * 500)),
                    "idle_in_transaction_session_timeout": "30000",
                },
            )
        except _GONE as error:
            raise TryAgain("Postgres does not answer", after=1.0) from error
        return cls(pool, connect_timeout=connect_timeout, share=share)

    async def close(self) -> None:
        """Close every connection, waiting at most two seconds for those in use."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._pool.close(), timeout=2.0)
        self._pool.terminate()

    @contextlib.asynccontextmanager
    async def transaction(
        self, principal: Principal, *, deadline: float | None = None, planned_once: bool = False
    ) -> AsyncGenerator[Transaction]:
        """A transaction in which the database sees `principal`: committed at the end, rolled back on any exception.

        The role and settings are local to the transaction and set in the same round trip that begins it. A
        connection whose work was cancelled or failed on the wire is closed, never handed to the next borrower.

        deadline: seconds for everything inside, or None for the pool's statement timeout on each statement alone.
        planned_once: a connection plans each statement once for whatever it is given, not anew for each execution: for
        statements that look up and write rows by their keys, which every argument wants done alike (ADR 0028).
        Raises TryAgain where Postgres is away, overloaded or slower than the deadline; NotAllowed, Frozen, Held or
        Invalid where a policy or a rule of the database refuses what was asked.
        """
        try:
            async with asyncio.timeout(deadline), self._turn(principal.project):
                connection = await self._pool.acquire(timeout=self._connect_timeout)
                healthy = False
                try:
                    await connection.execute(_beginning(principal, planned_once=planned_once))
                    try:
                        yield Transaction(connection, principal)
                    except OSError:  # no answer: nothing more is asked of this connection
                        raise
                    except Exception as error:
                        await connection.execute(_UNDO)
                        healthy = True
                        refused = _refusal(error, principal)
                        if refused is not None:
                            raise refused from error
                        raise
                    await connection.execute(_END)
                    healthy = True
                finally:
                    if not healthy:
                        connection.terminate()
                    await self._pool.release(connection)
        except _GONE as error:
            running = asyncio.current_task()
            if running is not None and running.cancelling():
                # What a connection says about being cut off must not hide that we were asked to stop.
                raise asyncio.CancelledError from error
            _log.warning("database_away", error=type(error).__name__)
            raise TryAgain("Postgres does not answer", after=1.0) from error

    def _turn(self, project: str) -> contextlib.AbstractAsyncContextManager[None]:
        """One of the connections that `project` may have at once: who waits for its own leaves others theirs."""
        if self._share is None or not project:
            return contextlib.nullcontext()
        turn = self._turns.get(project)
        if turn is None:
            turn = self._turns[project] = asyncio.Semaphore(self._share)
        return turn


def _refusal(error: Exception, principal: Principal) -> MemCubeError | None:
    """What a rule of the database that `error` speaks of means to who asked; None for any other error.

    A privilege that a room lacks is a fault of ours; one that a request lacks is an answer.
    """
    refusal = _REFUSALS.get(error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else None
    if refusal is None or (refusal is NotAllowed and principal.database_role not in ("memcube_user", "memcube_anon")):
        return None
    _log.info("database_refused", why=str(error).partition("\n")[0], role=principal.role)
    return refusal()


def _beginning(principal: Principal, *, planned_once: bool) -> str:
    """BEGIN, a check that the connection is clean, and who acts; the values come from restricted alphabets only."""
    more = {"lookup": principal.lookup, "account": str(principal.account or ""), "source": principal.source}
    return (
        f"BEGIN; SELECT memcube.assert_clean(){_PLANNED_ONCE if planned_once else ''}; "
        f"SET LOCAL ROLE {principal.database_role}; "
        f"SET LOCAL app.project_id = '{principal.project}'; "
        f"SET LOCAL app.principal = '{principal.name}'; "
        f"SET LOCAL app.role = '{principal.role}'"
        + "".join(f"; SET LOCAL app.{name} = '{value}'" for name, value in more.items() if value)
    )


async def _already_reset(_: asyncpg.Connection[Row]) -> None:
    """Nothing to do: every transaction ends with RESET ROLE; RESET ALL in its last round trip."""
