"""The short way of the hot operations: the same doors and functions, without what the framework asks anew each time.

The framework takes 0.17 ms of a processor for a request whose own function takes 0.01 (2 cores, one GET of a memory).
Only a request that is written exactly as expected goes this way; all others, and all their errors, go the long one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from memcube_gateway.routes.book import create_memory
from memcube_gateway.routes.door import Visit, come_in
from memcube_gateway.routes.insights import submit_insights
from memcube_gateway.routes.memories import get_memory, query_memories
from memcube_gateway.routes.problems import answered

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_PROJECT: Final = r"/v1/projects/(?P<project>[a-z0-9][a-z0-9-]{0,62})"
_MEMORY_ID: Final = r"(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"


@dataclass(frozen=True, slots=True)
class Operation:
    """One hot operation: the route as it is declared, what its path looks like, and what it does.

    publicly: publishable keys come in too.
    """

    method: str
    path: str
    pattern: re.Pattern[str]
    act: Callable[[Request, Visit, re.Match[str]], Awaitable[Response]]
    publicly: bool = False


def _operation(
    method: str,
    rest: str,
    act: Callable[[Request, Visit, re.Match[str]], Awaitable[Response]],
    *,
    publicly: bool = False,
) -> Operation:
    pattern = re.compile(_PROJECT + rest.replace("{memory_id}", _MEMORY_ID) + r"\Z")
    return Operation(method, "/v1/projects/{project}" + rest, pattern, act, publicly)


OPERATIONS: Final[Sequence[Operation]] = (
    _operation(
        "GET", "/memories/{memory_id}", lambda _, visit, path: get_memory(visit, UUID(path["id"])), publicly=True
    ),
    _operation("POST", "/memories/query", lambda request, visit, _: query_memories(request, visit), publicly=True),
    _operation("POST", "/memories", lambda request, visit, _: create_memory(request, visit)),
    _operation("POST", "/insights", lambda request, visit, _: submit_insights(request, visit)),
)


class Quick:
    """In front of the application: takes hot operations, passes everything else on."""

    def __init__(self, application: FastAPI) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        taken = _taken(scope)
        if taken is None:
            await self._application(scope, receive, send)
            return
        operation, path = taken
        scope["app"] = self._application
        scope["route"] = operation
        request = Request(scope, receive)
        try:
            visit = await come_in(request, path["project"], publicly=operation.publicly)
            response = await operation.act(request, visit, path)
        except Exception as error:
            response = await answered(request, error)
        await response(scope, receive, send)


def _taken(scope: Scope) -> tuple[Operation, re.Match[str]] | None:
    if scope["query_string"]:
        return None
    for operation in OPERATIONS:
        if operation.method == scope["method"] and (path := operation.pattern.match(scope["path"])) is not None:
            return operation, path
    return None
