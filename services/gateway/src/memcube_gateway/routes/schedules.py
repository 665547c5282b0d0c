"""Schedules over HTTP: memories chosen for an agent inside its budget, what was chosen before, and why."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import orjson
from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts.fields import Moment
from memcube_common.contracts.scheduling import (
    AgentId,
    Replay,
    Schedule,
    ScheduleRecord,
    ScheduleRecords,
    ScheduleRequest,
)
from memcube_common.db import Transaction
from memcube_common.ids import TaskName
from memcube_common.schedules.store import list_schedules as read_schedules
from memcube_common.schedules.store import read_schedule
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.cursors import Cursor, PageSize, cursor_for, id_in
from memcube_gateway.routes.door import InVisit, Visit
from memcube_gateway.routes.once import JSON, answered_before, once

router = APIRouter(tags=["schedules"])

_REQUEST: Final = TypeAdapter(ScheduleRequest)
_RECORD: Final = TypeAdapter(ScheduleRecord)
_RECORDS: Final = TypeAdapter(ScheduleRecords)
_ROUTE: Final = "POST /v1/projects/{project}/memories/schedule"

ScheduleId = Annotated[UUID, Path(description="Id of the schedule.")]


@router.post(
    "/v1/projects/{project}/memories/schedule",
    operation_id="schedule_memories",
    summary="Choose memories for an agent, inside a budget",
    response_model=Schedule,
    responses=reference.problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (ScheduleRequest,),
        {
            "task": {
                "agent_id": "bot-001",
                "task_id": "TASK-123",
                "text": "How do we deploy to staging?",
                "need_tags": ["staging"],
                "token_budget": 4000,
            },
            "seed": {"agent_id": "bot-001", "need_tags": ["react", "hooks"], "token_budget": 4000},
            "explained": {"agent_id": "bot-001", "text": "staging", "format": "xml", "explain": True},
        },
    ),
)
async def schedule_memories(request: Request, visit: InVisit) -> Response:
    """The memories you may read that serve the agent best, pinned ones first: `prompt` never exceeds `token_budget`.

    What is chosen is recorded with its reasons, but without its texts, and can be fetched and replayed. The same
    Idempotency-Key brings the same schedule again: chosen once, with each memory's text as it was then and as far as
    you may still read it. Where the question cannot get a vector in time, memories are chosen without meaning and
    `degraded` says so.
    """
    body = await read_body(request, visit)
    return await scheduled(visit, body, parse(_REQUEST, body))


async def scheduled(visit: Visit, body: bytes, asked: ScheduleRequest) -> Response:
    """The answer to a request for a schedule; `body` is what a repeat under the same Idempotency-Key must bring."""
    room, principal = visit.room.scheduling, visit.caller.principal
    if visit.idempotency_key is None:
        return Response(await room.schedule(asked, principal, visit.patience), media_type=JSON)
    answered = await answered_before(visit, _ROUTE, body)
    if answered is None:
        # Made with no connection held: a room that is slow must not keep all of them from everybody else. Of two made
        # under one key at once, both get the one that was kept first.
        made = await room.schedule(asked, principal, visit.patience)

        async def keep(_: Transaction) -> tuple[int, bytes]:
            # Only its id is kept under the key: what memories say is kept where a purge finds it.
            return 200, orjson.dumps({"id": orjson.loads(made)["id"]})

        answered = await once(visit, _ROUTE, body, keep)
        if not answered.repeated:
            return Response(made, media_type=JSON)
    again = orjson.loads(await room.replay(UUID(orjson.loads(answered.body)["id"]), principal, visit.patience))
    if not asked.explain:
        again["schedule"]["candidates"] = None
    return Response(orjson.dumps(again["schedule"]), media_type=JSON, headers={"idempotency-replayed": "true"})


@router.get(
    "/v1/projects/{project}/schedules",
    operation_id="list_schedules",
    summary="What was chosen for whom, newest first",
    response_model=ScheduleRecords,
    responses=reference.problems(400, 401, 403, 404, 422, 503),
)
async def list_schedules(
    visit: InVisit,
    agent_id: Annotated[AgentId | None, Query(description="Those for one agent.")] = None,
    task_id: Annotated[TaskName | None, Query(description="Those for one task.")] = None,
    before: Annotated[Moment | None, Query(description="Those made earlier than this.")] = None,
    after: Annotated[Moment | None, Query(description="Those made later than this.")] = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Response:
    """Those you asked for; OWNERs, ADMINs and SERVICE keys see all. Without candidates: fetch one to read its reasons.

    `before` a moment and `limit=1`, for an agent: what it was told last before then.
    """
    listing = _listing(agent_id, task_id, before, after)
    below = id_in(visit, listing, cursor)
    async with visit.transaction() as tx:
        found, last = await read_schedules(
            tx,
            project=visit.project,
            limit=limit,
            agent_id=agent_id,
            task_id=task_id,
            before=before,
            after=after,
            below=below,
        )
    following = None if last is None else cursor_for(visit, listing, str(last))
    page = ScheduleRecords.model_construct(schedules=found, next_cursor=following)
    return Response(_RECORDS.dump_json(page), media_type=JSON)


@router.get(
    "/v1/projects/{project}/schedules/{schedule_id}",
    operation_id="get_schedule",
    summary="Read a recorded schedule and its reasons",
    response_model=ScheduleRecord,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def get_schedule(visit: InVisit, schedule_id: ScheduleId) -> Response:
    """What was asked and weighed, each candidate's score and why it was chosen or left: ids and numbers, no texts."""
    async with visit.transaction() as tx:
        record = await read_schedule(tx, project=visit.project, schedule_id=schedule_id)
    return Response(_RECORD.dump_json(record), media_type=JSON)


@router.post(
    "/v1/projects/{project}/schedules/{schedule_id}/replay",
    operation_id="replay_schedule",
    summary="Choose again from what was recorded",
    response_model=Replay,
    responses=reference.problems(401, 403, 404, 413, 422, 503),
    openapi_extra=reference.without_body(),
)
async def replay_schedule(visit: InVisit, schedule_id: ScheduleId) -> Response:
    """The same choice from the recorded inputs, with each memory's text as it was then: what an agent knew.

    `missing` names memories that are gone or that you may not read any more. Replaying changes nothing, so an
    Idempotency-Key is accepted and not needed.
    """
    return Response(
        await visit.room.scheduling.replay(schedule_id, visit.caller.principal, visit.patience), media_type=JSON
    )


def _listing(agent_id: str | None, task_id: str | None, before: datetime | None, after: datetime | None) -> str:
    """A name of the listing that says all it was chosen by, as long for every choice."""
    chosen = orjson.dumps([agent_id, task_id, before, after], option=orjson.OPT_UTC_Z)
    return "schedules/" + hashlib.sha256(chosen).hexdigest()[:32]
