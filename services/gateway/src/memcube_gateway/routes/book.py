"""Memories over HTTP: made one by one or many at once, changed, put away, taken back, ended for good."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts import subjects
from memcube_common.contracts.api import FieldFault, Memory
from memcube_common.contracts.book import (
    BatchResult,
    BatchResults,
    BinaryCreation,
    MemoryBatch,
    MemoryChange,
    MemoryCreation,
    MemoryFields,
    Purged,
)
from memcube_common.db import Transaction
from memcube_common.errors import (
    FieldError,
    Invalid,
    MemCubeError,
    NotAllowed,
    NotFound,
    QuotaExceeded,
    TryAgain,
)
from memcube_common.memories.domain import NewMemory
from memcube_common.memories.revisions import (
    find_derived,
    purge_memories,
    set_lifecycle,
    update_memory,
)
from memcube_common.memories.store import insert_memories, read_memories
from memcube_common.quotas.store import announce_refusal, take
from memcube_common.screening import marked
from memcube_gateway import domain
from memcube_gateway.credentials.domain import may_hold, may_submit
from memcube_gateway.payloads.form import is_form
from memcube_gateway.payloads.receiving import uploaded
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InVisit, Visit
from memcube_gateway.routes.once import JSON, Answered, intent_of, once
from memcube_gateway.routes.screened import screened, screened_all, screened_change, screened_payload
from memcube_gateway.together import Making, need_of

router = APIRouter(tags=["memories"])

_CREATION: Final = TypeAdapter(MemoryCreation)
_BATCH: Final = TypeAdapter(MemoryBatch)
_LOOSE: Final = TypeAdapter(domain.LooseBatch)
_RESULTS: Final = TypeAdapter(BatchResults)
_CHANGE: Final = TypeAdapter(MemoryChange)
_MEMORY: Final = TypeAdapter(Memory)
_PURGED: Final = TypeAdapter(Purged)
_CREATE: Final = "POST /v1/projects/{project}/memories"
_UPDATE: Final = "PATCH /v1/projects/{project}/memories/{memory_id}"
_PURGE: Final = "DELETE /v1/projects/{project}/memories/{memory_id}"
_CREATE_MANY: Final = "POST /v1/projects/{project}/memories/batch"
_VERSION: Final = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"\Z')

MemoryId = Annotated[UUID, Path(description="Id of the memory.")]


@router.post(
    "/v1/projects/{project}/memories",
    operation_id="create_memory",
    summary="Make a memory",
    status_code=201,
    response_model=Memory,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.or_form(
        reference.takes(
            (MemoryCreation,),
            {
                "text": {"label": "python-pattern", "content": "Always use type hints.", "tags": ["python"]},
                "kept": {"content": "The staging database is reset every night.", "governance": {"ttl_days": None}},
            },
        ),
        BinaryCreation,
    ),
)
async def create_memory(request: Request, visit: InVisit) -> Response:
    """Durable when answered, found by its words at once and by meaning seconds later.

    Text comes as JSON; bytes (ACTIVATION, PARAMETER) as `multipart/form-data` with the parts `memory` and `payload`.
    """
    if is_form(request):
        async with uploaded(request, visit, lambda given: may_make(visit, [given])) as upload:
            given = await screened(visit, upload.given)
            received, kinds = await screened_payload(visit, upload.received)
            given = given.model_copy(update={"governance": marked(given.governance, kinds)})
            memory = domain.created(given, received.text, visit.caller.handle, visit.room.clock())
            return await keep_new(visit, replace(memory, payload=received.payload), upload.intent)
    body = await read_body(request, visit)
    given = parse(_CREATION, body)
    may_make(visit, [given])
    given = await screened(visit, given)
    return await keep_new(visit, domain.created(given, given.content, visit.caller.handle, visit.room.clock()), body)


@router.post(
    "/v1/projects/{project}/memories/batch",
    operation_id="create_memories",
    summary="Make up to 500 memories",
    response_model=BatchResults,
    responses=reference.problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (MemoryBatch,),
        {
            "all or none": {"memories": [{"content": "Ada prefers short answers."}, {"content": "Bo is away in May."}]},
            "each for itself": {"memories": [{"content": "Ada sings."}, {"content": ""}], "atomic": False},
        },
    ),
)
async def create_memories(request: Request, visit: InVisit) -> Response:
    """All or none (`atomic`, the default), or each for itself: then a refused one says why in its place.

    One whose `id` is there already is left alone and `exists`.
    """
    body = await read_body(request, visit)
    given, refused, atomic = _parse_batch(body)
    may_make(visit, list(given.values()))
    given = dict(zip(given, await screened_all(visit, list(given.values())), strict=True))
    now = visit.room.clock()
    memories = {n: domain.created(one, one.content, visit.caller.handle, now) for n, one in given.items()}

    async def keep(tx: Transaction) -> tuple[int, bytes]:
        results = dict(refused)
        by_id = {memory.id: n for n, memory in reversed(memories.items())}
        once_each = [memories[n] for n in sorted(by_id.values(), key=lambda n: memories[n].id)]
        for memory_id, error in (await _keep_many(tx, visit.project, once_each, atomic=atomic)).items():
            results[by_id[memory_id]] = error or BatchResult.model_construct(status="created", id=memory_id, errors=[])
        for n, memory in memories.items():
            results.setdefault(n, BatchResult.model_construct(status="exists", id=memory.id, errors=[]))
        in_order = [results[n] for n in sorted(results)]
        return 200, _RESULTS.dump_json(BatchResults.model_construct(results=in_order))

    answered = await once(visit, _CREATE_MANY, body, keep)
    if not answered.repeated:
        await ring(visit)
    return answered.response()


@router.patch(
    "/v1/projects/{project}/memories/{memory_id}",
    operation_id="update_memory",
    summary="Change a memory: its next version",
    response_model=Memory,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 503)
    | {204: {"description": "Changed, and by that out of your own sight."}},
    openapi_extra=reference.on_version(
        reference.takes(
            (MemoryChange,),
            {"words": {"content": "Use type hints, and run pyright."}, "tags": {"tags": ["python", "style"]}},
        )
    ),
)
async def update_memory_route(request: Request, visit: InVisit, memory_id: MemoryId) -> Response:
    """What is not said stays; what was in force before is kept as a version."""
    body = await read_body(request, visit)
    change, kinds = await screened_change(visit, parse(_CHANGE, body))
    expected = expected_version(request)

    async def update(tx: Transaction) -> tuple[int, bytes]:
        if change.content is not None:
            await text_only(tx, visit.project, memory_id)
        memory = await update_memory(
            tx,
            project=visit.project,
            memory_id=memory_id,
            revision=domain.revision(change),
            expected=expected,
            kinds=kinds,
        )
        return (204, b"") if memory is None else (200, _MEMORY.dump_json(memory))

    answered = await once(visit, _UPDATE, meant_for(memory_id, expected) + body, update, about=memory_id)
    if not answered.repeated:
        await ring(visit)
    return as_version(answered)


@router.post(
    "/v1/projects/{project}/memories/{memory_id}/archive",
    operation_id="archive_memory",
    summary="Put a memory away",
    response_model=Memory,
    responses=reference.problems(401, 403, 404, 409, 412, 422, 503)
    | {204: {"description": "Done, and by that out of your own sight."}},
    openapi_extra=reference.on_version(reference.without_body()),
)
async def archive_memory(request: Request, visit: InVisit, memory_id: MemoryId) -> Response:
    """It is kept and read by its id, and no longer found unless asked for. Put away already, it stays as it is."""
    return await _move(request, visit, memory_id, "ARCHIVED")


@router.post(
    "/v1/projects/{project}/memories/{memory_id}/restore",
    operation_id="restore_memory",
    summary="Take a memory back that was put away or expired",
    response_model=Memory,
    responses=reference.problems(401, 403, 404, 409, 412, 422, 503)
    | {204: {"description": "Done, and by that out of your own sight."}},
    openapi_extra=reference.on_version(reference.without_body()),
)
async def restore_memory(request: Request, visit: InVisit, memory_id: MemoryId) -> Response:
    """It is found again. One that was not put away stays as it is."""
    return await _move(request, visit, memory_id, "ACTIVE")


@router.delete(
    "/v1/projects/{project}/memories/{memory_id}",
    operation_id="purge_memory",
    summary="End a memory for good",
    response_model=Purged,
    responses=reference.problems(401, 403, 404, 409, 412, 422, 503),
    openapi_extra=reference.on_version(reference.without_body()),
)
async def purge_memory(
    request: Request,
    visit: InVisit,
    memory_id: MemoryId,
    descendants: Annotated[bool, Query(description="Also all that was derived from it, or nothing.")] = False,
) -> Response:
    """With every version, its vector, its links and the text of its insight: nothing tells its content any more.

    Its maker may, and OWNER, ADMIN and SERVICE; not while it is frozen or under legal hold. What was derived from it
    stays, unless asked, and keeps what it demanded.
    """
    expected = expected_version(request)

    async def purge(tx: Transaction) -> tuple[int, bytes]:
        ids = [memory_id]
        if descendants:
            ids += await find_derived(tx, memory_id=memory_id)
        await purge_memories(tx, project=visit.project, ids=ids, expected=expected)
        return 200, _PURGED.dump_json(Purged.model_construct(purged=ids))

    answered = await once(visit, _PURGE, meant_for(memory_id, expected) + bytes([descendants]), purge)
    if not answered.repeated:
        await visit.room.bus.ring(subjects.BELL_CHANGES)
    return answered.response()


async def keep_new(visit: Visit, memory: NewMemory, body: bytes) -> Response:
    """Keep one new memory, once for an Idempotency-Key and `body`: 201 with the memory and where it is.

    Raises Conflict where its id is taken, QuotaExceeded, NotAllowed, Invalid for parents, TryAgain.
    """

    making = Making(memory, intent_of(visit, _CREATE, body, memory.id))
    try:
        answered = await visit.room.making.ask(visit.caller.principal, visit.patience, making)
    except QuotaExceeded as refused:
        await announce_refusal(visit.room.db, principal=visit.caller.principal, refused=refused)
        raise
    identity = str(orjson.loads(answered.body)["id"]) if answered.repeated else str(memory.id)
    return answered.response({"location": f"/v1/projects/{visit.project}/memories/{identity}", "etag": '"1"'})


def may_make(visit: Visit, given: Sequence[MemoryFields]) -> None:
    """Raises NotAllowed for who may not write, and who holds what they may not hold."""
    if not may_submit(visit.caller.role):
        raise NotAllowed("Your role reads; memories are made by others.")
    if not may_hold(visit.caller.role) and any(one.governance and one.governance.legal_hold for one in given):
        raise NotAllowed("A legal hold is for OWNERs, ADMINs and SERVICE keys.")


def meant_for(memory_id: UUID, expected: int | None, more: int = 0) -> bytes:
    """What a request without such a body says by its path and headers, for its Idempotency-Key."""
    return memory_id.bytes + (expected or 0).to_bytes(8, "big") + more.to_bytes(8, "big")


def expected_version(request: Request) -> int | None:
    """The version that `If-Match` names; None for none or `*`. Raises Invalid for what is no version."""
    said = request.headers.get("if-match")
    if said is None or said.strip() == "*":
        return None
    match = _VERSION.match(said.strip())
    if match is None:
        raise Invalid(errors=[FieldError("If-Match", 'must be a version in quotes, as "3"')])
    return int(match[1])


async def text_only(tx: Transaction, project: str, memory_id: UUID) -> None:
    """Raises NotFound, or Invalid where the memory holds bytes: they come by `PUT …/payload`."""
    found = await read_memories(tx, project=project, ids=[memory_id])
    if memory_id not in found:
        raise NotFound
    if found[memory_id].type != "PLAINTEXT":
        raise Invalid(errors=[FieldError("content", "is text; bytes come by `PUT …/payload`")])


def shown(memory: Memory | None) -> Response:
    """A memory after a change, with its version; 204 where its changer does not see it any more."""
    if memory is None:
        return Response(status_code=204)
    return Response(_MEMORY.dump_json(memory), headers={"etag": f'"{memory.version}"'}, media_type=JSON)


def as_version(answered: Answered) -> Response:
    """A kept answer that is a memory, with its version in `ETag`."""
    if not answered.body:
        return answered.response()
    return answered.response({"etag": f'"{orjson.loads(answered.body)["version"]}"'})


async def ring(visit: Visit) -> None:
    """Something was written: those who carry changes and make vectors need not wait for their next look."""
    await visit.room.bus.ring(subjects.BELL_MEMORIES)
    await visit.room.bus.ring(subjects.BELL_CHANGES)


async def _move(request: Request, visit: Visit, memory_id: UUID, to: Literal["ARCHIVED", "ACTIVE"]) -> Response:
    expected = expected_version(request)

    async def move(tx: Transaction) -> tuple[int, bytes]:
        memory, _ = await set_lifecycle(tx, project=visit.project, memory_id=memory_id, to=to, expected=expected)
        return (204, b"") if memory is None else (200, _MEMORY.dump_json(memory))

    route = f"POST /v1/projects/{{project}}/memories/{{memory_id}}/{'archive' if to == 'ARCHIVED' else 'restore'}"
    answered = await once(visit, route, meant_for(memory_id, expected), move, about=memory_id)
    if not answered.repeated:
        await visit.room.bus.ring(subjects.BELL_CHANGES)
    return as_version(answered)


def _parse_batch(body: bytes) -> tuple[dict[int, MemoryCreation], dict[int, BatchResult], bool]:
    """The memories of a batch by their place, those that were refused already, and whether it is all or none."""
    try:
        batch = parse(_BATCH, body)
        return dict(enumerate(batch.memories)), {}, batch.atomic
    except Invalid:
        try:
            loose = parse(_LOOSE, body)
        except Invalid:
            loose = None
        if loose is None or loose.atomic:
            raise
    good: dict[int, MemoryCreation] = {}
    refused: dict[int, BatchResult] = {}
    for n, one in enumerate(loose.memories):
        try:
            good[n] = parse(_CREATION, orjson.dumps(one))
        except MemCubeError as error:
            refused[n] = _refused(error)
    return good, refused, False


async def _keep_many(
    tx: Transaction, project: str, memories: Sequence[NewMemory], *, atomic: bool
) -> dict[UUID, BatchResult | None]:
    """Keep memories: what became of each that was new or refused, None where it was kept.

    Where each is for itself and the database refuses them together, each half is tried, and so on.
    """
    if atomic:
        return dict.fromkeys(await _keep_some(tx, project, memories))
    if not memories:
        return {}
    try:
        async with tx.savepoint():
            return dict.fromkeys(await _keep_some(tx, project, memories))
    except TryAgain:
        raise
    except MemCubeError as error:
        if len(memories) == 1:
            return {memories[0].id: _refused(error, memories[0].id)}
    half = len(memories) // 2
    first = await _keep_many(tx, project, memories[:half], atomic=False)
    return first | await _keep_many(tx, project, memories[half:], atomic=False)


async def _keep_some(tx: Transaction, project: str, memories: Sequence[NewMemory]) -> set[UUID]:
    new = await insert_memories(tx, project=project, memories=memories)
    await take(tx, need=need_of([memory for memory in memories if memory.id in new]))
    return new


def _refused(error: MemCubeError, memory_id: UUID | None = None) -> BatchResult:
    return BatchResult.model_construct(
        status="refused",
        id=memory_id,
        code=error.code,
        detail=error.detail,
        errors=[FieldFault.model_construct(field=fault.field, message=fault.message) for fault in error.errors],
    )
