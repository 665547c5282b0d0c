"""Around every request: its id, its place in the log and in the metrics, and the operators' three questions."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog

from memcube_common.errors import MemCubeError
from memcube_common.telemetry.health import answer
from memcube_gateway.routes.problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from memcube_gateway.room import Room

OPERATIONS: Final = frozenset({"/livez", "/readyz", "/metrics"})
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_.-]{1,64}\Z")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_log = structlog.get_logger("memcube_gateway.access")


class Envelope:
    """The one middleware: everything a request needs before it is routed and after it is answered."""

    def __init__(self, application: ASGIApp, room: Room) -> None:
        self._application = application
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and see its answer out; an error that nobody answered is answered here."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if scope["path"] in OPERATIONS:
            await self._operate(scope["path"], send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 0
        ended = False

        async def send_on(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            elif message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
            await send(message)

        try:
            await self._application(scope, receive, send_on)
        except Exception:
            # Logged where it was handled. Sent back only if nothing was: half an answer must break the connection.
            if status == 0:
                await problem(MemCubeError("Something went wrong inside MemCube."))(scope, receive, send_on)
            elif not ended:
                raise
        finally:
            seconds = time.perf_counter() - started
            route = _template(scope)
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._room.meters.requests.labels(method, route, str(status or 499)).observe(seconds)
            _log.info(
                "request",
                method=method,
                route=route,
                status=status or 499,
                ms=round(seconds * 1000, 2),
                request_id=request_id.decode(),
            )

    async def _operate(self, path: str, send: Send) -> None:
        status, content_type, body = await answer(path, self._room.health, self._room.meters.registry)
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _request_id(scope: Scope) -> bytes:
    """The caller's X-Request-Id where it is fit for a log, else a fresh one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return bytes(value)
    return uuid4().hex.encode()


def _template(scope: Scope) -> str:
    """The route as it is declared; what no route took is counted together."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", None) or "unrouted")
