"""Insights over HTTP: durable before they are acknowledged; what becomes of them, their receipts say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts import learning, subjects
from memcube_common.contracts.api import InsightBatch, InsightSubmission, Receipt, Receipts
from memcube_common.contracts.fields import Governance, Tag
from memcube_common.contracts.learning import (
    Conversation,
    DryRun,
    InsightFilter,
    InsightLink,
    Insights,
    InsightState,
    Support,
    Weighed,
)
from memcube_common.db import Transaction
from memcube_common.errors import Conflict, FieldError, Invalid, NotAllowed, NotFound, QuotaExceeded, TryAgain
from memcube_common.governance.domain import PRIVILEGED
from memcube_common.ids import AgentName
from memcube_common.insights import learned
from memcube_common.insights.conversation import Talk, as_extracted, as_they_are, from_conversation
from memcube_common.insights.domain import Insight, from_submission
from memcube_common.insights.receipts import read_conversation_receipts
from memcube_common.insights.store import weigh_insights
from memcube_common.insights.talks import accept_conversation
from memcube_common.language.protocol import Extracted, LanguageRefused, LanguageUnavailable
from memcube_common.memories.domain import label_from
from memcube_common.quotas.store import announce_refusal, take
from memcube_gateway.admission import Caller
from memcube_gateway.credentials.domain import may_hold, may_sign_as, may_submit
from memcube_gateway.patience import Patience
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.cursors import Cursor, PageSize, cursor_for, id_in
from memcube_gateway.routes.door import InVisit, Visit
from memcube_gateway.routes.once import JSON, intent_of, once
from memcube_gateway.routes.screened import screened, screened_all, screened_extracted
from memcube_gateway.together import Submitting

router = APIRouter(tags=["insights"])

LOOKED_AT: Final = 2_000
"""Most insights one page looks through for those its filters ask for."""

_ONE: Final = TypeAdapter(InsightSubmission)
_MANY: Final = TypeAdapter(InsightBatch)
_CONVERSATION: Final = TypeAdapter(Conversation)
_SUPPORT: Final = TypeAdapter(Support)
_LINK: Final = TypeAdapter(InsightLink)
_RECEIPT: Final = TypeAdapter(Receipt)
_RECEIPTS: Final = TypeAdapter(Receipts)
_INSIGHT: Final = TypeAdapter(learning.Insight)
_PAGE: Final = TypeAdapter(Insights)
_DRY_RUN: Final = TypeAdapter(DryRun)
_LOOKS_LIKE_MANY: Final = re.compile(rb'\s*\{\s*"insights"\s*:')
_LOOKS_LIKE_TALK: Final = re.compile(rb'\s*\{\s*"messages"\s*:')
_ROUTE: Final = "POST /v1/projects/{project}/insights"
_SUPPORT_ROUTE: Final = "POST /v1/projects/{project}/insights/%s/support"

InsightId = Annotated[UUID, Path(description="Id of the insight.")]
Given = list[InsightSubmission] | InsightBatch | Conversation


@router.post(
    "/v1/projects/{project}/insights",
    operation_id="submit_insights",
    summary="Submit one insight, up to 500, or a conversation to learn from",
    status_code=202,
    response_model=Receipt | Receipts,
    responses={
        200: {"model": DryRun, "description": "With `dry_run`: what would be stored. Nothing was."},
        **reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    },
    openapi_extra=reference.takes(
        (InsightSubmission, InsightBatch, Conversation),
        {
            "one": {"insight": "The staging database is reset every night.", "tags": ["staging"]},
            "many": {"insights": [{"insight": "Ada prefers short answers."}, {"insight": "Bo is away in May."}]},
            "conversation": {
                "messages": [
                    {"role": "user", "name": "Ada", "content": "I fly to Lyon tomorrow.", "at": "2026-05-04T09:00:00Z"},
                    {"role": "assistant", "content": "Have a good flight!"},
                ]
            },
        },
    ),
)
async def submit_insights(
    request: Request,
    visit: InVisit,
    dry_run: Annotated[bool, Query(description="Say what would be stored and why, and store nothing.")] = False,
) -> Response:
    """Durable when answered: 202 with one receipt for one insight, `{"receipts": […]}` in the order sent for many.

    A batch is accepted together or not at all. An insight whose `id` was sent before is the same insight: its
    receipt tells what became of it. The same words again are a duplicate: they raise the support of the insight that
    was there, and its memory is the one on the receipt. A conversation has one receipt, which lists the insights that
    were made of it: by a language model where one is set, else one for each message.
    """
    body = await read_body(request, visit)
    given = _parse(body)
    if isinstance(given, Conversation):
        _may_bring(visit.caller, {given.agent_id}, [given.governance])
        talk = from_conversation(await screened(visit, given), visit.caller.agent)
        return await _dry_talk(visit, talk) if dry_run else await _take_talk(visit, body, talk)
    many = isinstance(given, InsightBatch)
    submissions = given.insights if isinstance(given, InsightBatch) else given
    _may_bring(visit.caller, {one.agent_id for one in submissions}, [one.governance for one in submissions])
    submissions = await screened_all(visit, submissions)
    insights = [from_submission(submission, visit.caller.agent) for submission in submissions]
    if dry_run:
        return await _weigh(visit, insights, "given")

    submitting = Submitting(insights, many, intent_of(visit, _ROUTE, body, None))
    try:
        return (await visit.room.submitting.ask(visit.caller.principal, visit.patience, submitting)).response()
    except QuotaExceeded as refused:
        await announce_refusal(visit.room.db, principal=visit.caller.principal, refused=refused)
        raise


@router.get(
    "/v1/projects/{project}/insights",
    operation_id="list_insights",
    summary="What was learned, newest first",
    response_model=Insights,
    responses=reference.problems(400, 401, 403, 404, 422, 503),
)
async def list_insights(
    visit: InVisit,
    agent_id: Annotated[AgentName | None, Query(description="Those of one sender.")] = None,
    tag: Annotated[Tag | None, Query(description="Those that carry this tag.")] = None,
    state: Annotated[InsightState | None, Query(description="Those that are so far.")] = None,
    memory_id: Annotated[UUID | None, Query(description="Those that belong to one memory.")] = None,
    min_support: Annotated[
        int | None, Query(ge=1, lt=2**31, description="Those with at least so much support.")
    ] = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Response:
    """Your own, and those whose memory you may read; OWNERs, ADMINs and SERVICE keys see all.

    A page looks through 2,000 insights at most: it may hold fewer than `limit`, none even, while `next_cursor` says
    that there are more.
    """
    wanted = InsightFilter.model_construct(
        agent_id=agent_id, tag=tag, state=state, memory_id=memory_id, min_support=min_support
    )
    listing = "insights" + wanted.model_dump_json(exclude_none=True)
    below = id_in(visit, listing, cursor)
    async with visit.transaction() as tx:
        found, last = await learned.list_insights(tx, wanted=wanted, below=below, limit=limit, looked=LOOKED_AT)
    next_cursor = None if last is None else cursor_for(visit, listing, str(last))
    page = Insights.model_construct(insights=found, next_cursor=next_cursor)
    return Response(_PAGE.dump_json(page), media_type=JSON)


@router.get(
    "/v1/projects/{project}/insights/{insight_id}",
    operation_id="get_insight",
    summary="Read one insight",
    response_model=learning.Insight,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def get_insight(visit: InVisit, insight_id: InsightId) -> Response:
    """The insight with its support and what became of it; what you may not read answers like what does not exist."""
    async with visit.transaction() as tx:
        return _shown(await learned.read_insight(tx, insight_id=insight_id))


@router.post(
    "/v1/projects/{project}/insights/{insight_id}/support",
    operation_id="support_insight",
    summary="Say that an insight holds",
    response_model=learning.Insight,
    responses=reference.problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (Support,), {"seen": {"evidence_refs": ["ticket:4711"], "sentiment": 0.5}, "simply": {}}
    ),
)
async def support_insight(request: Request, visit: InVisit, insight_id: InsightId) -> Response:
    """Its `support_count` is raised by one, once for each who says so: the same caller again changes nothing."""
    if not may_submit(visit.caller.role):
        raise NotAllowed("Your role reads; insights are supported by others.")
    body = await read_body(request, visit)
    given = await screened(visit, parse(_SUPPORT, body))
    async with visit.transaction() as tx:
        found = await learned.read_insight(tx, insight_id=insight_id)
    if found is None:
        raise NotFound

    async def support(tx: Transaction) -> tuple[int, bytes]:
        held = await learned.support_insight(
            tx, insight_id=insight_id, evidence_refs=given.evidence_refs, sentiment=given.sentiment
        )
        insight = await learned.read_insight(tx, insight_id=insight_id) if held else None
        if insight is None:
            raise NotFound
        return 200, _INSIGHT.dump_json(insight)

    # The answer tells what was learned: it is forgotten with the memory that holds it.
    return (await once(visit, _SUPPORT_ROUTE % insight_id, body, support, about=found.memory_id)).response()


@router.put(
    "/v1/projects/{project}/insights/{insight_id}/memory",
    operation_id="link_insight",
    summary="Let an insight belong to another memory",
    response_model=learning.Insight,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.body((InsightLink,), {"one": {"memory_id": "01890000-0000-7000-8000-000000000000"}}),
)
async def link_insight(request: Request, visit: InVisit, insight_id: InsightId) -> Response:
    """For its sender, OWNERs, ADMINs and SERVICE keys, and to a memory that the caller may read and change.

    Whoever may read that memory may read the insight from then on. The memory it had stays as it is.
    """
    given = parse(_LINK, await read_body(request, visit))
    async with visit.transaction() as tx:
        insight = await learned.read_insight(tx, insight_id=insight_id)
        if insight is None:
            raise NotFound
        caller = visit.caller
        if caller.role not in PRIVILEGED and (insight.agent_id != caller.handle or not may_submit(caller.role)):
            raise NotAllowed("An insight is linked by its sender, OWNERs, ADMINs and SERVICE keys.")
        writable, linked = await learned.link_insight(
            tx, project=visit.project, insight_id=insight_id, memory_id=given.memory_id
        )
        if not writable:
            raise Invalid(errors=[FieldError("memory_id", "must be a memory that you may read and change")])
        if not linked:
            raise Conflict("It is not stored yet: its receipt says when it is.")
        return _shown(await learned.read_insight(tx, insight_id=insight_id))


def _shown(insight: learning.Insight | None) -> Response:
    if insight is None:
        raise NotFound
    return Response(_INSIGHT.dump_json(insight), media_type=JSON)


def _may_bring(caller: Caller, agents: set[str | None], governances: Sequence[Governance | None]) -> None:
    """Raises NotAllowed for who may not submit, who signs with another's name, and who holds what they may not hold."""
    if not may_submit(caller.role):
        raise NotAllowed("Your role reads; insights are brought by others.")
    if not all(may_sign_as(caller.role, caller.handle, agent) for agent in agents if agent is not None):
        raise NotAllowed("`agent_id` names somebody else: leave it out, or use a key of role SERVICE.")
    if not may_hold(caller.role) and any(one and one.legal_hold for one in governances):
        raise NotAllowed("A legal hold is for OWNERs, ADMINs and SERVICE keys.")


