"""The OpenAPI document: complete and true, although bodies are read and answers written without FastAPI's help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from memcube_common.contracts import api, book, identity, learning, links, payloads, scheduling, seed
from memcube_common.contracts.fields import Governance

REF: Final = "#/components/schemas/{model}"
BODIES: Final[tuple[type[BaseModel], ...]] = (
    api.InsightSubmission,
    api.InsightBatch,
    learning.Conversation,
    learning.Support,
    learning.InsightLink,
    api.ImportBatch,
    book.MemoryCreation,
    book.BinaryCreation,
    book.MemoryBatch,
    book.MemoryChange,
    payloads.PayloadLinkRequest,
    api.MemoryQuery,
    links.TaskLinking,
    links.NewChain,
    links.ChainChanges,
    links.ChainAddition,
    links.ChainMove,
    links.ChainOrder,
    links.SynthesisRequest,
    scheduling.ScheduleRequest,
    scheduling.ScheduleFeedback,
    Governance,
    identity.SignIn,
    identity.Refresh,
    identity.PasswordChange,
    identity.NewAccount,
    identity.Joining,
    identity.NewProject,
    identity.ProjectChanges,
    identity.NewInvitation,
    identity.RoleChange,
    identity.NewKey,
    seed.MemoriesCrud,
    seed.MemoriesQuery,
    seed.MemoriesSchedule,
    seed.InsightsProcess,
)
EVENT_EXAMPLE: Final = (
    "id: 42\nevent: memory.v1.created\n"
    'data: {"id":"demo/42","type":"memory.v1.created","project":"demo","position":42,…}\n\n'
)
_WHEN: Final[Mapping[int, str]] = {
    400: "The body is not JSON (`malformed`), or the head is no HTTP or over 64 KiB (`malformed_request`).",
    401: "No credential, or one that is unknown, revoked or over (`not_signed_in`).",
    403: "You may not do this (`not_allowed`), or the project has used up its quota (`quota_exceeded`).",
    404: "There is nothing here that you may see (`not_found`).",
    408: "The body did not arrive in time: 30 seconds, 10 minutes for a payload (`too_slow`).",
    409: "What was asked contradicts what is there: `conflict`, `memory_frozen` or `legal_hold`.",
    412: "Another version is in force than `If-Match` says (`version_mismatch`).",
    413: "The body is larger than 8 MiB, a payload than its type allows, or, where the project screens, what is written"
    " is over 1,179,648 characters or takes too long to look through (`too_large`).",
    415: "The body is not sent as JSON, or not as it is (`unsupported_media_type`).",
    416: "The range lies outside of the payload (`range_not_satisfiable`).",
    422: "Fields outside their limits (`invalid`), or an Idempotency-Key with another body (`idempotency_key_reused`).",
    429: "More requests than your limit allows (`too_many_requests`); `Retry-After` says when to come again.",
    503: "Something MemCube depends on is away (`unavailable`); the same request succeeds later.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem documents a route may answer."""
    return {
        status: {
            "description": _WHEN[status],
            "content": {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}},
            **({"headers": {"Retry-After": _RETRY_AFTER}} if status in {429, 503} else {}),
        }
        for status in sorted({*statuses, 400, 429})
    }


def takes(models: Sequence[type[BaseModel]], examples: Mapping[str, object]) -> dict[str, Any]:
    """The body a route reads by itself, and the Idempotency-Key that every POST takes."""
    return {
        **body(models, examples),
        **header(
            "Idempotency-Key",
            "1-255 printable characters. The same key with the same body has one effect and one answer, for 24 hours.",
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
        ),
    }


def shows_once(
    models: Sequence[type[BaseModel]], examples: Mapping[str, object], *, is_open: bool = False
) -> dict[str, Any]:
    """The body of a route whose answer or question holds a secret, which is never kept for an Idempotency-Key.

    is_open: the route takes no credential but what its body holds.
    """
    return {
        **body(models, examples),
        **header(
            "Idempotency-Key",
            "Accepted and not kept: a secret is shown once, and never stored for a repeat.",
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
        ),
        **({"security": []} if is_open else {}),
    }


