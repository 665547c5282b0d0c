"""Around every request: its limits, its id, its place in the log and in the metrics, the headers that every answer
carries, and the operators' three questions.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog

from memcube_common.errors import MemCubeError, NotAllowed, TooManyRequests
from memcube_common.telemetry.health import answer
from memcube_gateway.arrivals import Arrival, Entrance, read_networks
from memcube_gateway.limits import Limits, headers
from memcube_gateway.origins import Origins, read_origins
from memcube_gateway.routes.problems import problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from memcube_gateway.room import Room

OPERATIONS: Final = frozenset({"/livez", "/readyz", "/metrics"})
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_.-]{1,64}\Z")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_log = structlog.get_logger("memcube_gateway.access")

_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_PAGE: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_NOT_KEPT: Final = (b"cache-control", b"no-store")
_HTTPS_ONLY: Final = (b"strict-transport-security", b"max-age=31536000")


class Envelope:
    """The one middleware: everything a request needs before it is routed and after it is answered."""

    def __init__(self, application: ASGIApp, room: Room, limits: Limits | None = None) -> None:
        settings = room.settings
        self._application = application
        self._room = room
        self._limits = limits or Limits(settings)
        self._entrance = Entrance(self._limits, read_networks(settings.trusted_proxies or ""))
        self._origins = Origins(read_origins(settings.cors_origins or ""))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and see its answer out; an error that nobody answered is answered here."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if scope["path"] in OPERATIONS:
            await self._operate(scope["path"], send)
            return
        started = time.perf_counter()
        arrival = self._entrance.receive(scope)
        request_id = _request_id(scope)
        status = 0
        ended = False

        async def send_on(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                self._limits.leave(arrival, status)
                message["headers"] = self._dressed(scope, arrival, message.get("headers", ()), request_id)
            elif message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
            await send(message)

        try:
            await self._let_in(scope, receive, send_on, arrival)
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

    async def _let_in(self, scope: Scope, receive: Receive, send: Send, arrival: Arrival) -> None:
        """To the routes, unless the address asks too often; a browser that asks before it calls is answered here."""
        origin = arrival.origin if self._origins and _is_preflight(scope) else None
        try:
            self._limits.arrive(arrival, preflight=origin is not None)
            if origin is not None and not self._origins.allows(origin):
                raise NotAllowed("Pages of this origin may not call this gateway.")
        except (TooManyRequests, NotAllowed) as refused:
            await problem(refused)(scope, receive, send)
            return
        if origin is None:
            await self._application(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 204, "headers": self._origins.preflight(origin)})
        await send({"type": "http.response.body", "body": b""})

    def _dressed(
        self, scope: Scope, arrival: Arrival, given: Iterable[tuple[bytes, bytes]], request_id: bytes
    ) -> list[tuple[bytes, bytes]]:
        """An answer's headers with those that every answer carries; what its route said itself is left as it is."""
        dressed = [*given, (b"x-request-id", request_id), *_ALWAYS, *headers(arrival.readings)]
        names = {name for name, _ in dressed}
        if _NO_PAGE[0] not in names:
            dressed.append(_NO_PAGE)
        if _NOT_KEPT[0] not in names and scope["path"].startswith(("/v1/", "/functions/")):
            dressed.append(_NOT_KEPT)
        if arrival.https:
            dressed.append(_HTTPS_ONLY)
        if b"vary" not in names:
            dressed.extend(self._origins.headers(arrival.origin))
        return dressed

    async def _operate(self, path: str, send: Send) -> None:
        status, content_type, body = await answer(path, self._room.health, self._room.meters.registry)
        given = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send(
            {"type": "http.response.start", "status": status, "headers": [*given, *_ALWAYS, _NO_PAGE, _NOT_KEPT]}
        )
        await send({"type": "http.response.body", "body": body})


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


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