async def _take_talk(visit: Visit, body: bytes, talk: Talk) -> Response:
    """Write a conversation down: from then on it cannot be lost."""

    async def accept(tx: Transaction) -> tuple[int, bytes]:
        at = await accept_conversation(tx, project=visit.project, talk=talk)
        if at is not None:
            receipt = Receipt(id=talk.id, project=visit.project, state="accepted", memory_id=None, accepted_at=at)
            return 202, _RECEIPT.dump_json(receipt)
        fates = await read_conversation_receipts(tx, project=visit.project, ids=[talk.id])
        if not fates:
            raise Conflict("This id is somebody else's conversation: make another.")
        return 202, _RECEIPT.dump_json(fates[0])

    answered = await once(visit, _ROUTE, body, accept)
    if not answered.repeated:
        await visit.room.bus.ring(subjects.BELL_INSIGHTS)
    return answered.response()


async def _dry_talk(visit: Visit, talk: Talk) -> Response:
    """What a conversation would become; where a language model is asked, it counts as an insight of the day.

    Raises QuotaExceeded, TryAgain where the language model does not answer.
    """
    model = visit.room.language
    if model is None:
        return await _weigh(visit, as_they_are(talk), "as_they_are", reason="no language model is set")
    if talk.is_confidential:
        reason = "what is confidential is shown to no language model"
        return await _weigh(visit, as_they_are(talk), "as_they_are", reason=reason)
    await _take_one(visit)  # a model is paid for each question, of a dry run too
    try:
        async with asyncio.timeout(visit.room.settings.llm_timeout):  # over all portions of a long one
            found = await model.extract(talk.messages)
    except TimeoutError:
        raise TryAgain("The language model did not answer in time.") from None
    except LanguageUnavailable as error:
        raise TryAgain(f"{error.detail[0].upper()}{error.detail[1:]}.", after=max(1.0, error.after)) from None
    except LanguageRefused as error:
        return await _weigh(visit, as_they_are(talk), "as_they_are", reason=error.reason)
    found = await screened_extracted(replace(visit, patience=Patience(visit.room.settings.answer_within)), found)
    reason = None if found else "the language model found nothing to remember"
    return await _weigh(visit, as_extracted(talk, found), "extracted", found=found, reason=reason)


