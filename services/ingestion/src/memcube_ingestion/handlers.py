"""Insights that agents published over NATS: claim, decide, keep, announce, done."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast
from uuid import UUID

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from memcube_common.bus.subscribers import MAX_DELIVER
from memcube_common.contracts import subjects
from memcube_common.contracts.fields import Screening
from memcube_common.contracts.subjects import sender_of
from memcube_common.db import Transaction
from memcube_common.errors import QuotaExceeded, TryAgain
from memcube_common.ids import derive
from memcube_common.insights import store as insights_store
from memcube_common.insights.announcing import SentInsight, announce_late, announce_receipts, announce_settled
from memcube_common.insights.domain import Insight, distil
from memcube_common.mailbox.parked import park
from memcube_common.memories.store import insert_memories
from memcube_common.quotas import store as quotas_store
from memcube_common.quotas.domain import of_memories
from memcube_common.screening import screen_message
from memcube_common.security.principal import Principal
from memcube_ingestion.domain import Readable, Spoilt, portions, read, read_advisory
from memcube_ingestion.room import Room
from memcube_ingestion.screened import Unfit, screen_insights, write_screened
from memcube_ingestion.turns import NotNow, Turn
from memcube_ingestion.waiting import where

ISOLATED_RETRIES = 4
LAST_DELIVERIES = MAX_DELIVER - 2
"""From this delivery on a message is not put off any more: its project has to be waited for."""

TRIES = 3
_PARKED = UUID("01890000-0000-7000-8000-000000000000")
_log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message lies on the bus, and all of it: what an operator needs to replay it."""

    stream: str
    sequence: int
    attempts: int
    subject: str
    headers: Mapping[str, str]
    body: bytes


async def on_insights_submitted(messages: Sequence[Msg], room: Room) -> None:
    """Agents learned something; write it down once, and acknowledge after the commit.

    While Postgres is away the batch is held (the server is told it is in progress), so that an outage costs no
    deliveries; what fails again and again while it is there is not waited for. A message that cannot be kept is parked
    with its reason; a surprise is met message by message. What a project brings is looked through for its share of the
    batch's time; the rest comes back.
    """
    readable: list[tuple[Msg, Readable]] = []
    spoilt: list[tuple[Msg, Spoilt]] = []
    for message in messages:
        match read(message.subject, message.data):
            case Readable() as letter:
                readable.append((message, letter))
            case Spoilt() as letter:
                spoilt.append((message, letter))
    turns: defaultdict[str, Turn] = defaultdict(lambda: Turn(room.screening, room.settings.screening_share))

    async def write(portion: Sequence[tuple[Msg, Readable]]) -> None:
        turn = turns[portion[0][1].sender.project]
        try:
            await _settle(portion, room, turn)
        except Exception as error:
            _log.error("insights_not_kept", error=type(error).__name__, where=where(error))
            await _one_by_one(portion, room, turn)

    await asyncio.gather(*(write(portion) for portion in portions(readable, at_most=room.settings.portion)))
    for message, letter in spoilt:
        await _refuse(message, letter, room, turns[letter.sender.project if letter.sender else ""])
    await room.bus.ring(subjects.BELL_MEMORIES)
    room.changes_bell.ring()


async def on_deliveries_exhausted(advisories: Sequence[Msg], room: Room) -> None:
    """The server gave messages up without our having said why (their handler died each time): park them."""
    for advisory in advisories:
        told = read_advisory(advisory.data)
        if told is None:
            spoilt = Spoilt(None, None, "not an advisory about a message on INSIGHTS")
            await _refuse(advisory, spoilt, room, Turn(room.screening, math.inf))
            continue
        with contextlib.suppress(NotFoundError):  # kept for seven days, then there is nothing left to park
            await _rescue("INSIGHTS", told.stream_seq, told.deliveries, room)
        await advisory.ack()


async def keep(project: str, insights: Sequence[Insight], room: Room, turn: Turn | None = None) -> str | None:
    """Write insights of one project and their memories in one transaction; a redelivery finds them already there.

    They are screened before it, in their project's turn. Returns why nothing was kept, where the project does not
    exist. Raises QuotaExceeded, Unfit and NotNow, and keeps nothing.
    """
    turn = turn or Turn(room.screening, math.inf)
    once = list({insight.id: insight for insight in insights}.values())
    fresh: list[Insight] = []

    async def write(tx: Transaction, screened: Sequence[Insight], is_there: bool) -> list[SentInsight] | None:
        if not is_there:
            return None
        new = await insights_store.insert_insights(tx, project=project, via="nats", state="stored", insights=screened)
        fresh[:] = [insight for insight in screened if insight.id in new]
        if not fresh:
            return []
        settled = await insights_store.settle_insights(
            tx, project=project, insights=fresh, echo_window=room.settings.echo_window
        )
        news = [insight for insight in fresh if insight.id not in settled]
        await quotas_store.take(
            tx, need={**of_memories(insight.insight for insight in news), "insights_per_day": len(fresh)}
        )
        now = room.clock()
        await insert_memories(tx, project=project, memories=[distil(insight, now) for insight in news])
        return await announce_settled(tx, project=project, sent=fresh, settled=settled)

    late = await write_screened(project, room, lambda how: screen_insights(once, how, turn), write)
    if late is None:
        return "the project does not exist"
    if late:
        async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
            await announce_late(tx, project=project, sent=late)
    room.stored.labels("nats").inc(len(fresh))
    return None


