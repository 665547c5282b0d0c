"""The past of a memory over HTTP: versions, what differs between them, the audit trail, lineage."""

from __future__ import annotations

from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts.api import Memory
from memcube_common.contracts.book import Lineage, MemoryChange, Trail, VersionContent, VersionDiff, Versions
from memcube_common.db import Transaction
from memcube_common.errors import NotAllowed
from memcube_common.governance.domain import PRIVILEGED
from memcube_common.memories.domain import Revision, pack
from memcube_common.memories.history import (
    STEPS_MAX,
    compare,
    read_lineage,
    read_trail,
    read_version,
    read_versions,
)
from memcube_common.memories.revisions import update_memory
from memcube_gateway.routes import reference
from memcube_gateway.routes.book import MemoryId, as_version, expected_version, meant_for, ring
from memcube_gateway.routes.door import InVisit
from memcube_gateway.routes.once import JSON, once
from memcube_gateway.routes.screened import screened_change

router = APIRouter(tags=["memories"])

_VERSIONS: Final = TypeAdapter(Versions)
_CONTENT: Final = TypeAdapter(VersionContent)
_DIFF: Final = TypeAdapter(VersionDiff)
_TRAIL: Final = TypeAdapter(Trail)
_LINEAGE: Final = TypeAdapter(Lineage)
_MEMORY: Final = TypeAdapter(Memory)

_RESTORED: Final = ("label", "tags", "metadata", "priority", "kv_hint")
_NUMBER_MAX: Final = 2**31 - 1
_SEQ_MAX: Final = 2**63 - 1
VersionNumber = Annotated[int, Path(ge=1, le=_NUMBER_MAX, description="Number of the version, from 1.")]
Page = Annotated[int, Query(ge=1, le=200, description="At most so many.")]


