"""Memories over HTTP: find them, read one, bring them from elsewhere."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts import subjects
from memcube_common.contracts.api import (
    ImportBatch,
    ImportResult,
    ImportResults,
    Memory,
    MemoryQuery,
    PartialAnswer,
    QueryAnswer,
)
from memcube_common.db import Transaction
from memcube_common.errors import NotAllowed
from memcube_common.governance.domain import PRIVILEGED
from memcube_common.memories.store import insert_memories
from memcube_common.quotas.domain import of_memories
from memcube_common.quotas.store import take
from memcube_gateway import domain
from memcube_gateway.finding import answer_json, find
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InPublicVisit, InVisit
from memcube_gateway.routes.once import JSON, once
from memcube_gateway.routes.screened import screened_all

router = APIRouter(tags=["memories"])

_QUERY: Final = TypeAdapter(MemoryQuery)
_MEMORY: Final = TypeAdapter(Memory)
_IMPORT: Final = TypeAdapter(ImportBatch)
_RESULTS: Final = TypeAdapter(ImportResults)
_IMPORT_ROUTE: Final = "POST /v1/projects/{project}/memories/import"


@router.post(
    "/v1/projects/{project}/memories/query",
    operation_id="query_memories",
    summary="Find memories by meaning, by words, or by what they are",
    response_model=QueryAnswer | PartialAnswer,
    responses=reference.problems(400, 401, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (MemoryQuery,),
        {
            "question": {"text": "When is the staging database reset?", "limit": 5},
            "newest": {"tags": ["staging"], "limit": 20},
            "filtered": {
                "text": "database",
                "tags_any": ["staging", "production"],
                "tags_none": ["draft"],
                "type": "PLAINTEXT",
                "created_after": "2024-01-01T00:00:00Z",
                "similarity_threshold": 0.3,
            },
            "listing": {
                "label": {"prefix": "Runbook"},
                "metadata": {"team": "infra"},
                "lifecycle": ["ACTIVE", "ARCHIVED"],
                "order_by": "updated_at",
                "fields": ["label", "tags", "updated_at"],
                "count": True,
            },
        },
    ),
)
async def query_memories(request: Request, visit: InPublicVisit) -> Response:
    """With `text` or `embedding` the best memories, best first; without, a listing of those that fit, newest first.

    Everything given must hold. `next_cursor` goes to the next page, with the same query; walked to the end, a listing
    gives every memory once, whatever is added meanwhile. A page may be short and not be the last.

    Where the question cannot get a vector in time, a hybrid search is made by words only and `degraded` says so; a
    semantic one, or one with a `similarity_threshold`, is answered 503. Asking changes nothing, so an Idempotency-Key
    is accepted and not needed.
    """
    query = parse(_QUERY, await read_body(request, visit))
    answer = await find(query, visit.room, visit.caller.principal, visit.patience)
    return Response(answer_json(answer), media_type=JSON)


@router.post(
    "/v1/projects/{project}/memories/import",
    operation_id="import_memories",
    summary="Import existing memories with their own times",
    response_model=ImportResults,
    responses=reference.problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (ImportBatch,),
        {
            "two": {
                "memories": [
                    {"id": "note-1", "content": "Bo plays the cello.", "created_at": "2024-03-01T09:00:00Z"},
                    {"id": "note-2", "content": "The office moved to Lyon.", "tags": ["office"]},
                ]
            }
        },
    ),
)
async def import_memories(request: Request, visit: InVisit) -> Response:
    """Kept together or not at all, found by their words at once; the same id and time again changes nothing."""
    if visit.caller.role not in PRIVILEGED:
        raise NotAllowed("Importing is for OWNERs, ADMINs and SERVICE keys.")
    body = await read_body(request, visit)
    given = await screened_all(visit, parse(_IMPORT, body).memories)
    now = visit.room.clock()
    memories = [domain.imported(visit.project, one, now) for one in given]

    async def keep(tx: Transaction) -> tuple[int, bytes]:
        once_each = {memory.id: memory for memory in reversed(memories)}
        in_order = sorted(once_each.values(), key=lambda memory: memory.id)  # two imports that meet do not deadlock
        new = await insert_memories(tx, project=visit.project, memories=in_order)
        await take(tx, need=of_memories(memory.content for memory in in_order if memory.id in new))
        results: list[ImportResult] = []
        for one, memory in zip(given, memories, strict=True):
            status: Literal["created", "exists"] = "created" if memory.id in new else "exists"
            new.discard(memory.id)
            results.append(ImportResult.model_construct(external_id=one.id, memory_id=memory.id, status=status))
        return 200, _RESULTS.dump_json(ImportResults.model_construct(results=results))

    answered = await once(visit, _IMPORT_ROUTE, body, keep)
    if not answered.repeated:
        await visit.room.bus.ring(subjects.BELL_MEMORIES)
        await visit.room.bus.ring(subjects.BELL_CHANGES)
    return answered.response()


@router.get(
    "/v1/projects/{project}/memories/{memory_id}",
    operation_id="get_memory",
    summary="Read one memory",
    response_model=Memory,
    responses=reference.problems(401, 404, 422, 503),
)
async def get_memory(
    visit: InPublicVisit, memory_id: Annotated[UUID, Path(description="Id of the memory.")]
) -> Response:
    """The memory with its content, if you may read it; what you may not read answers like what does not exist."""
    memory = await visit.room.reading.ask(visit.caller.principal, visit.patience, memory_id)
    return Response(_MEMORY.dump_json(memory), headers={"etag": f'"{memory.version}"'}, media_type=JSON)
