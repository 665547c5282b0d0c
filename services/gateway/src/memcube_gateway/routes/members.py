"""Who is in a project: members, invitations, roles, and what happened to them."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts.identity import (
    MadeInvitation,
    Member,
    Members,
    NewInvitation,
    ProjectEvents,
    RoleChange,
)
from memcube_common.errors import NotAllowed, NotFound
from memcube_common.ids import AGENT_PATTERN, new_id
from memcube_common.security.refresh import INVITATION, new_bearer
from memcube_gateway.credentials import store
from memcube_gateway.credentials.domain import manages
from memcube_gateway.routes import reference
from memcube_gateway.routes.auth import NO_STORE
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InMemberVisit, InOwnerVisit, InVisit
from memcube_gateway.routes.once import JSON

router = APIRouter(tags=["members"])

_INVITE: Final = TypeAdapter(NewInvitation)
_CHANGE: Final = TypeAdapter(RoleChange)
_MEMBER: Final = TypeAdapter(Member)
_MEMBERS: Final = TypeAdapter(Members)
_MADE: Final = TypeAdapter(MadeInvitation)
_EVENTS: Final = TypeAdapter(ProjectEvents)
_ABOVE: Final = "Your role does not reach this one."

Handle = Annotated[str, Path(description="A member's name in the project.", pattern=AGENT_PATTERN)]


@router.get(
    "/v1/projects/{project}/members",
    operation_id="list_members",
    summary="Who is in a project",
    response_model=Members,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_members(visit: InVisit) -> Response:
    """Every member sees every member; open invitations are shown to OWNERs and ADMINs."""
    async with visit.transaction() as tx:
        answer = Members.model_construct(
            members=await store.list_members(tx, project=visit.project),
            invitations=await store.list_invitations(tx, project=visit.project),
        )
    return Response(_MEMBERS.dump_json(answer), media_type=JSON)


@router.post(
    "/v1/projects/{project}/members",
    operation_id="invite_member",
    summary="Invite somebody under a handle, with a role",
    status_code=201,
    response_model=MadeInvitation,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.shows_once((NewInvitation,), {"ada": {"handle": "ada", "role": "MEMBER"}}),
)
async def invite_member(request: Request, visit: InOwnerVisit) -> Response:
    """An invitation to hand over: its token is shown this once, valid once, for seven days.

    It takes the place of an earlier open one for the same handle. A handle is who somebody is inside the project: what
    they make is theirs under it, and governance names them by it. An OWNER invites anybody, an ADMIN those below.
    """
    given = parse(_INVITE, await read_body(request, visit))
    if not manages(visit.caller.role, given.role):
        raise NotAllowed(_ABOVE)
    made = new_id()
    token = new_bearer(INVITATION, made)
    async with visit.managing() as tx:
        expires = await store.invite(
            tx, project=visit.project, invitation=made, hashed=token.hash, role=given.role, handle=given.handle
        )
    answer = MadeInvitation.model_construct(
        id=made, handle=given.handle, role=given.role, token=token.text, expires_at=expires
    )
    return Response(_MADE.dump_json(answer), 201, NO_STORE, JSON)


@router.patch(
    "/v1/projects/{project}/members/{handle}",
    operation_id="change_member",
    summary="Change a member's role",
    response_model=Member,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.body((RoleChange,), {"admin": {"role": "ADMIN"}}),
)
async def change_member(request: Request, visit: InOwnerVisit, handle: Handle) -> Response:
    """An OWNER gives and takes every role, an ADMIN those below ADMIN; a project keeps at least one OWNER."""
    given = parse(_CHANGE, await read_body(request, visit))
    async with visit.managing() as tx:
        role = await store.find_member(tx, project=visit.project, handle=handle)
        if role is None:
            raise NotFound
        if not manages(visit.caller.role, role) or not manages(visit.caller.role, given.role):
            raise NotAllowed(_ABOVE)
        member = await store.change_role(tx, project=visit.project, handle=handle, role=given.role)
    if member is None:
        raise NotFound
    return Response(_MEMBER.dump_json(member), media_type=JSON)


@router.delete(
    "/v1/projects/{project}/members/{handle}",
    operation_id="remove_member",
    summary="Take a member out of a project, leave it, or withdraw an invitation",
    status_code=204,
    response_class=Response,
    responses=reference.problems(401, 403, 404, 409, 422, 503),
)
async def remove_member(visit: InMemberVisit, handle: Handle) -> Response:
    """What they made stays, keys too; their open invitations end. Everybody may leave; a project keeps one OWNER."""
    async with visit.managing() as tx:
        role = await store.find_member(tx, project=visit.project, handle=handle)
        if role is None:
            gone = await store.withdraw_invitation(tx, project=visit.project, handle=handle)
        else:
            if handle != visit.caller.handle and not manages(visit.caller.role, role):
                raise NotAllowed(_ABOVE)
            gone = await store.remove_member(tx, project=visit.project, handle=handle)
    if not gone:
        raise NotFound
    return Response(status_code=204)


@router.get(
    "/v1/projects/{project}/events",
    operation_id="list_project_events",
    summary="What happened to a project: members, invitations, keys, quotas",
    response_model=ProjectEvents,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_project_events(
    visit: InOwnerVisit,
    before: Annotated[UUID | None, Query(description="Only what happened before this event.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Events at most.")] = 50,
) -> Response:
    """Newest first, for OWNERs and ADMINs; nobody can change or delete an event."""
    async with visit.transaction() as tx:
        events = await store.read_events(tx, project=visit.project, before=before, at_most=limit)
    return Response(_EVENTS.dump_json(ProjectEvents.model_construct(events=list(events))), media_type=JSON)
