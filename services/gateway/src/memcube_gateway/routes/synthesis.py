"""Synthesis over HTTP: several memories put into one, which is governed at least as strictly as each of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import orjson
from fastapi import APIRouter
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts import subjects
from memcube_common.contracts.api import Memory
from memcube_common.contracts.fields import checked_json, governance_json
from memcube_common.contracts.links import SynthesisRequest
from memcube_common.db import Transaction
from memcube_common.errors import Conflict, FieldError, Invalid, NotAllowed
from memcube_common.ids import new_id
from memcube_common.links.store import hold_sources
from memcube_common.memories.domain import NewMemory, label_from
from memcube_common.memories.store import insert_memories, read_memories
from memcube_common.quotas.store import take
from memcube_common.screening import marked
from memcube_common.synthesis.drafting import Draft, Source, draft
from memcube_gateway import domain
from memcube_gateway.credentials.domain import may_hold, may_submit
from memcube_gateway.patience import Patience
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InVisit, Visit
from memcube_gateway.routes.once import Answered, answered_before, once
from memcube_gateway.routes.screened import screened, screened_text
from memcube_gateway.together import need_of

router = APIRouter(tags=["memories"])

_REQUEST: Final = TypeAdapter(SynthesisRequest)
_MEMORY: Final = TypeAdapter(Memory)
_ROUTE: Final = "POST /v1/projects/{project}/memories/synthesize"
_TRIES: Final = 2


class _Changed(Conflict):
    """A source was changed while it was read: try again."""


@router.post(
    "/v1/projects/{project}/memories/synthesize",
    operation_id="synthesize_memories",
    summary="Put several memories into one",
    status_code=201,
    response_model=Memory,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (SynthesisRequest,),
        {
            "by their own sentences": {
                "memory_ids": ["019a5f00-0000-7000-8000-0000000000b2", "019a5f00-0000-7000-8000-0000000000b3"],
                "method": "extractive",
            },
            "as asked": {
                "memory_ids": ["019a5f00-0000-7000-8000-0000000000b2", "019a5f00-0000-7000-8000-0000000000b3"],
                "instructions": "What a new colleague has to know.",
                "max_tokens": 200,
            },
        },
    ),
)
async def synthesize_memories(request: Request, visit: InVisit) -> Response:
    """A new memory whose parents they are, in this order; who may read it is the strictest union of theirs and its own.

    `metadata.synthesis` says how it was made, by which model, out of how many, and `why` not by the model where it was
    wanted. Sources are memories of text that you may read, else 422 names their places; what is marked confidential is
    never sent to a language model. The same Idempotency-Key asks the model once.
    """
    body = await read_body(request, visit)
    given = parse(_REQUEST, body)
    if not may_submit(visit.caller.role):
        raise NotAllowed("Your role reads; memories are made by others.")
    if given.governance is not None and given.governance.legal_hold and not may_hold(visit.caller.role):
        raise NotAllowed("A legal hold is for OWNERs, ADMINs and SERVICE keys.")
    given = await screened(visit, given)
    answered = await answered_before(visit, _ROUTE, body)
    for left in reversed(range(_TRIES if answered is None else 0)):
        try:
            answered = await _synthesize(visit, given, body)
            break
        except _Changed:
            if not left:
                raise
    assert answered is not None
    identity = str(orjson.loads(answered.body)["id"])
    return answered.response({"location": f"/v1/projects/{visit.project}/memories/{identity}", "etag": '"1"'})


async def _synthesize(visit: Visit, given: SynthesisRequest, body: bytes) -> Answered:
    """Read, put together outside any transaction, keep. Raises _Changed where a source changed meanwhile."""
    async with visit.transaction() as tx:
        sources = _all_there(given.memory_ids, await read_memories(tx, project=visit.project, ids=given.memory_ids))
    made = await draft(
        [Source(one.content or "", one.governance.sensitivity == "confidential") for one in sources],
        method=given.method,
        instructions=given.instructions,
        max_tokens=given.max_tokens,
        language=visit.room.language,
    )
    if visit.room.language is not None and given.method != "extractive":  # it may have been waited for
        visit = await _again(visit)
    text, kinds = await screened_text(visit, made.text)
    memory = _new_memory(visit, given, replace(made, text=text), kinds)
    versions = {one.id: one.version for one in sources}

    async def keep(tx: Transaction) -> tuple[int, bytes]:
        held = await hold_sources(tx, project=visit.project, ids=given.memory_ids)
        _refuse_missing(given.memory_ids, held)
        if held != versions:
            raise _Changed
        await insert_memories(tx, project=visit.project, memories=[memory])
        await take(tx, need=need_of([memory]))
        read = await read_memories(tx, project=visit.project, ids=[memory.id])
        return 201, _MEMORY.dump_json(read.get(memory.id) or domain.as_created(visit.project, memory))

    answered = await once(visit, _ROUTE, body, keep, about=memory.id)
    if not answered.repeated:
        await visit.room.bus.ring(subjects.BELL_MEMORIES)
        await visit.room.bus.ring(subjects.BELL_CHANGES)
    return answered


async def _again(visit: Visit) -> Visit:
    """The visit after a long wait: with patience anew, and only if the caller may still come in as what they were."""
    patience = Patience(visit.room.settings.answer_within)
    caller = await visit.room.door.admit(visit.project, visit.authorization, patience, visit.address)
    if (caller.role, caller.handle) != (visit.caller.role, visit.caller.handle):
        raise NotAllowed("Your role was changed at this moment.")
    return replace(visit, caller=caller, patience=patience)


def _all_there(ids: Sequence[UUID], found: dict[UUID, Memory]) -> list[Memory]:
    """The sources in order. Raises Invalid with the places of those that are not there for the caller, or no text."""
    _refuse_missing(ids, found)
    bytes_ = [place for place, one in enumerate(ids) if found[one].content is None]
    if bytes_:
        raise Invalid(errors=[FieldError(f"memory_ids.{place}", "must be a memory of text") for place in bytes_])
    return [found[one] for one in ids]


def _refuse_missing(ids: Sequence[UUID], found: dict[UUID, Any]) -> None:
    missing = [place for place, one in enumerate(ids) if one not in found]
    if missing:
        said = "must be a memory that you may read"
        raise Invalid(errors=[FieldError(f"memory_ids.{place}", said) for place in missing])


def _new_memory(visit: Visit, given: SynthesisRequest, made: Draft, kinds: Collection[str]) -> NewMemory:
    how: dict[str, Any] = {"method": made.method, "sources": len(given.memory_ids)}
    how |= {name: said for name, said in (("model", made.model), ("why", made.why)) if said is not None}
    try:
        metadata = checked_json({**given.metadata, "synthesis": how})
    except ValueError as error:
        raise Invalid(errors=[FieldError("metadata", f"{error}, `synthesis` included")]) from None
    memory_id = new_id()
    return NewMemory(
        id=memory_id,
        label=given.label or label_from(made.text),
        content=made.text,
        origin=f"synthesis:{made.method}",
        provenance_id=memory_id,
        tags=tuple(given.tags),
        governance=governance_json(marked(given.governance, kinds)),
        metadata=orjson.dumps(metadata).decode(),
        priority="WARM",
        created_by=visit.caller.handle,
        created_at=visit.room.clock(),
        parents=tuple(given.memory_ids),
    )
