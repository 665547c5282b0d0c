"""Payloads on their way out: whole or a range, checked before they go, broken off where they do not hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final
from uuid import UUID

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from memcube_common.errors import MemCubeError
from memcube_common.objects import object_path
from memcube_gateway.payloads.domain import NotSatisfiable, Span, file_name, media_type, names_tag, span_of
from memcube_gateway.payloads.store import Lying
from memcube_gateway.room import Room
from memcube_gateway.routes.problems import RangeNotSatisfiable, problem

_SENT_AT_ONCE: Final = 256 * 1024
_log = structlog.get_logger(__name__)


async def download(request: Request, room: Room, project: str, memory_id: UUID, lying: Lying) -> Response:
    """The payload as the request's headers ask for it (RFC 9110): whole, one range, or 'not modified'.

    Raises TryAgain where its first bytes cannot be read or are not what was written.
    """
    tag = f'"{lying.checksum}"'
    headers = {
        "etag": tag,
        "accept-ranges": "bytes",
        "content-disposition": f'attachment; filename="{file_name(memory_id, lying.type, lying.version)}"',
        "cache-control": "private, no-cache",
    }
    if names_tag(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    ranges = request.headers.get("range") if request.headers.get("if-range", tag).strip() == tag else None
    try:
        span = span_of(ranges, lying.size) if request.method == "GET" else None
    except NotSatisfiable:
        return problem(RangeNotSatisfiable(), {"content-range": f"bytes */{lying.size}"})
    status = 200
    if span is not None:
        status = 206
        headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{lying.size}"
    span = span or Span(0, lying.size)
    headers["content-length"] = str(span.end - span.start)
    headers["content-type"] = media_type(lying.type)
    if request.method == "HEAD":
        return _Headers(status, headers)
    if lying.raw is not None:
        return Response(lying.raw[span.start : span.end], status, headers)
    assert lying.key is not None
    pieces = room.objects.stream(
        object_path(project, lying.key), size=lying.size, blocks=lying.blocks, start=span.start, end=span.end
    )
    first = await anext(pieces)
    return _Streamed(status, headers, first, pieces, stall=room.settings.download_stall)


class _Headers(Response):
    """An answer to HEAD: everything but the bytes."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(None, status)
        self.raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]


class _Streamed(_Headers):
    """An answer whose first bytes are there and checked; a fault later on breaks the connection off."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        first: memoryview,
        rest: AsyncGenerator[memoryview],
        *,
        stall: float,
    ) -> None:
        super().__init__(status, headers)
        self._first = first
        self._rest = rest
        self._stall = stall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, each piece within the time a reader may take; nobody is waited for who does not read or is gone."""
        del scope
        gone = asyncio.create_task(_gone(receive))
        try:
            async with aclosing(self._rest) as rest:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                piece: memoryview | None = self._first
                self._first = memoryview(b"")  # or 4 MiB stay until the last byte is gone
                while piece is not None and not gone.done():
                    await self._send(send, piece)
                    piece = await anext(rest, None)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except MemCubeError as error:
            raise _BrokenOff from error
        finally:
            gone.cancel()

    async def _send(self, send: Send, piece: memoryview) -> None:
        for at in range(0, len(piece), _SENT_AT_ONCE):
            part = bytes(piece[at : at + _SENT_AT_ONCE])
            try:
                async with asyncio.timeout(self._stall):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            except TimeoutError:
                _log.info("download_too_slow")
                raise _BrokenOff from None


async def _gone(receive: Receive) -> None:
    """Ends once the reader has gone away: what is sent then goes nowhere, and no error says so."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _BrokenOff(Exception):
    """The answer cannot be finished: the server closes the connection, and its reader sees that bytes are missing."""
