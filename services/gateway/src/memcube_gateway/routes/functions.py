"""The seed's own endpoints: its clients move by changing the base URL. Each hands over to a route of `/v1`."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import JsonValue, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from memcube_common.contracts.api import Memory, QueryAnswer, Receipt, Receipts
from memcube_common.contracts.book import Purged
from memcube_common.contracts.learning import DryRun
from memcube_common.contracts.scheduling import Schedule
from memcube_common.contracts.seed import Action, InsightsProcess, MemoriesCrud, MemoriesQuery, MemoriesSchedule
from memcube_common.errors import FieldError, Invalid, NotAllowed
from memcube_gateway.routes import book, insights, memories, reference, schedules
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InKnock, Visit

router = APIRouter(tags=["functions"])

_CRUD: Final = TypeAdapter(MemoriesCrud)
_QUERY: Final = TypeAdapter(MemoriesQuery)
_SCHEDULE: Final = TypeAdapter(MemoriesSchedule)
_INSIGHTS: Final = TypeAdapter(InsightsProcess)
_ID: Final = TypeAdapter(UUID)

Fields = Mapping[str, JsonValue]


@router.post(
    "/functions/v1/memories-crud",
    operation_id="seed_memories_crud",
    summary="The seed's memories-crud",
    response_model=Memory | Purged | QueryAnswer,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 503)
    | {
        201: {"description": "The memory that was created.", "model": Memory},
        204: {"description": "Changed, and by that out of your own sight."},
    },
    openapi_extra=reference.takes(
        (MemoriesCrud,),
        {
            "create": {
                "action": "create",
                "memory": {
                    "label": "react-pattern", "type": "PLAINTEXT", "content": "Use hooks for state management"
                },
            },
            "flat": {"action": "list", "tags": ["react"], "limit": 10},
        },
    ),
)  # fmt: skip
async def seed_memories_crud(request: Request, knock: InKnock) -> Response:
    """Create, get, update, delete, archive, restore or list, as the routes of `/v1` do it, with their answers.

    The fields of the memory stand in `memory` or beside `action`; without `action` a memory is created. The body is
    the answer itself, which `supabase.functions.invoke` returns as `data`.
    """
    given = parse(_CRUD, await read_body(request, knock))
    project, fields = given.project_id, given.others
    if given.memory is not None:
        if fields:
            raise Invalid(errors=[FieldError(name, "belongs into `memory`") for name in sorted(fields)[:50]])
        fields = dict(given.memory)
        project = _same_project(project, fields)
    if given.action == "list" and given.id is not None:
        raise Invalid(errors=[FieldError("id", "says nothing to `list`: `ids` says which memories")])
    memory_id = None if given.action == "list" else _memory_id(given.id, fields)
    if memory_id is None and given.action not in ("create", "list"):
        raise Invalid(errors=[FieldError("id", "says which memory: give its UUID")])
    visit = await knock.into(project)
    with _as_sent({"If-Match": "If-Match"}, within=None if given.memory is None else "memory"):
        return await _done(request, visit, given.action, memory_id, fields)


async def _done(
    request: Request, visit: Visit, action: Action, memory_id: UUID | None, fields: dict[str, JsonValue]
) -> Response:
    if action == "list":
        return await memories.query_memories(_with(request, fields), visit)
    if action == "create":
        named = {} if memory_id is None else {"id": str(memory_id)}
        return await book.create_memory(_with(request, {**fields, **named}), _of_a_member(visit))
    assert memory_id is not None
    if action != "update" and fields:
        raise Invalid(errors=[FieldError(name, f"says nothing to `{action}`") for name in sorted(fields)[:50]])
    match action:
        case "get":
            return await memories.get_memory(visit, memory_id)
        case "update":
            return await book.update_memory_route(_with(request, fields), _of_a_member(visit), memory_id)
        case "archive":
            return await book.archive_memory(request, _of_a_member(visit), memory_id)
        case "restore":
            return await book.restore_memory(request, _of_a_member(visit), memory_id)
        case "delete":
            return await book.purge_memory(request, _of_a_member(visit), memory_id)


@router.post(
    "/functions/v1/memories-query",
    operation_id="seed_memories_query",
    summary="The seed's memories-query",
    response_model=QueryAnswer,
    responses=reference.problems(400, 401, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes((MemoriesQuery,), {"tags": {"tags": ["python", "typing"], "limit": 10}}),
)
async def seed_memories_query(request: Request, knock: InKnock) -> Response:
    """Find memories, as `POST /v1/projects/{project}/memories/query` does."""
    given = parse(_QUERY, await read_body(request, knock))
    fields = given.others
    names = _put(fields, "text", given.query, said="query")
    visit = await knock.into(given.project_id)
    with _as_sent(names):
        return await memories.query_memories(_with(request, fields), visit)


@router.post(
    "/functions/v1/memories-schedule",
    operation_id="seed_memories_schedule",
    summary="The seed's memories-schedule",
    response_model=Schedule,
    responses=reference.problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (MemoriesSchedule,),
        {
            "task": {
                "agent_id": "bot-001", "task_id": "TASK-123", "tags": ["react", "hooks"], "token_budget": 4000
            }
        },
    ),
)  # fmt: skip
async def seed_memories_schedule(request: Request, knock: InKnock) -> Response:
    """Choose memories for an agent, as `POST /v1/projects/{project}/memories/schedule` does."""
    given = parse(_SCHEDULE, await read_body(request, knock))
    fields = given.others
    names = _put(fields, "need_tags", given.tags, said="tags")
    names |= _put(fields, "text", given.query, said="query")
    visit = await knock.into(given.project_id)
    with _as_sent(names):
        return await schedules.schedule_memories(_with(request, fields), _of_a_member(visit))


@router.post(
    "/functions/v1/insights-process",
    operation_id="seed_insights_process",
    summary="The seed's insights-process",
    status_code=202,
    response_model=Receipt | Receipts,
    responses={
        200: {"model": DryRun, "description": "With `dry_run`: what would be stored. Nothing was."},
        **reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    },
    openapi_extra=reference.takes(
        (InsightsProcess,), {"one": {"insight": "The staging database is reset every night.", "tags": ["staging"]}}
    ),
)
async def seed_insights_process(
    request: Request,
    knock: InKnock,
    dry_run: Annotated[bool, Query(description="Say what would be stored and why, and store nothing.")] = False,
) -> Response:
    """Take in what was learned, as `POST /v1/projects/{project}/insights` does: 202 with a receipt."""
    given = parse(_INSIGHTS, await read_body(request, knock))
    fields, within = given.others, None
    names = _put(fields, "insight", given.content, said="content")
    if isinstance(inner := fields.get("insight"), dict):
        fields, within = _unfolded(fields, "insight"), "insight"
        names = {name: name for name in fields if name not in inner}
        names |= _put(fields, "insight", fields.pop("content", None), said="insight.content")
    many = fields.get("insights")
    for place, one in enumerate(many if isinstance(many, list) else []):
        if isinstance(one, dict):
            at = f"insights.{place}"
            said = _put(one, "insight", one.pop("content", None), said=f"{at}.content")
            names |= {f"{at}.{name}": path for name, path in said.items()}
    visit = await knock.into(_same_project(given.project_id, fields))
    with _as_sent(names, within=within):
        return await insights.submit_insights(_with(request, fields), _of_a_member(visit), dry_run)


@contextmanager
def _as_sent(names: Mapping[str, str], *, within: str | None = None) -> Generator[None]:
    """What the route that is handed to refuses, by the names that were sent.

    names: how a field, or the first part of its path, was sent; any other stands in the object `within`, if any.
    """

    def sent(field: str) -> str:
        if field in names:
            return names[field]
        head, dot, rest = field.partition(".")
        if head in names:
            return f"{names[head]}{dot}{rest}"
        return ".".join(part for part in (within, "" if within and field == "body" else field) if part)

    try:
        yield
    except Invalid as error:
        raise Invalid(error.detail, errors=[FieldError(sent(one.field), one.message) for one in error.errors]) from None


def _with(request: Request, fields: Fields) -> Request:
    """The same request with other fields as its body, for the route it is handed to."""
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


def _of_a_member(visit: Visit) -> Visit:
    """Raises NotAllowed for a publishable key."""
    if visit.caller.role == "PUBLIC":
        raise NotAllowed("A publishable key reads what is public: find memories and read one.")
    return visit


def _same_project(project: str | None, fields: dict[str, JsonValue]) -> str | None:
    """The project that is named, taken out of the fields. Raises Invalid where two are."""
    named = fields.pop("project_id", None)
    if named is None:
        return project
    if not isinstance(named, str) or (project is not None and project != named):
        raise Invalid(errors=[FieldError("project_id", "must be one project's slug")])
    return named


def _memory_id(given: UUID | None, fields: dict[str, JsonValue]) -> UUID | None:
    """The one memory that is named, taken out of the fields. Raises Invalid where two are."""
    inner = fields.pop("id", None)
    if inner is not None:
        try:
            named = _ID.validate_python(inner)
        except ValidationError:
            raise Invalid(errors=[FieldError("memory.id", "must be a UUID")]) from None
        if given is not None and given != named:
            raise Invalid(errors=[FieldError("memory.id", "is not the `id` beside it")])
        return named
    return given


def _put(fields: dict[str, JsonValue], name: str, value: JsonValue, *, said: str) -> dict[str, str]:
    """Put in what was sent under another name, if it was; how it was sent. Raises Invalid where it stands twice."""
    if value is None:
        return {}
    if name in fields:
        raise Invalid(errors=[FieldError(said, f"is another name of `{name}`: send one of them")])
    fields[name] = value
    return {name: said}


def _unfolded(fields: Fields, name: str) -> dict[str, JsonValue]:
    """`fields` with those of the object `name` in its place. Raises Invalid where one stands twice."""
    inner = fields[name]
    assert isinstance(inner, dict)
    outer = {key: value for key, value in fields.items() if key != name}
    if twice := sorted(outer.keys() & inner.keys()):
        raise Invalid(errors=[FieldError(key, f"stands in `{name}` too") for key in twice[:50]])
    return {**outer, **inner}
