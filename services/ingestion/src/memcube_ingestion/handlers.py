"""Insights that agents published over NATS: claim, decide, keep, announce, done."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast
from uuid import UUID

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from memcube_common.contracts import subjects
from memcube_common.contracts.subjects import sender_of
from memcube_common.errors import QuotaExceeded, TryAgain
from memcube_common.ids import derive
from memcube_common.insights import store as insights_store
from memcube_common.insights.domain import Insight, distil
from memcube_common.insights.store import SentInsight
from memcube_common.mailbox.parked import park
from memcube_common.memories.store import insert_memories
from memcube_common.quotas import store as quotas_store
from memcube_common.quotas.domain import of_insights
from memcube_common.security.principal import Principal
from memcube_ingestion.domain import Readable, Spoilt, portions, read, read_advisory
from memcube_ingestion.room import Room

ISOLATED_RETRIES = 4
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
    deliveries. A message that cannot be kept is parked with its reason; a surprise is met message by message.
    """
    readable: list[tuple[Msg, Readable]] = []
    spoilt: list[tuple[Msg, Spoilt]] = []
    for message in messages:
        match read(message.subject, message.data):
            case Readable() as letter:
                readable.append((message, letter))
            case Spoilt() as letter:
                spoilt.append((message, letter))
    gate = asyncio.Semaphore(room.settings.writers)

    async def write(portion: Sequence[tuple[Msg, Readable]]) -> None:
        async with gate:
            try:
                await _settle(portion, room)
            except Exception as error:
                _log.error("insights_not_kept", error=type(error).__name__, exc_info=error)
                await _one_by_one(portion, room)

    await asyncio.gather(*(write(portion) for portion in portions(readable, at_most=room.settings.portion)))
    for message, letter in spoilt:
        await _refuse(message, letter, room)
    await room.bus.ring(subjects.BELL_MEMORIES)
    room.changes_bell.ring()


async def on_deliveries_exhausted(advisories: Sequence[Msg], room: Room) -> None:
    """The server gave messages up without our having said why (their handler died each time): park them."""
    for advisory in advisories:
        told = read_advisory(advisory.data)
        if told is None:
            await _refuse(advisory, Spoilt(None, None, "not an advisory about a message on INSIGHTS"), room)
            continue
        with contextlib.suppress(NotFoundError):  # kept for seven days, then there is nothing left to park
            await _rescue("INSIGHTS", told.stream_seq, told.deliveries, room)
        await advisory.ack()


async def keep(project: str, insights: Sequence[Insight], room: Room) -> str | None:
    """Write insights of one project and their memories in one transaction; a redelivery finds them already there.

    Returns why nothing was kept, where the project does not exist. Raises QuotaExceeded, and keeps nothing.
    """
    once = list({insight.id: insight for insight in insights}.values())
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        if not await insights_store.project_exists(tx, project=project):
            return "the project does not exist"
        new = await insights_store.insert_insights(tx, project=project, via="nats", state="stored", insights=once)
        fresh = [insight for insight in once if insight.id in new]
        if fresh:
            await quotas_store.take(tx, need=of_insights(insight.insight for insight in fresh))
            now = room.clock()
            await insert_memories(tx, project=project, memories=[distil(insight, now) for insight in fresh])
            await insights_store.announce_receipts(
                tx, verb="stored", sent=[SentInsight(i.id, i.agent_id, i.memory_id) for i in fresh]
            )
    room.stored.labels("nats").inc(len(fresh))
    return None


async def _settle(portion: Sequence[tuple[Msg, Readable]], room: Room) -> None:
    """Keep a portion and acknowledge its messages, or refuse them all where their project does not exist.

    What does not fit into the project's quotas as a whole is tried one by one: each is kept or refused for itself.
    """
    project = portion[0][1].sender.project
    try:
        refused = await _patiently(lambda: keep(project, [letter.insight for _, letter in portion], room))
    except QuotaExceeded as error:
        if len(portion) > 1:
            await _one_by_one(portion, room)
            return
        worker = Principal.worker("ingestion", project)
        await quotas_store.announce_refusal(room.db, principal=worker, refused=error)
        refused = error.detail
    for message, letter in portion:
        if refused is None:
            with contextlib.suppress(nats.errors.Error):  # it is kept: delivered again, it is found there
                await message.ack()
        else:
            await _refuse(message, Spoilt(letter.sender, letter.insight.id, refused), room)


async def _one_by_one(portion: Sequence[tuple[Msg, Readable]], room: Room) -> None:
    """Find the message that cannot be kept among its neighbours: they are kept, it is tried again, then parked."""
    for message, letter in portion:
        try:
            await _settle([(message, letter)], room)
        except Exception as error:
            if message.metadata.num_delivered <= ISOLATED_RETRIES:
                await message.nak(delay=2.0**message.metadata.num_delivered)
            else:
                reason = f"could not be kept: {type(error).__name__}"
                await _refuse(message, Spoilt(letter.sender, letter.insight.id, reason), room)


async def _rescue(stream: str, sequence: int, attempts: int, room: Room) -> None:
    """Park a message that lies in its stream and will not be delivered any more."""
    lost = await room.bus.client.jetstream(timeout=5).get_msg(stream, sequence)
    headers = cast("Mapping[str, str]", lost.headers or {})
    origin = Origin(stream, sequence, attempts, lost.subject or "", headers, lost.data or b"")
    letter = Spoilt(sender_of(origin.subject), None, "every delivery ended without an answer")
    await _patiently(lambda: _park(letter, origin, room))


async def _refuse(message: Msg, letter: Spoilt, room: Room) -> None:
    """Park a message with its reason; only then tell the server not to deliver it again."""
    metadata = message.metadata
    origin = Origin(
        metadata.stream,
        metadata.sequence.stream,
        metadata.num_delivered,
        message.subject,
        message.headers or {},
        message.data,
    )
    await _patiently(lambda: _park(letter, origin, room))
    await message.term()


async def _park(letter: Spoilt, origin: Origin, room: Room) -> None:
    """One row in the drawer, and a receipt to the sender if we know whom and what about."""
    project = letter.sender.project if letter.sender else ""
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        await park(
            tx,
            parked_id=derive(_PARKED, f"{origin.stream}/{origin.sequence}/{hashlib.sha256(origin.body).hexdigest()}"),
            source=origin.stream,
            subject=origin.subject,
            headers=origin.headers,
            payload=origin.body,
            reason=letter.reason,
            attempts=origin.attempts,
        )
        if letter.sender and letter.insight_id and await insights_store.project_exists(tx, project=project):
            sent = SentInsight(letter.insight_id, letter.sender.agent, derive(letter.insight_id, "memory"))
            await insights_store.announce_receipts(tx, verb="parked", sent=[sent], reason=letter.reason)
    room.parked.inc()
    _log.warning("message_parked", stream=origin.stream, sequence=origin.sequence)


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` returns, tried again for as long as Postgres is away."""
    while True:
        try:
            return await attempt()
        except TryAgain as error:
            await asyncio.sleep(error.after)