async def _settle(portion: Sequence[tuple[Msg, Readable]], room: Room, turn: Turn) -> None:
    """Keep a portion and acknowledge its messages, or refuse them all where their project does not exist.

    What can never be kept is refused and the rest kept; what its project's share of this batch is too small for comes
    back; what does not fit into its quotas as a whole is tried one by one: each is kept or refused for itself.
    """
    project = portion[0][1].sender.project
    late = any(message.metadata.num_delivered >= LAST_DELIVERIES for message, _ in portion)
    own = Turn(room.screening, math.inf) if late else turn
    try:
        refused = await _patiently(
            lambda: keep(project, [letter.insight for _, letter in portion], room, own), while_away=room
        )
    except NotNow:
        for message, _ in portion:
            await message.nak(delay=room.returns.pause(project, turn.cost))
        return
    except Unfit as error:
        own = Turn(room.screening, math.inf)  # as long again as what was looked through just now
        for message, letter in portion:
            if (reason := error.reasons.get(letter.insight.id)) is not None:
                await _refuse(message, Spoilt(letter.sender, letter.insight.id, reason), room, own)
        if rest := [one for one in portion if one[1].insight.id not in error.reasons]:
            await _settle(rest, room, turn)
        return
    except QuotaExceeded as error:
        if len(portion) > 1:
            await _one_by_one(portion, room, turn)
            return
        worker = Principal.worker("ingestion", project)
        await quotas_store.announce_refusal(room.db, principal=worker, refused=error)
        refused = error.detail
    for message, letter in portion:
        if refused is None:
            with contextlib.suppress(nats.errors.Error):  # it is kept: delivered again, it is found there
                await message.ack()
        else:
            await _refuse(message, Spoilt(letter.sender, letter.insight.id, refused), room, turn)


async def _one_by_one(portion: Sequence[tuple[Msg, Readable]], room: Room, turn: Turn) -> None:
    """Find the message that cannot be kept among its neighbours: they are kept, it is tried again, then parked."""
    for message, letter in portion:
        try:
            await _settle([(message, letter)], room, turn)
        except Exception as error:
            if message.metadata.num_delivered <= ISOLATED_RETRIES:
                await message.nak(delay=2.0**message.metadata.num_delivered)
            else:
                reason = f"could not be kept: {type(error).__name__}"
                await _refuse(message, Spoilt(letter.sender, letter.insight.id, reason), room, turn)


async def _rescue(stream: str, sequence: int, attempts: int, room: Room) -> None:
    """Park a message that lies in its stream and will not be delivered any more."""
    lost = await room.bus.client.jetstream(timeout=5).get_msg(stream, sequence)
    headers = cast("Mapping[str, str]", lost.headers or {})
    origin = Origin(stream, sequence, attempts, lost.subject or "", headers, lost.data or b"")
    letter = Spoilt(sender_of(origin.subject), None, "every delivery ended without an answer")
    await _patiently(lambda: _park(letter, origin, room, Turn(room.screening, math.inf)))


async def _refuse(message: Msg, letter: Spoilt, room: Room, turn: Turn) -> None:
    """Park a message with its reason, in its project's turn; only then tell the server not to deliver it again."""
    metadata = message.metadata
    origin = Origin(
        metadata.stream,
        metadata.sequence.stream,
        metadata.num_delivered,
        message.subject,
        message.headers or {},
        message.data,
    )
    own = Turn(room.screening, math.inf) if origin.attempts >= LAST_DELIVERIES else turn
    try:
        await _patiently(lambda: _park(letter, origin, room, own))
    except NotNow:
        project = letter.sender.project if letter.sender else ""
        await message.nak(delay=room.returns.pause(project, turn.cost))
        return
    await message.term()


async def _park(letter: Spoilt, origin: Origin, room: Room, turn: Turn) -> None:
    """One row in the drawer, and a receipt to the sender if we know whom and what about. Raises NotNow."""
    project = letter.sender.project if letter.sender else ""

    async def screen(how: Screening) -> bytes:
        if how != "redact":
            return origin.body
        [screened] = await turn.look([partial(screen_message, origin.body, how)])
        return screened

    async def write(tx: Transaction, screened: bytes, is_there: bool) -> None:
        await park(
            tx,
            parked_id=derive(_PARKED, f"{origin.stream}/{origin.sequence}/{hashlib.sha256(origin.body).hexdigest()}"),
            source=origin.stream,
            subject=origin.subject,
            headers=origin.headers,
            payload=screened,
            reason=letter.reason,
            attempts=origin.attempts,
        )
        if letter.sender and letter.insight_id and is_there:
            sent = SentInsight(letter.insight_id, letter.sender.agent, derive(letter.insight_id, "memory"))
            await announce_receipts(tx, verb="parked", sent=[sent], reason=letter.reason)

    await write_screened(project, room, screen, write)
    room.parked.inc()
    _log.warning("message_parked", stream=origin.stream, sequence=origin.sequence)


async def _patiently(attempt: Callable[[], Awaitable[T]], *, while_away: Room | None = None) -> T:
    """What `attempt` returns, tried again for as long as Postgres is away.

    while_away: of this room; where its Postgres is there all the same, the fault is what is attempted, and after
    `TRIES` of them TryAgain is raised. An attempt that failed while it was away is none of them.
    """
    failed = 0
    while True:
        try:
            return await attempt()
        except TryAgain as error:
            await asyncio.sleep(error.after)
            if while_away is not None and not _is_away(error) and await _answers(while_away):
                failed += 1
                if failed >= TRIES:
                    raise


def _is_away(error: TryAgain) -> bool:
    """Whether Postgres said that it is stopped, full or read-only: then the fault is nobody's message."""
    state = str(getattr(error.__cause__, "sqlstate", None) or "")
    return state.startswith(("53", "57P")) or state == "25006"


async def _answers(room: Room) -> bool:
    """Whether Postgres opens a transaction."""
    try:
        async with room.db.transaction(Principal.worker("ingestion")):
            return True
    except TryAgain:
        return False
