"""A door before the real Postgres that counts what passes: round trips, transactions, statements."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit, urlunsplit


@dataclass(frozen=True, slots=True)
class Passed:
    """What Postgres answered so far. A multi-statement query is one round trip and several statements."""

    round_trips: int = 0
    transactions: int = 0
    statements: int = 0

    def __sub__(self, other: Passed) -> Passed:
        return Passed(
            self.round_trips - other.round_trips,
            self.transactions - other.transactions,
            self.statements - other.statements,
        )


class CountingPostgres:
    """Passes bytes both ways and reads the server's side: ReadyForQuery ends a round trip, and a transaction where it
    says idle; CommandComplete ends a statement. What functions and triggers do inside the server is not seen.
    """

    def __init__(self, dsn: str) -> None:
        self._behind = urlsplit(dsn)
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self.passed = Passed()

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, dsn: str) -> AsyncGenerator[Self]:
        """Open the door before the server of `dsn` while the block lasts."""
        door = cls(dsn)
        door._server = await asyncio.start_server(door._pass, "127.0.0.1", 0)
        try:
            yield door
        finally:
            door._server.close()
            for passing in door._passing:
                passing.cancel()
            await asyncio.gather(*door._passing, return_exceptions=True)

    def through(self, dsn: str) -> str:
        """`dsn` by way of this door."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        parts = urlsplit(dsn)
        signed = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{signed}@{host}:{port}", query="sslmode=disable"))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(self._behind.hostname, self._behind.port)
        for passing in (self._pass_on(reader, behind_writer), self._pass_back(behind_reader, writer)):
            task = asyncio.create_task(passing)
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                self._count(head[:1], body)
                writer.write(head + body)
                await writer.drain()

    def _count(self, kind: bytes, body: bytes) -> None:
        seen = self.passed
        if kind == b"Z":
            self.passed = Passed(seen.round_trips + 1, seen.transactions + (body == b"I"), seen.statements)
        elif kind == b"C":
            self.passed = Passed(seen.round_trips, seen.transactions, seen.statements + 1)