def body(models: Sequence[type[BaseModel]], examples: Mapping[str, object]) -> dict[str, Any]:
    """The body a route reads by itself."""
    schemas = [{"$ref": REF.format(model=model.__name__)} for model in models]
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas},
                    "examples": {name: {"value": value} for name, value in examples.items()},
                }
            },
        },
    }


def or_form(extra: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """What `extra` says, and that the body may be a form instead: `memory` as `model`, then `payload`, the bytes."""
    form = {
        "schema": {
            "type": "object",
            "required": ["memory", "payload"],
            "properties": {
                "memory": {"$ref": REF.format(model=model.__name__)},
                "payload": {"type": "string", "format": "binary"},
            },
        },
        "encoding": {"memory": {"contentType": "application/json"}},
    }
    content = {**extra["requestBody"]["content"], "multipart/form-data": form}
    return {**extra, "requestBody": {**extra["requestBody"], "content": content}}


def header(name: str, about: str, schema: Mapping[str, object]) -> dict[str, Any]:
    """A request header that a route reads by itself."""
    return {
        "parameters": [{"name": name, "in": "header", "required": False, "description": about, "schema": dict(schema)}]
    }


def without_body(extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a POST without a body takes: the Idempotency-Key."""
    return {"parameters": takes((), {})["parameters"], **(extra or {})}


def on_version(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What `extra` says, and the header that names the version a change is meant for."""
    if_match = header(
        "If-Match",
        'The version this is meant for, as `ETag` said it: `"3"`. Another one in force is answered 412.',
        {"type": "string", "pattern": '^(\\*|(W/)?"[1-9][0-9]{0,8}")$'},
    )
    return {**extra, "parameters": [*extra.get("parameters", ()), *if_match["parameters"]]}


def describe(application: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the gateway; made once, then kept on the application."""
    if application.openapi_schema:
        return application.openapi_schema
    document = get_openapi(
        title="MemCube",
        version=application.version,
        summary="The memory backend of AI agents.",
        description="Every answer carries `X-Request-Id`. Every error is an RFC 9457 problem document with a `code`.",
        routes=application.routes,
        tags=[
            {"name": "insights", "description": "What agents learned, and what became of it."},
            {"name": "memories", "description": "What is known: find it, read it, bring it in."},
            {"name": "tasks", "description": "Which memories a task read and wrote."},
            {"name": "chains", "description": "Memories in an order of their own."},
            {"name": "schedules", "description": "Memories chosen for an agent inside its budget, and why."},
            {"name": "changes", "description": "What happened, as it happens."},
            {"name": "projects", "description": "A project and what it holds."},
            {"name": "auth", "description": "Signing in with e-mail and password, and staying signed in."},
            {"name": "accounts", "description": "Who one is, and joining by an invitation."},
            {"name": "members", "description": "Who is in a project, and what happened to it."},
            {"name": "keys", "description": "The keys of a project."},
            {"name": "functions", "description": "The seed's own endpoints, for clients that move."},
        ],
    )
    components = cast("dict[str, Any]", document.setdefault("components", {}))
    schemas = cast("dict[str, Any]", components.setdefault("schemas", {}))
    _, made = models_json_schema([(model, "validation") for model in (*BODIES, api.Problem)], ref_template=REF)
    for name, schema in made.get("$defs", {}).items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A project key: `Bearer mc_sec_…`."},
        "token": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An account's access token, from `POST /v1/auth/token`.",
        },
    }
    document["security"] = [{"key": []}, {"token": []}]
    application.openapi_schema = document
    return document


_RETRY_AFTER: Final = {
    "description": f"Seconds after which to try again ({HTTPStatus.SERVICE_UNAVAILABLE.phrase}).",
    "schema": {"type": "integer", "minimum": 1},
}
