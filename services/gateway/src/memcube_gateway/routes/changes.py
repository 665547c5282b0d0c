"""Changes as server-sent events: live, and resumed where a reader left off, without gap or repeat."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import structlog
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.errors import FieldError, Invalid, TryAgain
from memcube_common.governance.domain import Reader
from memcube_gateway.domain import frame
from memcube_gateway.handlers import Changes, Channel, next_news
from memcube_gateway.routes import reference
from memcube_gateway.routes.door import InVisit, Visit
from memcube_gateway.routes.problems import TooMany
from memcube_gateway.store import FeedEnds

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

router = APIRouter(tags=["changes"])

RETRY_MS: Final = (500, 2_000)
POSITION_MAX: Final = 2**63 - 1
_log = structlog.get_logger(__name__)


@router.get(
    "/v1/projects/{project}/changes",
    operation_id="follow_changes",
    summary="Follow the changes of a project (server-sent events)",
    response_class=Response,
    responses={
        200: {
            "description": "A stream of events: `id` is the position to resume after, `event` the type, `data` JSON.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": reference.EVENT_EXAMPLE}},
        },
        **reference.problems(401, 403, 404, 422, 503),
    },
    openapi_extra=reference.header(
        "Last-Event-ID",
        "Resume after this position; EventSource sends it by itself.",
        {"type": "integer", "minimum": 0},
    ),
)
async def follow_changes(
    request: Request,
    visit: InVisit,
    after: Annotated[
        int | None, Query(ge=0, le=POSITION_MAX, description="Resume after this position; the header wins.")
    ] = None,
) -> Response:
    """Starts live with `event: hello` (the current position), or after the position given.

    A position that is not kept any more, or that was never reached, is answered with `event: reset` and the first
    position that is kept; what follows begins there. A silent stream says `: alive` every 15 seconds.
    """
    position = _position(request.headers.get("last-event-id"))
    changes, settings = visit.room.changes, visit.room.settings
    if (
        changes.followers >= settings.subscribers_max
        or changes.followers_of(visit.project) >= settings.subscribers_per_project
        or changes.streams_of(visit.caller.credential) >= settings.subscribers_per_key
    ):
        raise TooMany(after=5.0)
    async with contextlib.AsyncExitStack() as opening:
        opening.enter_context(changes.counted(visit.caller.credential))
        channel, ends = await opening.enter_async_context(changes.following(visit.caller.principal))
        stack = opening.pop_all()
    return EventStream(visit, channel, ends, after if position is None else position, stack)


class EventStream(Response):
    """One reader's stream. A reader that does not take what it is sent is closed; it resumes by its last event id."""

    media_type = "text/event-stream"

    def __init__(
        self, visit: Visit, channel: Channel, ends: FeedEnds, after: int | None, stack: contextlib.AsyncExitStack
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._visit = visit
        self._channel = channel
        self._ends = ends
        self._after = after
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader leaves, is too slow, or the gateway goes down."""
        settings = self._visit.room.settings
        async with self._stack:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            left = asyncio.create_task(_until_left(receive), name="reader-left")
            sending = asyncio.create_task(self._send_all(send, settings.slow_after), name="send-changes")
            shown_out = asyncio.create_task(self._visit.until_shown_out(), name="reader-shown-out")
            try:
                await asyncio.wait({left, sending, shown_out}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                for task in (left, sending, shown_out):
                    task.cancel()
                await asyncio.gather(left, sending, shown_out, return_exceptions=True)

    async def _send_all(self, send: Send, slow_after: float) -> None:
        changes = self._visit.room.changes
        try:
            async for piece in self._pieces(changes):
                async with asyncio.timeout(slow_after):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            _log.info("subscriber_too_slow")
            return
        async with asyncio.timeout(slow_after):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self, changes: Changes) -> AsyncIterator[bytes]:
        """What is sent, piece by piece: a greeting, then every change after the reader's position in order."""
        heartbeat = self._visit.room.settings.heartbeat
        greeting, position = greet(self._ends, self._after)
        # Lines without an empty one behind them belong to the next event: some readers take every block for an event.
        yield b"retry: %d\n" % random.randint(*RETRY_MS) + greeting  # noqa: S311 (spreads reconnects)
        while not changes.closing:
            news = self._channel.news
            recent = self._channel.recent
            page = recent.after(position) if recent is not None else []
            if page is None:
                try:
                    page = await changes.read_after(self._visit.caller.principal, position)
                except TryAgain as error:
                    if not await next_news(news, error.after):
                        yield b": waiting\n"
                    continue
                if not page:  # the head is ahead of what is kept: the feed was cut while this reader was reading
                    yield b": waiting\n"
                    await next_news(news, 1.0)
                    continue
            if page:
                position = page[-1].position
                reader = Reader(self._visit.caller.principal.name, self._visit.caller.principal.role)
                if frames := [shown for change in page if (shown := change.shown_to(reader)) is not None]:
                    yield b"".join(frames)
            elif not await next_news(news, heartbeat):
                yield b": alive\n"


def greet(ends: FeedEnds, after: int | None) -> tuple[bytes, int]:
    """The first event of a stream, if it has one, and the position its reader is at.

    hello: nothing was asked for, the stream is live from the current position. reset: what was asked for is not
    there (not kept any more, or never reached), the stream begins with the first position kept.
    """
    if after is None:
        return frame("hello", orjson.dumps({"position": ends.head}), ends.head), ends.head
    if ends.first - 1 <= after <= ends.head:
        return b"", after
    start = ends.first - 1
    return frame("reset", orjson.dumps({"first": ends.first, "position": ends.head}), start), start


def _position(header: str | None) -> int | None:
    if header is None or header == "":
        return None
    if not (header.isascii() and header.isdecimal() and len(header) <= 19 and int(header) <= POSITION_MAX):
        raise Invalid(errors=[FieldError("Last-Event-ID", "must be a position: a whole number from 0 to 2^63 - 1")])
    return int(header)


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
