"""A kept-alive HTTP/1.1 connection that costs next to nothing: the load generator shares the processors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import orjson


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body."""

    status: int
    body: bytes


class UnexpectedAnswer(RuntimeError):
    """The gateway answered something else than the benchmark asked for."""


class Wire:
    """One connection into one project. One request at a time; use several for concurrency."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, key: str, project: str):
        self._reader = reader
        self._writer = writer
        self._prefix = f"/v1/projects/{project}/"
        self._fixed = f"Host: {host}\r\nAuthorization: Bearer {key}\r\n"

    @classmethod
    async def open(cls, gateway: str, *, project: str, key: str) -> Self:
        """Connect to `gateway` (http://host:port)."""
        parts = urlsplit(gateway)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=16 * 1024 * 1024)
        return cls(reader, writer, parts.netloc, key, project)

    async def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One request and its answer, whatever its status."""
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {(self._prefix + path).rstrip('/')} HTTP/1.1\r\n{self._fixed}{kind}{more}\r\n"
        self._writer.write(head.encode() + body)
        received = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(received[9:12])
        length = int(received.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return Answer(status, await self._reader.readexactly(length))

    async def post(self, path: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> bytes:
        """The body of a successful answer to a POST. Raises UnexpectedAnswer for any other."""
        return _expected(await self.send("POST", path, body, headers), path)

    async def get(self, path: str) -> bytes:
        """The body of a successful answer to a GET. Raises UnexpectedAnswer for any other."""
        return _expected(await self.send("GET", path), path)

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()


def _expected(answer: Answer, path: str) -> bytes:
    if not 200 <= answer.status < 300:
        code = orjson.loads(answer.body).get("code") if answer.body[:1] == b"{" else "?"
        raise UnexpectedAnswer(f"{path} was answered {answer.status} {code}")
    return answer.body
