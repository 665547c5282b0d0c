"""Errors as RFC 9457 problem documents: one form for everything that goes wrong, nothing about the inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from memcube_common.errors import (
    FieldError,
    Invalid,
    MemCubeError,
    NotFound,
    NotSignedIn,
    QuotaExceeded,
    TooLarge,
    TryAgain,
)

if TYPE_CHECKING:
    from memcube_gateway.admission import Caller
    from memcube_gateway.room import Room

PROBLEM: Final = "application/problem+json"
ERRORS_MAX: Final = 50
DENIED: Final = frozenset({401, 403, 404, 429})
FIELD_LENGTH: Final = 200
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_log = structlog.get_logger(__name__)


class NotJson(MemCubeError):
    """Send the body as JSON, with 'Content-Type: application/json'."""

    code = "unsupported_media_type"
    status = 415
    title = "Not JSON"


class TooSlow(MemCubeError):
    """The body did not arrive in time."""

    code = "too_slow"
    status = 408
    title = "Body too slow"


class RangeNotSatisfiable(MemCubeError):
    """The range lies outside of the payload; `Content-Range` says how large that is."""

    code = "range_not_satisfiable"
    status = 416
    title = "Range not satisfiable"


class MethodNotAllowed(MemCubeError):
    """This route does not take this method."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"


class TooMany(TryAgain):
    """Too many change streams are open here, in all, of this project or of this key; try again, or another gateway."""

    code = "too_many_streams"


def problem(error: MemCubeError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that says what went wrong and what to do about it."""
    document: dict[str, object] = {
        "type": f"urn:memcube:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.errors:
        document["errors"] = [{"field": e.field, "message": e.message} for e in error.errors[:ERRORS_MAX]]
    more = dict(headers or {})
    match error:
        case TryAgain():
            more["retry-after"] = str(max(1, math.ceil(error.after)))
        case QuotaExceeded():
            document |= {"resource": error.resource, "maximum": error.maximum}
        case NotSignedIn():
            more["www-authenticate"] = 'Bearer realm="memcube"'
        case TooLarge() | TooSlow():
            more["connection"] = "close"
        case _:
            pass
    return Response(orjson.dumps(document), error.status, more, PROBLEM)


def field_errors(details: Sequence[ErrorDetails], *, skip: int = 0) -> list[FieldError]:
    """What pydantic refused, as field paths ('insights.3.tags.0') and limits; never the refused values."""
    return [
        FieldError(
            ".".join(str(part) for part in detail["loc"][skip:])[:FIELD_LENGTH] or "body",
            detail["msg"].removeprefix("Value error, "),
        )
        for detail in details[:ERRORS_MAX]
    ]


def add_handlers(application: FastAPI) -> None:
    """Answer every exception with a problem document."""
    application.add_exception_handler(MemCubeError, _on_memcube_error)
    application.add_exception_handler(RequestValidationError, _on_bad_parameters)
    application.add_exception_handler(HTTPException, _on_http_exception)
    application.add_exception_handler(Exception, _on_unexpected)


async def answered(request: Request, error: Exception) -> Response:
    """The problem document of any exception, for who is not asked by the framework."""
    if isinstance(error, MemCubeError):
        return await _on_memcube_error(request, error)
    return await _on_unexpected(request, error)


async def _on_memcube_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MemCubeError)
    if error.status >= 500 and not isinstance(error, TryAgain):
        return await _on_unexpected(request, error)
    if error.status in DENIED:
        room = cast("Room", request.app.state.room)
        room.meters.denied.labels(error.code).inc()
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is not None and error.status == 403:
            room.denials.note(caller, f"{request.method} {getattr(request.scope.get('route'), 'path', 'unrouted')}")
    return problem(error)


async def _on_bad_parameters(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(Invalid(errors=field_errors(error.errors(), skip=1)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the router itself refuses: no such route, no such method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return problem(MethodNotAllowed(), {"allow": ", ".join(_methods_of(request))})
    return problem(NotFound("There is no such route."))


def _methods_of(request: Request) -> list[str]:
    """All methods that the path takes (RFC 9110, 10.2.1); the router itself names those of one route only."""
    routes = cast("FastAPI", request.app).routes
    scopes = ({**request.scope, "method": method} for method in METHODS)
    return [scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _on_unexpected(_: Request, error: Exception) -> Response:
    """A fault of ours: the log gets its place, the caller gets no inside."""
    _log.error("request_failed", error=type(error).__name__, where=_where(error))
    return problem(MemCubeError("Something went wrong inside MemCube; the request id names it in the logs."))


def _where(error: BaseException) -> list[str]:
    """The innermost frames of `error`: files and lines, no values, because values may be memory content."""
    frames: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames[-6:]
