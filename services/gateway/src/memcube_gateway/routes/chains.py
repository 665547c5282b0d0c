"""Chains over HTTP: memories in an order of their own, made, read within a token budget, rearranged.

Positions count what the caller sees, 1 … k: true ones would tell how many memories are hidden between
(docs/adr/0018-tasks-and-chains.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts import subjects
from memcube_common.contracts.api import Memory
from memcube_common.contracts.links import (
    POSITION_MAX,
    Chain,
    ChainAddition,
    ChainChanges,
    ChainItem,
    ChainMove,
    ChainOrder,
    ChainReading,
    Chains,
    NewChain,
    OrderedChain,
    PartialChainReading,
)
from memcube_common.db import Transaction
from memcube_common.errors import FieldError, Invalid, NotAllowed, NotFound, VersionMismatch
from memcube_common.governance.domain import WRITERS
from memcube_common.ids import new_id
from memcube_common.links import domain, store
from memcube_common.links.domain import ChainHead
from memcube_common.memories.store import read_memories
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.book import expected_version
from memcube_gateway.routes.cursors import Cursor, PageSize, cursor_for, id_in
from memcube_gateway.routes.door import InVisit, Visit
from memcube_gateway.routes.once import JSON, once
from memcube_gateway.routes.screened import screened, screened_change
from memcube_gateway.routes.tasks import must_all_be_there

router = APIRouter(tags=["chains"])

ChainId = Annotated[UUID, Path(description="Id of the chain.")]
MemoryId = Annotated[UUID, Path(description="Id of a memory in it.")]
BUDGET_MAX: Final = 10_000_000

_NEW: Final = TypeAdapter(NewChain)
_CHANGES: Final = TypeAdapter(ChainChanges)
_ADDITION: Final = TypeAdapter(ChainAddition)
_MOVE: Final = TypeAdapter(ChainMove)
_ORDER: Final = TypeAdapter(ChainOrder)
_CHAINS: Final = TypeAdapter(Chains)
_ORDERED: Final = TypeAdapter(OrderedChain)
_READING: Final = TypeAdapter(ChainReading)
_FIELDS: Final = frozenset(Memory.model_fields)
_ONE: Final = "019a5f00-0000-7000-8000-0000000000b2"
_OTHER: Final = "019a5f00-0000-7000-8000-0000000000b3"
_CHANGES_IT: Final = reference.problems(400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 503)


@router.post(
    "/v1/projects/{project}/chains",
    operation_id="make_chain",
    summary="Make a chain: memories in an order of their own",
    status_code=201,
    response_model=OrderedChain,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (NewChain,),
        {
            "empty": {"name": "release checklist"},
            "of two": {"name": "release checklist", "memory_ids": [_ONE, _OTHER]},
            "one's own": {"name": "notes to self", "governance": {"visibility": "private"}},
        },
    ),
)
async def make_chain(request: Request, visit: InVisit) -> Response:
    """Of memories you may read; others answer like those that do not exist, and `errors` says which.

    Who sees the chain is one thing, who reads each of its memories another: everybody sees of it what they may read.
    """
    body = await read_body(request, visit)
    given = await screened(visit, parse(_NEW, body))
    if visit.caller.role not in WRITERS:
        raise NotAllowed("Your role reads; chains are made by others.")
    chain_id = new_id()

    async def make(tx: Transaction) -> tuple[int, bytes]:
        there = await store.readable(tx, project=visit.project, ids=given.memory_ids)
        must_all_be_there(given.memory_ids, there, field="memory_ids")
        if not await store.begin_chain(tx, chain_id=chain_id, chain=given):
            raise NotFound
        return 201, await _ordered(tx, visit.project, chain_id)

    answered = await once(visit, "POST /v1/projects/{project}/chains", body, make)
    if not answered.repeated:
        await visit.room.bus.ring(subjects.BELL_CHANGES)
    return answered.response()


@router.get(
    "/v1/projects/{project}/chains",
    operation_id="list_chains",
    summary="List chains",
    response_model=Chains,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_chains(visit: InVisit, cursor: Cursor = None, limit: PageSize = 50) -> Response:
    """Those you may see, newest first, without their memories."""
    below = id_in(visit, "chains", cursor)
    async with visit.transaction() as tx:
        heads = await store.read_chains(tx, project=visit.project, below=below, at_most=limit + 1)
    following = cursor_for(visit, "chains", str(heads[limit - 1].id)) if len(heads) > limit else None
    shown = [Chain.model_construct(**_fields(visit.project, head)) for head in heads[:limit]]
    return Response(_CHAINS.dump_json(Chains.model_construct(chains=shown, next_cursor=following)), media_type=JSON)


@router.get(
    "/v1/projects/{project}/chains/{chain_id}",
    operation_id="read_chain",
    summary="Read a chain in order, within a token budget",
    response_model=ChainReading | PartialChainReading,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def read_chain(
    visit: InVisit,
    chain_id: ChainId,
    token_budget: Annotated[
        int | None, Query(ge=0, le=BUDGET_MAX, description="o200k tokens that the contents may cost together.")
    ] = None,
    start: Annotated[int, Query(ge=1, le=POSITION_MAX, description="The position to begin at.")] = 1,
    limit: PageSize = 100,
    fields: Annotated[
        str | None,
        Query(
            max_length=1000,
            description="Fields of each memory, with commas between, e.g. `label,content`; all if absent.",
        ),
    ] = None,
) -> Response:
    """The longest run of its memories from `start` that fits; only those you may read are there and are counted.

    Nothing is skipped: the first that does not fit ends it. `left_out` says how many follow, `next_position` where to
    read on; where that is `start` itself, the budget is too small for it.
    """
    wanted = _wanted(fields)
    async with visit.transaction() as tx:
        head = await store.read_chain(tx, project=visit.project, chain_id=chain_id)
        if head is None:
            raise NotFound
        members = await store.read_members(tx, chain_id=chain_id)
        run = domain.stretch(members, start=start - 1, limit=limit, budget=token_budget)
        taken = members[run.first : run.end]
        memories = await read_memories(tx, project=visit.project, ids=[one.memory_id for one in taken])
    items = [
        ChainItem.model_construct(
            position=place, added_by=one.added_by, added_at=one.added_at, memory=memories[one.memory_id]
        )
        for place, one in enumerate(taken, run.first + 1)
        if one.memory_id in memories
    ]
    told = _fields(visit.project, head)
    told["length"] = len(members)
    answer = ChainReading.model_construct(
        **told,
        items=items,
        token_count=run.tokens,
        left_out=len(members) - run.end,
        next_position=run.end + 1 if run.end < len(members) else None,
    )
    return Response(_READING.dump_json(answer, include=wanted), headers=_tag(head.version), media_type=JSON)


@router.patch(
    "/v1/projects/{project}/chains/{chain_id}",
    operation_id="change_chain",
    summary="Give a chain another name, description or governance",
    response_model=OrderedChain,
    responses=_CHANGES_IT,
    openapi_extra=reference.on_version(
        reference.body(
            (ChainChanges,),
            {"name": {"name": "release checklist, 2027"}, "open": {"governance": {"write_roles": ["MEMBER", "AGENT"]}}},
        )
    ),
)
async def change_chain(request: Request, visit: InVisit, chain_id: ChainId) -> Response:
    """What is not said stays. Governance is its maker's, and OWNERs', ADMINs' and SERVICE keys'."""
    given, _ = await screened_change(visit, parse(_CHANGES, await read_body(request, visit)))
    async with visit.transaction() as tx:
        await _held(tx, request, visit.project, chain_id)
        await store.change_chain(tx, project=visit.project, chain_id=chain_id, changes=given)
        answer = await _ordered(tx, visit.project, chain_id)
    await visit.room.bus.ring(subjects.BELL_CHANGES)
    return Response(answer, media_type=JSON)


@router.delete(
    "/v1/projects/{project}/chains/{chain_id}",
    operation_id="delete_chain",
    summary="End a chain",
    status_code=204,
    response_class=Response,
    responses=reference.problems(401, 403, 404, 412, 422, 503),
    openapi_extra=reference.on_version({}),
)
async def delete_chain(request: Request, visit: InVisit, chain_id: ChainId) -> Response:
    """By its maker, OWNERs, ADMINs and SERVICE keys; its memories stay."""
    async with visit.transaction() as tx:
        await _held(tx, request, visit.project, chain_id)
        if not await store.delete_chain(tx, project=visit.project, chain_id=chain_id):
            raise NotAllowed
    await visit.room.bus.ring(subjects.BELL_CHANGES)
    return Response(status_code=204)


@router.post(
    "/v1/projects/{project}/chains/{chain_id}/items",
    operation_id="add_chain_item",
    summary="Put a memory into a chain",
    response_model=OrderedChain,
    responses=_CHANGES_IT,
    openapi_extra=reference.on_version(
        reference.takes(
            (ChainAddition,),
            {
                "at the end": {"memory_id": _ONE},
                "first": {"memory_id": _ONE, "position": 1},
                "beside": {"memory_id": _ONE, "after": _OTHER},
            },
        )
    ),
)
async def add_chain_item(request: Request, visit: InVisit, chain_id: ChainId) -> Response:
    """At its end, at a position as you count, or directly before or behind another. One that is in it already: 409."""
    body = await read_body(request, visit)
    given = parse(_ADDITION, body)

    async def add(tx: Transaction) -> tuple[int, bytes]:
        await _held(tx, request, visit.project, chain_id)
        if not await store.readable(tx, project=visit.project, ids=[given.memory_id]):
            raise NotFound(errors=[FieldError("memory_id", "there is nothing here that you may see")])
        return 200, await _arranged(
            tx, visit.project, chain_id, lambda shown: domain.added(shown, given.memory_id, given)
        )

    answered = await once(visit, f"POST /v1/projects/{{project}}/chains/{chain_id}/items", body, add)
    if not answered.repeated:
        await visit.room.bus.ring(subjects.BELL_CHANGES)
    return answered.response()


@router.put(
    "/v1/projects/{project}/chains/{chain_id}/items",
    operation_id="reorder_chain",
    summary="Put a chain into another order",
    response_model=OrderedChain,
    responses=_CHANGES_IT,
    openapi_extra=reference.on_version(reference.body((ChainOrder,), {"two": {"memory_ids": [_OTHER, _ONE]}})),
)
async def reorder_chain(request: Request, visit: InVisit, chain_id: ChainId) -> Response:
    """All the memories that you see in it, in another order; more or fewer is 409.

    What you do not see stays directly behind what it followed.
    """
    given = parse(_ORDER, await read_body(request, visit))
    return await _change_items(request, visit, chain_id, lambda shown: domain.reordered(shown, given.memory_ids))


@router.patch(
    "/v1/projects/{project}/chains/{chain_id}/items/{memory_id}",
    operation_id="move_chain_item",
    summary="Move a memory within a chain",
    response_model=OrderedChain,
    responses=_CHANGES_IT,
    openapi_extra=reference.on_version(
        reference.body((ChainMove,), {"first": {"position": 1}, "beside": {"before": _OTHER}})
    ),
)
async def move_chain_item(request: Request, visit: InVisit, chain_id: ChainId, memory_id: MemoryId) -> Response:
    """To a position as you count, or directly before or behind another of its memories."""
    given = parse(_MOVE, await read_body(request, visit))
    return await _change_items(request, visit, chain_id, lambda shown: domain.moved(shown, memory_id, given))


@router.delete(
    "/v1/projects/{project}/chains/{chain_id}/items/{memory_id}",
    operation_id="remove_chain_item",
    summary="Take a memory out of a chain",
    response_model=OrderedChain,
    responses=reference.problems(401, 403, 404, 412, 422, 503),
    openapi_extra=reference.on_version({}),
)
async def remove_chain_item(request: Request, visit: InVisit, chain_id: ChainId, memory_id: MemoryId) -> Response:
    """Out of the chain; the memory itself stays."""
    return await _change_items(request, visit, chain_id, lambda shown: domain.removed(shown, memory_id))


Rearrange = Callable[[Sequence[UUID]], Sequence[UUID]]
"""What a chain is to show, from what it shows."""


async def _change_items(request: Request, visit: Visit, chain_id: UUID, rearrange: Rearrange) -> Response:
    async with visit.transaction() as tx:
        await _held(tx, request, visit.project, chain_id)
        answer = await _arranged(tx, visit.project, chain_id, rearrange)
    await visit.room.bus.ring(subjects.BELL_CHANGES)
    return Response(answer, media_type=JSON)


async def _held(tx: Transaction, request: Request, project: str, chain_id: UUID) -> None:
    """The chain is the caller's to change, in the version they mean. Raises NotFound, NotAllowed, VersionMismatch."""
    expected = expected_version(request)
    version = await store.hold_chain(tx, project=project, chain_id=chain_id)
    if expected is not None and expected != version:
        raise VersionMismatch