@router.get(
    "/v1/projects/{project}/memories/{memory_id}/versions",
    operation_id="list_versions",
    summary="Every version of a memory",
    response_model=Versions,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_versions(
    visit: InVisit,
    memory_id: MemoryId,
    before: Annotated[int | None, Query(ge=1, le=_NUMBER_MAX, description="Only versions below this one.")] = None,
    limit: Page = 50,
) -> Response:
    """Newest first: who made it, when, and what it changed."""
    async with visit.transaction() as tx:
        versions = await read_versions(tx, project=visit.project, memory_id=memory_id, below=before, limit=limit)
    last = versions[-1].version if versions else 1
    page = Versions.model_construct(versions=versions, next_before=last if last > 1 else None)
    return Response(_VERSIONS.dump_json(page), media_type=JSON)


@router.get(
    "/v1/projects/{project}/memories/{memory_id}/versions/{version}",
    operation_id="get_version",
    summary="Read one version of a memory",
    response_model=VersionContent,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def get_version(visit: InVisit, memory_id: MemoryId, version: VersionNumber) -> Response:
    """As it was, with its content. Whoever may read the memory now may read what it was."""
    async with visit.transaction() as tx:
        told = await read_version(tx, project=visit.project, memory_id=memory_id, version=version)
    shown = VersionContent.model_construct(**dict(told.version), content=told.text)
    return Response(_CONTENT.dump_json(shown), media_type=JSON)


@router.get(
    "/v1/projects/{project}/memories/{memory_id}/diff",
    operation_id="compare_versions",
    summary="What differs between two versions",
    response_model=VersionDiff,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def compare_versions(
    visit: InVisit,
    memory_id: MemoryId,
    before: Annotated[int, Query(ge=1, le=_NUMBER_MAX, description="The one version.")],
    after: Annotated[int, Query(ge=1, le=_NUMBER_MAX, description="The other version.")],
) -> Response:
    """Field by field, from `before` to `after`; of text, a unified diff of its lines."""
    async with visit.transaction() as tx:
        one = await read_version(tx, project=visit.project, memory_id=memory_id, version=before)
        other = await read_version(tx, project=visit.project, memory_id=memory_id, version=after)
    diff = VersionDiff.model_construct(memory_id=memory_id, before=before, after=after, changes=compare(one, other))
    return Response(_DIFF.dump_json(diff), media_type=JSON)


@router.post(
    "/v1/projects/{project}/memories/{memory_id}/versions/{version}/restore",
    operation_id="restore_version",
    summary="Put an earlier version in force again",
    response_model=Memory,
    responses=reference.problems(401, 403, 404, 409, 412, 422, 503)
    | {204: {"description": "Done, and by that out of your own sight."}},
    openapi_extra=reference.on_version(reference.without_body()),
)
async def restore_version(request: Request, visit: InVisit, memory_id: MemoryId, version: VersionNumber) -> Response:
    """As a new version with its label, tags, metadata, priority, hint and content.

    Governance and lifecycle stay as they are: who may read it today is not decided by what it once said.
    """
    expected = expected_version(request)
    await visit.settings()  # known before the transaction begins

    async def restore(tx: Transaction) -> tuple[int, bytes]:
        told = await read_version(tx, project=visit.project, memory_id=memory_id, version=version)
        then = MemoryChange.model_construct(content=told.text, **{f: getattr(told.version, f) for f in _RESTORED})
        said, kinds = await screened_change(visit, then)  # what was stored before the project asked for it
        revision = Revision(
            label=said.label,
            tags=tuple(said.tags or ()),
            metadata=orjson.dumps(said.metadata).decode(),
            priority=said.priority,
            kv_hint=said.kv_hint or "",
            payload=told.payload if said.content == told.text else pack(said.content or ""),
            words=said.content or "",
        )
        memory = await update_memory(
            tx,
            project=visit.project,
            memory_id=memory_id,
            revision=revision,
            expected=expected,
            arrived=False,
            kinds=kinds,
        )
        return (204, b"") if memory is None else (200, _MEMORY.dump_json(memory))

    route = "POST /v1/projects/{project}/memories/{memory_id}/versions/{version}/restore"
    answered = await once(visit, route, meant_for(memory_id, expected, version), restore, about=memory_id)
    if not answered.repeated:
        await ring(visit)
    return as_version(answered)


@router.get(
    "/v1/projects/{project}/memories/{memory_id}/events",
    operation_id="list_memory_events",
    summary="What happened to a memory",
    response_model=Trail,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_memory_events(
    visit: InVisit,
    memory_id: MemoryId,
    before: Annotated[int | None, Query(ge=1, le=_SEQ_MAX, description="Only events below this number.")] = None,
    limit: Page = 50,
) -> Response:
    """The audit trail, newest first, also of a memory that was purged: for OWNER, ADMIN and SERVICE."""
    if visit.caller.role not in PRIVILEGED:
        raise NotAllowed("The audit trail is for OWNERs, ADMINs and SERVICE keys.")
    async with visit.transaction() as tx:
        events = await read_trail(tx, project=visit.project, memory_id=memory_id, before=before, limit=limit + 1)
    more = events[limit - 1].seq if len(events) > limit else None
    return Response(_TRAIL.dump_json(Trail.model_construct(events=events[:limit], next_before=more)), media_type=JSON)


@router.get(
    "/v1/projects/{project}/memories/{memory_id}/lineage",
    operation_id="get_lineage",
    summary="Where a memory comes from, and what came of it",
    response_model=Lineage,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def get_lineage(
    visit: InVisit,
    memory_id: MemoryId,
    steps: Annotated[int, Query(ge=1, le=STEPS_MAX, description="How far to look.")] = STEPS_MAX,
) -> Response:
    """Over memories you may read: what you may not read ends a line."""
    async with visit.transaction() as tx:
        lineage = await read_lineage(tx, project=visit.project, memory_id=memory_id, steps=steps)
    return Response(_LINEAGE.dump_json(lineage), media_type=JSON)
