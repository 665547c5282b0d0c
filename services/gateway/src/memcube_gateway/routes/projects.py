"""Projects: made, listed, how much each holds, and what is decided about what is written into it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fastapi import APIRouter
from pydantic import Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts.api import Answer
from memcube_common.contracts.fields import Screening
from memcube_common.contracts.identity import MadeProject, Memberships, NewProject, ProjectChanges
from memcube_common.errors import Conflict, FieldError, Invalid, NotAllowed, NotFound
from memcube_common.projects.store import set_settings
from memcube_common.security.principal import Principal
from memcube_gateway import store
from memcube_gateway.credentials import store as credentials
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InAccountVisit, InOwnerVisit, InVisit
from memcube_gateway.routes.once import JSON

router = APIRouter(tags=["projects"])


class ProjectAnswer(Answer):
    """A project and how many memories it holds."""

    id: str
    language: str = Field(description="Text search configuration its memories are indexed with.")
    created_at: datetime
    screening: Screening = Field(description="What becomes of personal data and secrets in new text.")
    near_duplicates: float | None = Field(
        description="Cosine similarity from which a new insight supports the memory there is; null is off."
    )
    memories: int
    searchable: int = Field(description="Memories that are found by meaning.")
    pending: int = Field(description="Memories that wait for their vector.")
    failed: int = Field(description="Memories that will not get a vector.")


_PROJECT: Final = TypeAdapter(ProjectAnswer)
_NEW: Final = TypeAdapter(NewProject)
_CHANGES: Final = TypeAdapter(ProjectChanges)
_MADE: Final = TypeAdapter(MadeProject)
_MINE: Final = TypeAdapter(Memberships)


@router.get(
    "/v1/projects",
    operation_id="list_projects",
    summary="The projects one is in",
    response_model=Memberships,
    responses=reference.problems(401, 503),
)
async def list_projects(visit: InAccountVisit) -> Response:
    """By name, with the handle and role one has in each."""
    async with visit.patience.transaction(visit.room.db, Principal.doorkeeper(account=visit.holder.account)) as tx:
        mine = await credentials.list_memberships(tx, account=visit.holder.account)
    return Response(_MINE.dump_json(Memberships.model_construct(projects=mine)), media_type=JSON)


@router.post(
    "/v1/projects",
    operation_id="make_project",
    summary="Make a project and be its owner",
    status_code=201,
    response_model=MadeProject,
    responses=reference.problems(400, 401, 403, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.body((NewProject,), {"one": {"id": "garden", "language": "english"}})
    | reference.header(
        "Idempotency-Key",
        "Accepted and not kept: a repeat is answered 409, and the project is there.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
    ),
)
async def make_project(request: Request, visit: InAccountVisit) -> Response:
    """For accounts that may; 409 where there is one of this name, which others are not told."""
    given = parse(_NEW, await read_body(request, visit))
    account = visit.holder.account
    keeper = Principal.doorkeeper(account=account, project=given.id, source=visit.holder.source)
    async with visit.patience.transaction(visit.room.db, keeper) as tx:
        me = await credentials.read_account(tx, account=account)
        if me is None or not me.may_create_projects:
            raise NotAllowed("This account may not make projects.")
        if not await credentials.is_language(tx, language=given.language):
            raise Invalid(errors=[FieldError("language", "is no text search configuration here")])
        made = await credentials.make_project(
            tx, account=account, project=given.id, language=given.language, handle=given.handle
        )
    if made is None:
        raise Conflict("There is a project of this name.")
    answer = MadeProject.model_construct(
        id=given.id, language=given.language, created_at=made, handle=given.handle, role="OWNER"
    )
    return Response(_MADE.dump_json(answer), 201, media_type=JSON)


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
    return _answer(held)


@router.patch(
    "/v1/projects/{project}",
    operation_id="set_project",
    summary="Set what is decided about what is written into a project",
    response_model=ProjectAnswer,
    responses=reference.problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.body(
        (ProjectChanges,),
        {"redact": {"screening": "redact"}, "merge": {"near_duplicates": 0.95}, "neither": {"screening": "off"}},
    ),
)
async def set_project(request: Request, visit: InOwnerVisit) -> Response:
    """What is not sent stays. For OWNERs and ADMINs with an account: a key that leaked must not turn screening off.

    Holds for what is written from now on, at every gateway within three seconds; what is there stays as it is. The
    change stands in the project's events.
    """
    given = parse(_CHANGES, await read_body(request, visit))
    async with visit.managing() as tx:
        await set_settings(
            tx,
            project=visit.project,
            screening=given.screening if "screening" in given.model_fields_set else None,
            near_duplicates=given.near_duplicates,
            forget_near_duplicates="near_duplicates" in given.model_fields_set,
        )
        held = await store.count_holdings(tx, project=visit.project)
    visit.room.decisions.forget(visit.project)
    return _answer(held)


def _answer(held: store.Holdings | None) -> Response:
    """A project as it is told. Raises NotFound where there is none."""
    if held is None:
        raise NotFound
    answer = ProjectAnswer.model_construct(
        id=held.id,
        language=held.language,
        created_at=held.created_at,
        screening=held.screening,
        near_duplicates=held.near_duplicates,
        memories=held.memories,
        searchable=held.searchable,
        pending=held.pending,
        failed=held.failed,
    )
    return Response(_PROJECT.dump_json(answer), media_type=JSON)