async def _arranged(tx: Transaction, project: str, chain_id: UUID, rearrange: Rearrange) -> bytes:
    shown = [one.memory_id for one in await store.read_members(tx, chain_id=chain_id)]
    wanted = rearrange(shown)
    if list(wanted) != shown:
        await store.arrange_chain(tx, chain_id=chain_id, shown=wanted)
    return await _ordered(tx, project, chain_id)


async def _ordered(tx: Transaction, project: str, chain_id: UUID) -> bytes:
    """The chain with the ids of its memories. Raises NotFound where the caller does not see it any more."""
    head = await store.read_chain(tx, project=project, chain_id=chain_id)
    if head is None:
        raise NotFound
    ids = [one.memory_id for one in await store.read_members(tx, chain_id=chain_id)]
    return _ORDERED.dump_json(OrderedChain.model_construct(**_fields(project, head), memory_ids=ids))


def _fields(project: str, head: ChainHead) -> dict[str, Any]:
    names = ("id", "name", "description", "governance", "version", "length", "created_by", "created_at", "updated_at")
    return {"project_id": project, **{name: getattr(head, name) for name in names}}


def _tag(version: int) -> dict[str, str]:
    return {"etag": f'"{version}"'}


def _wanted(fields: str | None) -> Any:
    """What of an answer is shown: everything, or of each memory its id and the fields named. Raises Invalid."""
    if fields is None:
        return None
    named = {one.strip() for one in fields.split(",")}
    if not named <= _FIELDS:
        raise Invalid(errors=[FieldError("fields", "must be names of a memory's fields, with commas between")])
    own: dict[str, Any] = dict.fromkeys(ChainReading.model_fields, True)
    item: dict[str, Any] = dict.fromkeys(ChainItem.model_fields, True)
    return {**own, "items": {"__all__": {**item, "memory": named | {"id"}}}}
