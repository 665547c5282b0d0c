"""A tiny HTTP server on a real socket that answers by a script, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    params: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answered:
    """One answer. `hang_up` closes the connection without a word; `hold` keeps a stream open after the body."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    hang_up: bool = False
    hold: bool = False


def problem(
    status: int, code: str, *, after: float | None = None, errors: list[dict[str, str]] | None = None
) -> Answered:
    """An RFC 9457 problem document."""
    document = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": f"it is {code}"}
    return Answered(
        status,
        {**document, "errors": errors or []},
        {"Content-Type": "application/problem+json"} | ({} if after is None else {"Retry-After": f"{after:g}"}),
    )


def events(*lines: str, hold: bool = False) -> Answered:
    """A stream of server-sent events, given as raw blocks."""
    return Answered(200, "".join(f"{line}\n\n" for line in lines), {"Content-Type": "text/event-stream"}, hold=hold)


Script = Callable[[Asked], Answered]


class ScriptedServer:
    """Answers from `script` in order; the last one, or `always`, for ever after."""

    def __init__(self, *answers: Answered, always: Script | None = None) -> None:
        self.asked: list[Asked] = []
        self._answers = deque(answers)
        self._always = always
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the same port as before if it was started before."""
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                answer = self._next(asked)
                if answer.hang_up:
                    break
                await _write(writer, answer)
                if answer.hold:
                    await reader.read()
                if "text/event-stream" in answer.headers.get("Content-Type", ""):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    def _next(self, asked: Asked) -> Answered:
        if self._always is not None:
            return self._answers.popleft() if self._answers else self._always(asked)
        return self._answers.popleft() if len(self._answers) > 1 else self._answers[0]


@contextlib.asynccontextmanager
async def scripted(*answers: Answered, always: Script | None = None) -> AsyncGenerator[ScriptedServer]:
    """A running scripted server."""
    server = ScriptedServer(*answers, always=always)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    head = await reader.readline()
    if not head:
        return None
    method, target, _ = head.decode().split(" ", 2)
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode().rstrip("\r\n"):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Asked(method, parts.path, parse_qs(parts.query), headers, body)


async def _write(writer: asyncio.StreamWriter, answer: Answered) -> None:
    is_stream = "text/event-stream" in answer.headers.get("Content-Type", "")
    body = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
    headers = {"Content-Type": "application/json", **answer.headers}
    headers |= {"Connection": "close"} if is_stream else {"Content-Length": str(len(body))}
    head = f"HTTP/1.1 {answer.status} Scripted\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
