"""A project: what it is, and how much it holds."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fastapi import APIRouter
from pydantic import Field, TypeAdapter
from starlette.responses import Response

from memcube_common.contracts.api import Answer
from memcube_common.errors import NotFound
from memcube_gateway import store
from memcube_gateway.routes import reference
from memcube_gateway.routes.door import InVisit
from memcube_gateway.routes.once import JSON

router = APIRouter(tags=["projects"])


class ProjectAnswer(Answer):
    """A project and how many memories it holds."""

    id: str
    language: str = Field(description="Text search configuration its memories are indexed with.")
    created_at: datetime
    memories: int
    searchable: int = Field(description="Memories that are found by meaning.")
    pending: int = Field(description="Memories that wait for their vector.")
    failed: int = Field(description="Memories that will not get a vector.")


_PROJECT: Final = TypeAdapter(ProjectAnswer)


@router.get(
    "/v1/projects/{project}",
    operation_id="get_project",
    summary="Read a project",
    response_model=ProjectAnswer,
    responses=reference.problems(401, 404, 422, 503),
)
async def get_project(visit: InVisit) -> Response:
    """The project with its counts, taken now."""
    async with visit.transaction() as tx:
        held = await store.count_holdings(tx, project=visit.project)
    if held is None:
        raise NotFound
    answer = ProjectAnswer.model_construct(
        id=held.id,
        language=held.language,
        created_at=held.created_at,
        memories=held.memories,
        searchable=held.searchable,
        pending=held.pending,
        failed=held.failed,
    )
    return Response(_PROJECT.dump_json(answer), media_type=JSON)
