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
from memcube_common.errors import NotAllowed, NotFound
from memcube_common.memories.store import read_memories, set_governance
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InVisit
from memcube_gateway.routes.once import JSON

router = APIRouter(tags=["memories"])

_GOVERNANCE: Final = TypeAdapter(Governance)
_MEMORY: Final = TypeAdapter(Memory)


@router.put(
    "/v1/projects/{project}/memories/{memory_id}/governance",
    operation_id="set_governance",
    summary="State who may read, change and share a memory",
    response_model=Memory,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503),
    openapi_extra=reference.body(
        (Governance,), {"private": {"visibility": "private"}, "kept": {"ttl_days": None, "pin": True}}
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
        changed = await set_governance(
            tx, project=visit.project, memory_id=memory_id, governance=governance.model_dump_json()
        )
        memory = (await read_memories(tx, project=visit.project, ids=[memory_id])).get(memory_id)
        if not changed:
            raise NotFound if memory is None else NotAllowed
    await visit.room.bus.ring(subjects.BELL_CHANGES)
    if memory is None:  # whoever gave it away does not see it any more
        return Response(status_code=204)
    return Response(_MEMORY.dump_json(memory), media_type=JSON)
