"""What agents bring and ask over NATS: insights to keep, changes to follow, memories to find."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Final, TypeVar, cast

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.errors import APIError, Error
from pydantic import TypeAdapter, ValidationError

from memcube_common.contracts import subjects
from memcube_common.contracts.api import MemoryQuery
from memcube_common.contracts.asks import FollowChanges, Following, Refused
from memcube_common.contracts.scheduling import ScheduleRequest
from memcube_common.errors import (
    FieldError,
    Invalid,
    MemCubeError,
    NotAllowed,
    NotFound,
    TooLarge,
    TooManyRequests,
    TryAgain,
)
from memcube_common.governance.domain import PRIVILEGED
from memcube_common.security.principal import Principal
from memcube_gateway.agents.domain import FOLLOWERS, Connected, Roads, asker
from memcube_gateway.agents.durables import Durables
from memcube_gateway.credentials.domain import may_hold, may_submit
from memcube_gateway.finding import answer_json, find
from memcube_gateway.limits import Buckets
from memcube_gateway.patience import Patience

if TYPE_CHECKING:
    from memcube_gateway.room import Room

QUEUE: Final = "gateway"
ASKS_AT_ONCE: Final = 32
INSIGHTS_AT_ONCE: Final = 512
KEEP_SECONDS: Final = 4.0
_QUERY: Final = TypeAdapter(MemoryQuery)
_FOLLOW: Final = TypeAdapter(FollowChanges)
_SCHEDULE: Final = TypeAdapter(ScheduleRequest)
T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Asks:
    """Answers what comes out of the account AGENTS. Who asks is what the server says, never what the asker says."""

    def __init__(self, room: Room, roads: Roads) -> None:
        self._room = room
        self._roads = roads
        self._durables = Durables(room.bus)
        settings = room.settings

        def buckets(name: str, rate: float, burst: int) -> Buckets:
            remembered = settings.limits_remembered
            return Buckets(name, rate=rate, burst=burst, remembered=remembered, clock=time.monotonic_ns)

        self._credentials = buckets("key", settings.key_rate, settings.key_burst)
        self._projects = buckets("project", settings.project_rate, settings.project_burst)

    async def open(self) -> None:
        """Begin to answer, with the other gateways in one queue."""
        await self._room.bus.answer(subjects.AGENT_ASKS, self.on_ask, queue=QUEUE, at_once=ASKS_AT_ONCE)
        await self._room.bus.answer(subjects.AGENT_INSIGHTS, self.on_insight, queue=QUEUE, at_once=INSIGHTS_AT_ONCE)

    async def on_insight(self, message: Msg) -> bytes:
        """An agent brings an insight: put it into the stream under its own name, and say so as JetStream would.

        The stream's sequence numbers are not told: they count what everybody brings. Of the headers only the id that
        keeps a repeat from counting is taken over, inside the sender's own namespace: what else JetStream reads in
        headers could be used to ask about others, or to have their messages taken for repeats.
        """
        who = asker(message.headers)
        project, agent = message.subject.split(".")[-2:]
        if who is None or (who.grant.project, who.grant.agent) != (project, agent) or not may_submit(who.grant.role):
            return _not_kept(403, 0, "not allowed")
        if not may_hold(who.grant.role) and _holds(message.data):
            return _not_kept(403, 0, "a legal hold is for OWNERs, ADMINs and SERVICE keys")
        try:
            self._count(who)
        except TooManyRequests as error:
            return _not_kept(error.status, 0, error.detail)
        sent_as = (message.headers or {}).get("Nats-Msg-Id") or uuid.uuid4().hex
        try:
            ack = await self._room.bus.client.jetstream(timeout=KEEP_SECONDS).publish(
                f"memcube.{project}.insight.v1.submitted.{agent}",
                message.data,
                stream="INSIGHTS",
                headers={"Nats-Msg-Id": f"{project}/{agent}/{sent_as[:128]}"},
                timeout=KEEP_SECONDS,
            )
        except APIError as error:
            return _not_kept(error.code or 503, error.err_code or 0, "the stream does not take this insight")
        except (nats.errors.Error, Error, TimeoutError):
            return _not_kept(503, 0, "the stream does not answer")
        return json.dumps({"stream": "INSIGHTS", "seq": 0, "duplicate": bool(ack.duplicate)}).encode()

    async def on_ask(self, message: Msg) -> bytes:
        """An agent asks something: every answer is a model of contracts/asks or contracts/api, as JSON."""
        try:
            answer = await self._answer(message)
            if len(answer) > self._room.bus.client.max_payload:
                raise TooLarge("The answer is larger than a message may be: ask for less, or over HTTP.")
            return answer
        except MemCubeError as error:
            wrong = "; ".join(f"{one.field}: {one.message}" for one in error.errors[:8])
            detail = f"{error.detail} ({wrong})" if wrong else error.detail
            after = error.after if isinstance(error, TryAgain) else None
            return Refused(code=error.code, detail=detail, after=after).model_dump_json().encode()
        except Exception as error:
            _log.error("ask_failed", error=type(error).__name__, exc_info=error)
            return Refused(code="internal", detail="Something went wrong inside MemCube.").model_dump_json().encode()

    async def _answer(self, message: Msg) -> bytes:
        who, asked = asker(message.headers), subjects.asked_of(message.subject)
        if who is None or asked is None:
            raise NotAllowed
        grant = who.grant
        if (grant.project, grant.agent) != (asked.project, asked.agent):
            raise NotAllowed
        self._count(who)
        match asked.question:
            case subjects.ASK_QUERY:
                return await self._query(who, message.data)
            case subjects.ASK_SCHEDULE:
                return await self._schedule(who, message.data)
            case subjects.ASK_FOLLOW:
                return await self._follow(who, message.data)
            case _:
                raise NotFound("there is no such question")

    def _count(self, who: Connected) -> None:
        """One more request over NATS, beside those over HTTP. Raises TooManyRequests."""
        for reading in (self._credentials.take(who.grant.credential), self._projects.take(who.grant.project)):
            if reading.after > 0:
                detail = f"Too many requests for this {reading.bucket.name}; slow down."
                raise TooManyRequests(detail, after=reading.after)

    async def _query(self, who: Connected, body: bytes) -> bytes:
        query = _read(_QUERY, body)
        patience = Patience(self._room.settings.answer_within)
        return answer_json(await find(query, self._room, _principal(who), patience))

    async def _schedule(self, who: Connected, body: bytes) -> bytes:
        """Memories chosen for the agent that asks; `agent_id` may be left out."""
        asked = _read(_SCHEDULE, _signed(body, who.grant.agent))
        patience = Patience(self._room.settings.answer_within)
        return await self._room.scheduling.schedule(asked, _principal(who), patience)

    async def _follow(self, who: Connected, body: bytes) -> bytes:
        wanted, grant = _read(_FOLLOW, body or b"{}"), who.grant
        if grant.role not in FOLLOWERS:
            raise NotAllowed
        if wanted.of == "receipts":
            durable = self._roads.receipts(who)
            seen = (subjects.receipts_of(grant.project, grant.agent),)
            await self._durables.hear(durable, seen[0])
        else:
            restricted = grant.role in PRIVILEGED
            durable = self._roads.durable(grant.project, grant.agent, restricted=restricted)
            other = self._roads.durable(grant.project, grant.agent, restricted=not restricted)
            seen = subjects.followed_by(grant.project, grant.agent, restricted=restricted)
            await self._durables.follow(durable, seen, wanted.start, instead_of=other)
        return Following(durable=durable, subjects=list(seen)).model_dump_json().encode()


def _read(adapter: TypeAdapter[T], body: bytes) -> T:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        raise Invalid(
            errors=[FieldError(".".join(map(str, one["loc"])) or "body", one["msg"]) for one in wrong]
        ) from None


def _signed(body: bytes, agent: str) -> bytes:
    """The body with its sender as `agent_id`; what is no object is refused when it is read. Raises Invalid."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(fields, dict):
        return body
    if cast("dict[str, object]", fields).setdefault("agent_id", agent) != agent:
        raise Invalid(errors=[FieldError("agent_id", "must be the agent that is connected, or be left out")])
    return json.dumps(fields).encode()


def _principal(who: Connected) -> Principal:
    grant = who.grant
    source = f"{grant.credential} nats"
    if grant.role == "PUBLIC":
        return Principal.public(grant.project, grant.agent, source=source)
    return Principal.user(grant.project, grant.agent, grant.role, source=source)


def _holds(insight: bytes) -> bool:
    """Whether an insight asks for a legal hold; what cannot be read asks for nothing and is set aside later."""
    try:
        return json.loads(insight)["governance"]["legal_hold"] not in (None, False)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _not_kept(code: int, err_code: int, why: str) -> bytes:
    return json.dumps({"error": {"code": code, "err_code": err_code, "description": why}}).encode()
