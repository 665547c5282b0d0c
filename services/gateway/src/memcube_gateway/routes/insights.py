"""Insights over HTTP: durable before they are acknowledged; what becomes of them, their receipts say."""

from __future__ import annotations

import re
from typing import Final

from fastapi import APIRouter
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts import subjects
from memcube_common.contracts.api import InsightBatch, InsightSubmission, Receipt, Receipts
from memcube_common.db import Transaction
from memcube_common.errors import Conflict, Invalid, NotAllowed
from memcube_common.insights.domain import Insight, from_submission
from memcube_common.insights.store import accept_insights, read_receipts
from memcube_gateway import domain
from memcube_gateway.admission import Caller
from memcube_gateway.credentials.domain import may_hold, may_sign_as, may_submit
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InVisit, Visit
from memcube_gateway.routes.once import once

router = APIRouter(tags=["insights"])

_ONE: Final = TypeAdapter(InsightSubmission)
_MANY: Final = TypeAdapter(InsightBatch)
_RECEIPT: Final = TypeAdapter(Receipt)
_RECEIPTS: Final = TypeAdapter(Receipts)
_LOOKS_LIKE_MANY: Final = re.compile(rb'\s*\{\s*"insights"\s*:')
_ROUTE: Final = "POST /v1/projects/{project}/insights"


@router.post(
    "/v1/projects/{project}/insights",
    operation_id="submit_insights",
    summary="Submit one insight, or up to 500",
    status_code=202,
    response_model=Receipt | Receipts,
    responses=reference.problems(400, 401, 403, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (InsightSubmission, InsightBatch),
        {
            "one": {"insight": "The staging database is reset every night.", "tags": ["staging"]},
            "many": {"insights": [{"insight": "Ada prefers short answers."}, {"insight": "Bo is away in May."}]},
        },
    ),
)
async def submit_insights(request: Request, visit: InVisit) -> Response:
    """Durable when answered: 202 with one receipt for one insight, `{"receipts": […]}` in the order sent for many.

    A batch is accepted together or not at all. An insight whose `id` was sent before is the same insight: its
    receipt tells what became of it.
    """
    body = await read_body(request, visit)
    submissions, many = _parse(body)
    _may_bring(visit.caller, submissions)
    insights = [from_submission(submission, visit.caller.agent) for submission in submissions]

    async def accept(tx: Transaction) -> tuple[int, bytes]:
        receipts = await _accept(tx, visit, insights)
        if many:
            return 202, _RECEIPTS.dump_json(Receipts.model_construct(receipts=receipts))
        return 202, _RECEIPT.dump_json(receipts[0])

    answered = await once(visit, _ROUTE, body, accept)
    if not answered.repeated:
        await visit.room.bus.ring(subjects.BELL_INSIGHTS)
    return answered.response()


def _may_bring(caller: Caller, submissions: list[InsightSubmission]) -> None:
    """Raises NotAllowed for who may not submit, who signs with another's name, and who holds what they may not hold."""
    if not may_submit(caller.role):
        raise NotAllowed("Your role reads; insights are brought by others.")
    named = {one.agent_id for one in submissions if one.agent_id is not None}
    if not all(may_sign_as(caller.role, caller.handle, agent) for agent in named):
        raise NotAllowed("`agent_id` names somebody else: leave it out, or use a key of role SERVICE.")
    if not may_hold(caller.role) and any(one.governance and one.governance.legal_hold for one in submissions):
        raise NotAllowed("A legal hold is for OWNERs, ADMINs and SERVICE keys.")


async def _accept(tx: Transaction, visit: Visit, insights: list[Insight]) -> list[Receipt]:
    """Write insights down and say so; for those that were there already, say what became of them."""
    project = visit.project
    in_order = sorted(insights, key=lambda insight: insight.id)  # two batches that meet wait instead of deadlocking
    accepted = await accept_insights(tx, project=project, via="http", insights=in_order)
    known = [insight.id for insight in insights if insight.id not in accepted]
    fates = {r.id: r for r in await read_receipts(tx, project=project, ids=known)} if known else {}
    if any(id not in fates for id in known):
        raise Conflict("This id is somebody else's insight: make another.")
    return [
        domain.accepted(project, insight, at) if (at := accepted.get(insight.id)) is not None else fates[insight.id]
        for insight in insights
    ]


def _parse(body: bytes) -> tuple[list[InsightSubmission], bool]:
    """The insights of a body, and whether they came as a batch."""
    if _LOOKS_LIKE_MANY.match(body):
        return parse(_MANY, body).insights, True
    try:
        return [parse(_ONE, body)], False
    except Invalid as error:
        if any(refused.field == "insights" for refused in error.errors):
            return parse(_MANY, body).insights, True
        raise
