"""The gateway as an application: routes, problem documents, the reference, and the envelope around them."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI

from memcube_gateway.routes import (
    accounts,
    auth,
    book,
    chains,
    changes,
    functions,
    governance,
    history,
    insights,
    keys,
    members,
    memories,
    outcomes,
    pages,
    payloads,
    problems,
    projects,
    quotas,
    receipts,
    reference,
    schedules,
    synthesis,
    tasks,
)
from memcube_gateway.routes.envelope import Envelope
from memcube_gateway.routes.quick import Quick

if TYPE_CHECKING:
    from memcube_common.telemetry.health import Asgi
    from memcube_gateway.room import Room


def routed() -> FastAPI:
    """The routes without a room: what the OpenAPI document is made of."""
    application = FastAPI(
        title="MemCube",
        version=version("memcube-gateway"),
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    for part in (
        insights,
        receipts,
        memories,
        book,
        history,
        payloads,
        schedules,
        outcomes,
        governance,
        tasks,
        chains,
        synthesis,
        changes,
        projects,
        members,
        keys,
        accounts,
        auth,
        quotas,
        functions,
        pages,
    ):
        application.include_router(part.router)
    problems.add_handlers(application)
    application.openapi = lambda: reference.describe(application)
    return application


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, without a running gateway."""
    return reference.describe(routed())


def build_app(room: Room) -> Asgi:
    """The application that serves `room`."""
    application = routed()
    application.state.room = room
    return cast("Asgi", Envelope(Quick(application), room))
