"""What came of schedules over HTTP, and what agents alike found helpful."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts.scheduling import AgentId, FeedbackTaken, Recommendations, ScheduleFeedback
from memcube_common.db import Transaction
from memcube_common.errors import FieldError, Invalid, NotAllowed, NotFound
from memcube_common.feedback import store
from memcube_common.governance.domain import WRITERS
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InVisit
from memcube_gateway.routes.once import JSON, once

router = APIRouter(tags=["schedules"])

_FEEDBACK: Final = TypeAdapter(ScheduleFeedback)
_TAKEN: Final = TypeAdapter(FeedbackTaken)
_RECOMMENDATIONS: Final = TypeAdapter(Recommendations)


@router.post(
    "/v1/projects/{project}/schedules/{schedule_id}/feedback",
    operation_id="give_schedule_feedback",
    summary="Say what came of the memories of a schedule",
    response_model=FeedbackTaken,
    responses=reference.problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (ScheduleFeedback,),
        {
            "two": {
                "outcomes": [
                    {"memory_id": "019a5f00-0000-7000-8000-0000000000b2", "outcome": "helpful"},
                    {"memory_id": "019a5f00-0000-7000-8000-0000000000b3", "outcome": "ignored"},
                ]
            }
        },
    ),
)
async def give_schedule_feedback(
    request: Request, visit: InVisit, schedule_id: Annotated[UUID, Path(description="Id of the schedule.")]
) -> Response:
    """`used`, `ignored`, `helpful` or `harmful`, for memories that were chosen in it; the last word on each counts.

    It moves their later scores within bounds, within seconds: harm weighs twice as much as help, and saying the same
    often says no more than saying it five times. For who asked for the schedule, as MEMBER or AGENT, and for OWNERs,
    ADMINs and SERVICE keys.
    """
    body = await read_body(request, visit)
    given = parse(_FEEDBACK, body)
    if visit.caller.role not in WRITERS:
        raise NotAllowed("Your role reads; what came of a schedule is said by others.")

    async def say(tx: Transaction) -> tuple[int, bytes]:
        chosen = await store.read_chosen(tx, project=visit.project, schedule_id=schedule_id)
        if chosen is None:
            raise NotFound
        strange = [at for at, one in enumerate(given.outcomes) if one.memory_id not in chosen]
        if strange:
            said = "must be a memory that was chosen in this schedule"
            raise Invalid(errors=[FieldError(f"outcomes.{at}.memory_id", said) for at in strange])
        taken = await store.say_outcomes(
            tx, schedule_id=schedule_id, outcomes={one.memory_id: one.outcome for one in given.outcomes}
        )
        if taken is None:
            raise NotFound
        return 200, _TAKEN.dump_json(FeedbackTaken(taken=taken))

    route = f"POST /v1/projects/{{project}}/schedules/{schedule_id}/feedback"
    return (await once(visit, route, body, say)).response()


@router.get(
    "/v1/projects/{project}/agents/{agent}/recommendations",
    operation_id="list_recommendations",
    summary="Read what agents alike found helpful",
    response_model=Recommendations,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_recommendations(
    visit: InVisit,
    agent: Annotated[AgentId, Path(description="The agent, as schedules name it.", examples=["bot-001"])],
    limit: Annotated[int, Query(ge=1, le=50, description="How many at most.")] = 10,
) -> Response:
    """Memories you may read that agents with similar use found helpful and this one was not given lately, best first.

    Computed now and then (`computed_at`) from what schedules told and what was said to have come of it. They follow
    from schedules you asked for yourself under the agent's name; OWNERs, ADMINs and SERVICE keys read every agent's.
    An agent nobody knows has none.
    """
    async with visit.transaction() as tx:
        found = await store.read_recommendations(tx, project=visit.project, agent=agent, at_most=limit)
    return Response(_RECOMMENDATIONS.dump_json(found), media_type=JSON)