async def _take_one(visit: Visit) -> None:
    """Take one of the day's insights. Raises QuotaExceeded."""
    try:
        async with visit.transaction() as tx:
            await take(tx, need={"insights_per_day": 1})
    except QuotaExceeded as refused:
        await announce_refusal(visit.room.db, principal=visit.caller.principal, refused=refused)
        raise


async def _weigh(
    visit: Visit,
    insights: Sequence[Insight],
    how: learning.How,
    *,
    found: Sequence[Extracted] = (),
    reason: str | None = None,
) -> Response:
    """What would be decided about insights, and nothing stored."""
    patience = Patience(visit.room.settings.answer_within)  # anew: a language model may have been waited for
    async with patience.transaction(visit.room.db, visit.caller.principal) as tx:
        settled = await weigh_insights(tx, insights=insights, echo_window=visit.room.settings.echo_window)
    weighed: list[Weighed] = []
    ours = {insight.id for insight in insights}
    for place, insight in enumerate(insights):
        other = settled.get(insight.id)
        among = other is not None and other.supports in ours  # no such insight is there, nor will be
        weighed.append(
            Weighed(
                insight=insight.insight,
                label=insight.label or label_from(insight.insight),
                tags=list(insight.tags),
                decision="new" if other is None else other.decision,
                decided_because="same words as another of these" if among else other and other.because,
                memory_id=None if among else other and other.memory_id,
                kind=found[place].kind if found else None,
                confidence=found[place].confidence if found else None,
            )
        )
    return Response(_DRY_RUN.dump_json(DryRun(insights=weighed, how=how, reason=reason)), media_type=JSON)


def _parse(body: bytes) -> Given:
    """What a body brings: one insight (as a list of it), a batch, or a conversation."""
    if _LOOKS_LIKE_MANY.match(body):
        return parse(_MANY, body)
    if _LOOKS_LIKE_TALK.match(body):
        return parse(_CONVERSATION, body)
    try:
        return [parse(_ONE, body)]
    except Invalid as error:
        fields = {refused.field for refused in error.errors}
        if "insights" in fields:
            return parse(_MANY, body)
        if "messages" in fields:
            return parse(_CONVERSATION, body)
        raise
