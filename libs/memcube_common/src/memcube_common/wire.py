"""HTTP on the wire, with what the server lacks: a bound on a request's head, in bytes and in seconds."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MAX: Final = 64 * 1024
HEAD_SECONDS: Final = 10.0
_TOO_LARGE: Final = "The request's head is too large."


class HeadTooLarge(ValueError):
    """The request line and headers are larger than 64 KiB."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head is too large, or is not there ten seconds after it began."""

    _head: int | None = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A connection that never says anything is not kept either."""
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before the head is complete."""
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > HEAD_MAX and not self.transport.is_closing():
                self.send_400_response(_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem document, and close. `msg` is what uvicorn would have written."""
        body = _problem(msg if msg == _TOO_LARGE else "The request is not valid HTTP.")
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
            b"x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """The next head begins."""
        super().on_message_begin()
        self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Refuse a head that came in one piece and is too large all the same."""
        super().on_header(name, value)
        if sum(len(one) + len(other) for one, other in self.headers) > HEAD_MAX:
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._end_head()
        self._head = 0
        self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _end_head(self) -> None:
        self._head = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def _problem(detail: str) -> bytes:
    return orjson.dumps(
        {
            "type": "urn:memcube:problem:malformed_request",
            "title": "Malformed request",
            "status": 400,
            "code": "malformed_request",
            "detail": detail,
        }
    )
