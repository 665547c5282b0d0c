"""Accounts: joining by an invitation, who one is, and which projects one is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts.identity import AccountAnswer, Joining, Membership, NewAccount
from memcube_common.errors import NotSignedIn
from memcube_common.security.principal import Principal
from memcube_gateway.credentials import store
from memcube_gateway.patience import Patience
from memcube_gateway.room import Room
from memcube_gateway.routes import reference
from memcube_gateway.routes.auth import NO_STORE
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InAccountVisit, InStrangerVisit
from memcube_gateway.routes.once import JSON

if TYPE_CHECKING:
    from uuid import UUID

router = APIRouter(tags=["accounts"])

_NEW: Final = TypeAdapter(NewAccount)
_JOINING: Final = TypeAdapter(Joining)
_ACCOUNT: Final = TypeAdapter(AccountAnswer)
_MEMBERSHIP: Final = TypeAdapter(Membership)


@router.post(
    "/v1/accounts",
    operation_id="make_account",
    summary="Join a project by an invitation, with a new account or one's own",
    status_code=201,
    response_model=AccountAnswer,
    responses={200: {"model": AccountAnswer, "description": "The e-mail had an account, which joined."}}
    | reference.problems(400, 401, 404, 408, 409, 413, 415, 422, 429, 503),
    openapi_extra=reference.shows_once(
        (NewAccount,),
        {
            "ada": {
                "email": "ada@example.org",
                "name": "Ada",
                "password": "correct horse battery staple",
                "invitation": "mc_inv_…",
            }
        },
        is_open=True,
    ),
)
async def make_account(request: Request, visit: InStrangerVisit) -> Response:
    """201 for a new account. Where the e-mail has one, its password proves it and it joins, unchanged: 200."""
    given = parse(_NEW, await read_body(request, visit))
    account, how = await visit.room.desk.make_account(
        email=given.email,
        name=given.name,
        password=given.password.get_secret_value(),
        invitation=given.invitation.get_secret_value(),
        patience=visit.patience,
        address=visit.network,
    )
    answer = await _read(visit.room, account, visit.patience)
    return Response(_ACCOUNT.dump_json(answer), 201 if how == "created" else 200, NO_STORE, JSON)


@router.get(
    "/v1/accounts/me",
    operation_id="get_account",
    summary="Who one is, and in which projects",
    response_model=AccountAnswer,
    responses=reference.problems(401, 503),
)
async def get_account(visit: InAccountVisit) -> Response:
    """The account that is signed in."""
    answer = await _read(visit.room, visit.holder.account, visit.patience)
    return Response(_ACCOUNT.dump_json(answer), media_type=JSON)


@router.post(
    "/v1/accounts/me/memberships",
    operation_id="join_project",
    summary="Join a project by an invitation",
    status_code=201,
    response_model=Membership,
    responses=reference.problems(400, 401, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.shows_once((Joining,), {"join": {"invitation": "mc_inv_…"}}),
)
async def join_project(request: Request, visit: InAccountVisit) -> Response:
    """An invitation is used up by it."""
    given = parse(_JOINING, await read_body(request, visit))
    joined = await visit.room.desk.join(
        visit.holder.account,
        invitation=given.invitation.get_secret_value(),
        patience=visit.patience,
        address=visit.address,
    )
    answer = Membership.model_construct(
        project=joined.project, handle=joined.handle, role=joined.role, joined_at=visit.room.clock()
    )
    return Response(_MEMBERSHIP.dump_json(answer), 201, NO_STORE, JSON)


async def _read(room: Room, account: UUID, patience: Patience) -> AccountAnswer:
    async with patience.transaction(room.db, Principal.doorkeeper(account=account)) as tx:
        answer = await store.read_account(tx, account=account)
    if answer is None:
        raise NotSignedIn
    return answer
