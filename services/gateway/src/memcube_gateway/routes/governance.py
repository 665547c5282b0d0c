"""Governance over HTTP: who may read, change and share a memory, stated anew."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts import subjects
from memcube_common.contracts.api import Memory
from memcube_common.contracts.fields import Governance
from memcube_common.memories.domain import Revision
from memcube_common.memories.revisions import update_memory
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.book import expected_version, shown
from memcube_gateway.routes.door import InVisit

router = APIRouter(tags=["memories"])

_GOVERNANCE: Final = TypeAdapter(Governance)


@router.put(
    "/v1/projects/{project}/memories/{memory_id}/governance",
    operation_id="set_governance",
    summary="State who may read, change and share a memory",
    response_model=Memory,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 429, 503),
    openapi_extra=reference.on_version(
        reference.body((Governance,), {"private": {"visibility": "private"}, "kept": {"ttl_days": None, "pin": True}})
    ),
)
async def put_governance(
    request: Request, visit: InVisit, memory_id: Annotated[UUID, Path(description="Id of the memory.")]
) -> Response:
    """The whole of it: what is not said takes its default. Answers the memory with the governance that applies.

    Its creator may, and OWNER, ADMIN and SERVICE; a legal hold, a PII mark and the end of a freeze only the latter.
    Where a memory was derived from others, what applies is the strictest union with theirs; what was derived from
    this one is judged again in the same transaction.
    """
    governance = parse(_GOVERNANCE, await read_body(request, visit))
    async with visit.transaction() as tx:
        memory = await update_memory(
            tx,
            project=visit.project,
            memory_id=memory_id,
            revision=Revision(governance=governance.model_dump_json()),
            expected=expected_version(request),
        )
    await visit.room.bus.ring(subjects.BELL_CHANGES)
    return shown(memory)
