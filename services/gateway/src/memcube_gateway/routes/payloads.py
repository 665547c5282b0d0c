"""The bytes of memories over HTTP: read in ranges, replaced, handed out by links."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts.api import Memory
from memcube_common.contracts.payloads import PayloadLink, PayloadLinkRequest
from memcube_common.errors import NotAllowed, NotFound, VersionMismatch
from memcube_common.memories.domain import Revision
from memcube_common.memories.revisions import update_memory
from memcube_common.objects import object_path
from memcube_common.security.grants import Grant
from memcube_gateway.arrivals import arrival_of
from memcube_gateway.credentials.domain import may_submit
from memcube_gateway.payloads.domain import Link
from memcube_gateway.payloads.receiving import reception_of, take_all
from memcube_gateway.payloads.sending import download
from memcube_gateway.payloads.store import find_payload, find_target
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.book import MemoryId, expected_version, ring, shown
from memcube_gateway.routes.door import InPublicVisit, InStrangerVisit, InVisit
from memcube_gateway.routes.once import JSON
from memcube_gateway.routes.screened import screened_payload

router = APIRouter(tags=["memories"])

_LINK_REQUEST: Final = TypeAdapter(PayloadLinkRequest)
_LINK: Final = TypeAdapter(PayloadLink)
_PATH: Final = "/v1/projects/{project}/memories/{memory_id}/payload"
_LINK_PATH: Final = "/v1/payloads/{token}"
_PURPOSE: Final = "payload-link"

_BYTES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The bytes: `text/plain` of PLAINTEXT memories, else `application/octet-stream`.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "text/plain": {"schema": {"type": "string"}},
        },
        "headers": {"ETag": {"description": "SHA-256 of the whole, in quotes.", "schema": {"type": "string"}}},
    },
    206: {
        "description": "The range that was asked for.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "text/plain": {"schema": {"type": "string"}},
        },
        "headers": {"Content-Range": {"description": "Which bytes these are.", "schema": {"type": "string"}}},
    },
    304: {"description": "The payload is the one that `If-None-Match` names."},
}
_RANGES: Final = {
    "parameters": [
        *reference.header(
            "Range", "One range, as `bytes=0-1023`; several are answered with the whole.", {"type": "string"}
        )["parameters"],
        *reference.header("If-Range", "The ETag that the range belongs to.", {"type": "string"})["parameters"],
        *reference.header("If-None-Match", "An ETag that is there already.", {"type": "string"})["parameters"],
    ]
}
Version = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="Number of a version; the one in force if absent.")
]
Token = Annotated[str, Path(max_length=4096, description="What the link was signed with.")]


@router.get(
    _PATH,
    operation_id="get_payload",
    summary="Read the bytes of a memory",
    response_class=Response,
    responses=_BYTES | reference.problems(401, 403, 404, 416, 422, 503),
    openapi_extra=_RANGES,
)
@router.head(_PATH, include_in_schema=False)
async def get_payload(request: Request, visit: InPublicVisit, memory_id: MemoryId, version: Version = None) -> Response:
    """Of every type, whole or a range. Each MiB of an object is checked against its SHA-256 before it is sent."""
    async with visit.transaction() as tx:
        lying = await find_payload(tx, project=visit.project, memory_id=memory_id, version=version)
    return await download(request, visit.room, visit.project, memory_id, lying)


@router.put(
    _PATH,
    operation_id="put_payload",
    summary="Replace the bytes of a memory: its next version",
    response_model=Memory,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 503)
    | {204: {"description": "Replaced, and by that out of your own sight."}},
    openapi_extra=reference.on_version(
        {
            "requestBody": {
                "required": True,
                "description": "PLAINTEXT: text in UTF-8, 64 KiB. ACTIVATION: 256 KiB. PARAMETER: 50 MiB.",
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            }
        }
    ),
)
async def put_payload(request: Request, visit: InVisit, memory_id: MemoryId) -> Response:
    """The body is the payload, whatever its Content-Type says; what was in force before is kept as a version."""
    expected = expected_version(request)
    if not may_submit(visit.caller.role):
        raise NotAllowed("Your role reads; memories are changed by others.")
    async with visit.transaction() as tx:
        type, version = await find_target(tx, project=visit.project, memory_id=memory_id)
    if expected is not None and version != expected:
        raise VersionMismatch
    async with reception_of(request, visit, memory_id, type) as reception:
        received, kinds = await screened_payload(visit, await take_all(request, visit, reception))
        revision = Revision(payload=received.payload, words=received.text)
        async with visit.transaction() as tx:
            memory = await update_memory(
                tx, project=visit.project, memory_id=memory_id, revision=revision, expected=expected, kinds=kinds
            )
    await ring(visit)
    return shown(memory)


@router.post(
    f"{_PATH}/url",
    operation_id="link_payload",
    summary="A link to the bytes of a memory that needs no credential",
    response_model=PayloadLink,
    responses=reference.problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes((PayloadLinkRequest,), {"five minutes": {}, "a minute": {"expires_in": 60}}),
)
async def link_payload(request: Request, visit: InVisit, memory_id: MemoryId) -> Response:
    """To the payload in force now, for a while; also what is put in force later does not change what it gives.

    Where the payload lies in a bucket it is the bucket's own signed URL, which nothing but time ends. Else it is the
    gateway's, and ends with the credential it was made by. Asking changes nothing: an Idempotency-Key is accepted and
    not needed.
    """
    asked = parse(_LINK_REQUEST, await read_body(request, visit))
    async with visit.transaction() as tx:
        lying = await find_payload(tx, project=visit.project, memory_id=memory_id, version=None)
    expires_at = visit.room.clock().replace(microsecond=0) + timedelta(seconds=asked.expires_in)
    url = None
    if lying.key is not None:
        path = object_path(visit.project, lying.key)
        url = await visit.room.objects.sign(path, expires_in=timedelta(seconds=asked.expires_in))
    if url is None:
        token = visit.room.signer(_PURPOSE).sign(_link(visit, memory_id, lying.version, expires_at).packed())
        scheme = "https" if arrival_of(request.scope).https else "http"
        url = f"{scheme}://{request.url.netloc}{_LINK_PATH.format(token=token)}"
    link = PayloadLink.model_construct(url=url, expires_at=expires_at, size_bytes=lying.size, checksum=lying.checksum)
    return Response(_LINK.dump_json(link), media_type=JSON)


@router.get(
    _LINK_PATH,
    operation_id="follow_payload_link",
    summary="Read the bytes of a memory by a link",
    response_class=Response,
    responses=_BYTES | reference.problems(404, 416, 422, 503),
    openapi_extra=_RANGES | {"security": []},
)
@router.head(_LINK_PATH, include_in_schema=False)
async def follow_payload_link(request: Request, visit: InStrangerVisit, token: Token) -> Response:
    """What the link was made for, to whoever has it: 404 once it is over, changed, or its maker may not read it."""
    packed = visit.room.signer(_PURPOSE).open(token)
    if packed is None:
        raise NotFound
    link = Link.unpacked(packed)
    if link.expires_at <= visit.room.clock() or link.grant not in await visit.room.door.still_valid([link.grant]):
        raise NotFound
    project = link.grant.project
    arrival_of(request.scope).admit(credential=link.grant.credential, project=project)
    async with visit.patience.transaction(visit.room.db, link.principal(visit.address)) as tx:
        lying = await find_payload(tx, project=project, memory_id=link.memory_id, version=link.version)
    return await download(request, visit.room, project, link.memory_id, lying)


def _link(visit: InVisit, memory_id: UUID, version: int, expires_at: datetime) -> Link:
    caller = visit.caller
    if caller.role == "":
        raise NotFound
    grant = Grant(visit.project, caller.handle, caller.role, caller.credential, caller.expires_at)
    return Link(memory_id, version, grant, caller.account, expires_at)
