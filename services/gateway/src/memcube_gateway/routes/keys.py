"""The keys of a project: made and shown once, listed without their secrets, revoked."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts.identity import Keys, MadeKey, NewKey
from memcube_common.errors import FieldError, Invalid, NotAllowed, NotFound
from memcube_common.ids import new_id
from memcube_common.security.keys import key_hash, key_prefix, new_key
from memcube_gateway.credentials import store
from memcube_gateway.credentials.domain import may_give_key
from memcube_gateway.routes import reference
from memcube_gateway.routes.auth import NO_STORE
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InOwnerVisit
from memcube_gateway.routes.once import JSON

router = APIRouter(tags=["keys"])

_NEW: Final = TypeAdapter(NewKey)
_KEYS: Final = TypeAdapter(Keys)
_MADE: Final = TypeAdapter(MadeKey)


@router.get(
    "/v1/projects/{project}/keys",
    operation_id="list_keys",
    summary="The keys of a project",
    response_model=Keys,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_keys(visit: InOwnerVisit) -> Response:
    """Newest first, revoked ones too; what a key begins with tells which it is."""
    async with visit.transaction() as tx:
        keys = await store.list_keys(tx, project=visit.project)
    return Response(_KEYS.dump_json(Keys.model_construct(keys=keys)), media_type=JSON)


@router.post(
    "/v1/projects/{project}/keys",
    operation_id="make_key",
    summary="Make a key",
    status_code=201,
    response_model=MadeKey,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.shows_once(
        (NewKey,),
        {
            "secret": {"name": "importer", "role": "SERVICE"},
            "publishable": {"name": "website", "kind": "publishable"},
        },
    ),
)
async def make_key(request: Request, visit: InOwnerVisit) -> Response:
    """The key is shown this once. Its role is at most its maker's, and no key manages members or keys.

    Its name is who it is in the project: keys of one name are one principal, so that a key can be replaced. A
    publishable key reads what is public and may stand in a web page.
    """
    given = parse(_NEW, await read_body(request, visit))
    role = "PUBLIC" if given.kind == "publishable" else given.role or "SERVICE"
    if not may_give_key(visit.caller.role, role):
        raise NotAllowed("A key's role is at most its maker's.")
    if given.expires_at is not None and given.expires_at <= visit.room.clock():
        raise Invalid(errors=[FieldError("expires_at", "must be in the future")])
    key, made = new_key(given.kind), new_id()
    async with visit.managing() as tx:
        created = await store.insert_key(
            tx,
            project=visit.project,
            key=made,
            name=given.name,
            role=role,
            kind=given.kind,
            prefix=key_prefix(key),
            hashed=key_hash(key),
            expires_at=given.expires_at,
        )
    answer = MadeKey.model_construct(
        id=made,
        name=given.name,
        kind=given.kind,
        role=role,
        prefix=key_prefix(key),
        created_by=visit.caller.handle,
        created_at=created,
        last_used_at=None,
        expires_at=given.expires_at,
        revoked_at=None,
        key=key,
    )
    return Response(_MADE.dump_json(answer), 201, NO_STORE, JSON)


@router.delete(
    "/v1/projects/{project}/keys/{key_id}",
    operation_id="revoke_key",
    summary="Revoke a key",
    status_code=204,
    response_class=Response,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def revoke_key(visit: InOwnerVisit, key_id: Annotated[UUID, Path(description="Id of the key.")]) -> Response:
    """It opens nothing any more within five seconds, at every gateway and on the bus."""
    async with visit.managing() as tx:
        role = await store.find_key_role(tx, project=visit.project, key=key_id)
        if role is None:
            raise NotFound
        if not may_give_key(visit.caller.role, role):
            raise NotAllowed("This key's role is above yours.")
        await store.revoke_key(tx, project=visit.project, key=key_id)
    return Response(status_code=204)
