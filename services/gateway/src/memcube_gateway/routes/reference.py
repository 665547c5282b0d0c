"""The OpenAPI document: complete and true, although bodies are read and answers written without FastAPI's help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from memcube_common.contracts import api, identity
from memcube_common.contracts.fields import Governance

REF: Final = "#/components/schemas/{model}"
BODIES: Final[tuple[type[BaseModel], ...]] = (
    api.InsightSubmission,
    api.InsightBatch,
    api.ImportBatch,
    api.MemoryQuery,
    Governance,
    identity.SignIn,
    identity.Refresh,
    identity.PasswordChange,
    identity.NewAccount,
    identity.Joining,
    identity.NewProject,
    identity.NewInvitation,
    identity.RoleChange,
    identity.NewKey,
)
EVENT_EXAMPLE: Final = (
    "id: 42\nevent: memory.v1.created\n"
    'data: {"id":"demo/42","type":"memory.v1.created","project":"demo","position":42,…}\n\n'
)
_WHEN: Final[Mapping[int, str]] = {
    400: "The body is not JSON (`malformed`).",
    401: "No credential, or one that is unknown, revoked or over (`not_signed_in`).",
    403: "You may not do this (`not_allowed`), or the project has used up its quota (`quota_exceeded`).",
    404: "There is nothing here that you may see (`not_found`).",
    408: "The body did not arrive within 30 seconds (`too_slow`).",
    409: "What was asked contradicts what is there: `conflict`, `memory_frozen` or `legal_hold`.",
    413: "The body is larger than 8 MiB (`too_large`).",
    415: "The body is not sent as JSON (`unsupported_media_type`).",
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
        for status in sorted({*statuses, 429})
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


def header(name: str, about: str, schema: Mapping[str, object]) -> dict[str, Any]:
    """A request header that a route reads by itself."""
    return {
        "parameters": [{"name": name, "in": "header", "required": False, "description": about, "schema": dict(schema)}]
    }


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
            {"name": "changes", "description": "What happened, as it happens."},
            {"name": "projects", "description": "A project and what it holds."},
            {"name": "auth", "description": "Signing in with e-mail and password, and staying signed in."},
            {"name": "accounts", "description": "Who one is, and joining by an invitation."},
            {"name": "members", "description": "Who is in a project, and what happened to it."},
            {"name": "keys", "description": "The keys of a project."},
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
