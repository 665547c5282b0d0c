"""Memories over HTTP: find them, read one, bring them from elsewhere."""

from __future__ import annotations

import time
from typing import Annotated, Final, Literal, assert_never
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts import subjects
from memcube_common.contracts.api import (
    FoundMemory,
    ImportBatch,
    ImportResult,
    ImportResults,
    Memory,
    MemoryQuery,
    QueryAnswer,
)
from memcube_common.db import Transaction
from memcube_common.errors import NotFound, TryAgain, Unprocessable
from memcube_common.memories.store import insert_memories, read_memories
from memcube_common.search.domain import Blend, Question, QuestionVector
from memcube_common.search.store import Found, newest, search
from memcube_gateway import domain
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InVisit, Visit
from memcube_gateway.routes.once import JSON, once

router = APIRouter(tags=["memories"])

_QUERY: Final = TypeAdapter(MemoryQuery)
_ANSWER: Final = TypeAdapter(QueryAnswer)
_MEMORY: Final = TypeAdapter(Memory)
_IMPORT: Final = TypeAdapter(ImportBatch)
_RESULTS: Final = TypeAdapter(ImportResults)
_IMPORT_ROUTE: Final = "POST /v1/projects/{project}/memories/import"

Mode = Literal["hybrid", "semantic", "keyword", "recent"]


@router.post(
    "/v1/projects/{project}/memories/query",
    operation_id="query_memories",
    summary="Find memories by meaning, by words, or the newest",
    response_model=QueryAnswer,
    responses=reference.problems(400, 401, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (MemoryQuery,),
        {
            "question": {"text": "When is the staging database reset?", "limit": 5},
            "newest": {"tags": ["staging"], "limit": 20},
        },
    ),
)
async def query_memories(request: Request, visit: InVisit) -> Response:
    """The best memories, best first. Without `text`, the newest that carry the tags.

    Where the question cannot get a vector in time, a hybrid search is made by words only and `degraded` says so; a
    semantic one is answered 503. Asking changes nothing, so an Idempotency-Key is accepted and not needed.
    """
    started = time.perf_counter()
    query = parse(_QUERY, await read_body(request, visit))
    vector, degraded = await _vector(query, visit)
    question = domain.question(query, vector)
    async with visit.transaction() as tx:
        if query.text is None:
            found = await newest(tx, project=visit.project, tags=query.tags, limit=query.limit, as_of=query.as_of)
        else:
            found = await search(tx, project=visit.project, question=question, sizes=visit.room.sizes)
    answer = QueryAnswer.model_construct(
        memories=[_shown(one) for one in found],
        mode=_mode(query, question),
        degraded=degraded,
        took_ms=round((time.perf_counter() - started) * 1000, 2),
    )
    return Response(_ANSWER.dump_json(answer), media_type=JSON)


@router.post(
    "/v1/projects/{project}/memories/import",
    operation_id="import_memories",
    summary="Import existing memories with their own times",
    response_model=ImportResults,
    responses=reference.problems(400, 401, 408, 413, 415, 422, 503),
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
    body = await read_body(request, visit)
    given = parse(_IMPORT, body).memories
    now = visit.room.clock()
    memories = [domain.imported(visit.project, one, now) for one in given]

    async def keep(tx: Transaction) -> tuple[int, bytes]:
        once_each = {memory.id: memory for memory in reversed(memories)}
        in_order = sorted(once_each.values(), key=lambda memory: memory.id)  # two imports that meet do not deadlock
        new = await insert_memories(tx, project=visit.project, memories=in_order)
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
async def get_memory(visit: InVisit, memory_id: Annotated[UUID, Path(description="Id of the memory.")]) -> Response:
    """The memory with its content, if you may read it; what you may not read answers like what does not exist."""
    async with visit.transaction() as tx:
        memories = await read_memories(tx, project=visit.project, ids=[memory_id])
    if memory_id not in memories:
        raise NotFound
    return Response(_MEMORY.dump_json(memories[memory_id]), media_type=JSON)


async def _vector(query: MemoryQuery, visit: Visit) -> tuple[QuestionVector | None, str | None]:
    """The question's vector where the search needs one, else why there is none."""
    if query.text is None or query.mode == "keyword":
        return None, None
    try:
        async with visit.patience.spent():
            return await visit.room.embedding.vector(query.text), None
    except (TryAgain, Unprocessable) as error:
        if query.mode == "semantic":
            raise
        return None, f"searched by words only: {error.detail}"


def _mode(query: MemoryQuery, question: Question) -> Mode:
    if query.text is None:
        return "recent"
    match question.blend:
        case Blend.HYBRID:
            return "hybrid"
        case Blend.SEMANTIC:
            return "semantic"
        case Blend.KEYWORD:
            return "keyword"
        case _:
            assert_never(question.blend)


def _shown(found: Found) -> FoundMemory:
    return FoundMemory.model_construct(
        **found.fields, score=found.score, text_score=found.text_score, similarity=found.similarity
    )
