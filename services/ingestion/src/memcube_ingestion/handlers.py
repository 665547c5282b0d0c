"""Insights that agents published over NATS: claim, decide, keep, announce, done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

import structlog
from nats.aio.msg import Msg

from memcube_common.contracts import subjects
from memcube_common.errors import TryAgain
from memcube_common.ids import derive
from memcube_common.insights import store as insights_store
from memcube_common.insights.domain import Insight, distil
from memcube_common.insights.store import SentInsight
from memcube_common.mailbox.parked import park
from memcube_common.memories.store import insert_memories
from memcube_common.security.principal import Principal
from memcube_ingestion.domain import Readable, Spoilt, by_project, read
from memcube_ingestion.room import Room

ISOLATED_RETRIES = 4
_PARKED = UUID("01890000-0000-7000-8000-000000000000")
_log = structlog.get_logger(__name__)

T = TypeVar("T")


async def on_insights_submitted(messages: Sequence[Msg], room: Room) -> None:
    """Agents learned something; write it down once, and acknowledge after the commit.

    While Postgres is away the batch is held (the server is told it is in progress), so that an outage costs no
    deliveries. A message that cannot be kept is parked with its reason; a surprise is met message by message.
    """
    letters = [(message, read(message.subject, message.data)) for message in messages]
    projects = by_project([letter for _, letter in letters if isinstance(letter, Readable)])
    gate = asyncio.Semaphore(room.settings.projects_at_once)

    async def one(project: str, insights: list[Insight]) -> None:
        async with gate:
            unknown = await _patiently(lambda: keep(project, insights, room))
        for message, letter in letters:
            if letter.sender is None or letter.sender.project != project or isinstance(letter, Spoilt):
                continue
            if unknown:
                await _patiently(lambda m=message, f=letter: set_aside(m, Spoilt(f.sender, None, unknown), room))
            await message.ack()

    results = await asyncio.gather(
        *(one(project, insights) for project, insights in projects.items()), return_exceptions=True
    )
    for project, result in zip(projects, results, strict=True):
        if isinstance(result, BaseException):
            _log.error("insights_not_kept", error=type(result).__name__, exc_info=result)
            await _one_by_one(
                [(m, f) for m, f in letters if isinstance(f, Readable) and f.sender.project == project],
                room,
            )
    for message, letter in letters:
        if isinstance(letter, Spoilt):
            await _patiently(lambda m=message, f=letter: set_aside(m, f, room))
            await message.term()
    await room.bus.ring(subjects.BELL_MEMORIES)
    room.changes_bell.ring()


async def keep(project: str, insights: Sequence[Insight], room: Room) -> str | None:
    """Write insights of one project and their memories in one transaction; a redelivery finds them already there.

    Returns why nothing was kept, where the project does not exist.
    """
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        if not await insights_store.project_exists(tx, project=project):
            return "the project does not exist"
        new = await insights_store.insert_insights(tx, project=project, via="nats", state="stored", insights=insights)
        fresh = [insight for insight in insights if insight.id in new]
        if fresh:
            now = room.clock()
            await insert_memories(tx, project=project, memories=[distil(insight, now) for insight in fresh])
            await insights_store.announce_receipts(
                tx, verb="stored", sent=[SentInsight(i.id, i.agent_id, i.memory_id) for i in fresh]
            )
    room.stored.labels("nats").inc(len(fresh))
    return None


async def set_aside(message: Msg, letter: Spoilt, room: Room) -> None:
    """Park a message with its reason, and tell its sender if we know whom and what about."""
    metadata = message.metadata
    project = letter.sender.project if letter.sender else ""
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        await park(
            tx,
            parked_id=derive(_PARKED, f"{metadata.stream}/{metadata.sequence.stream}"),
            source=metadata.stream,
            subject=message.subject,
            headers=message.headers or {},
            payload=message.data,
            reason=letter.reason,
            attempts=metadata.num_delivered,
        )
        if letter.sender and letter.insight_id and await insights_store.project_exists(tx, project=project):
            sent = SentInsight(letter.insight_id, letter.sender.agent, derive(letter.insight_id, "memory"))
            await insights_store.announce_receipts(tx, verb="parked", sent=[sent], reason=letter.reason)
    room.parked.inc()
    _log.warning("message_parked", stream=metadata.stream, sequence=metadata.sequence.stream)


async def _one_by_one(letters: Sequence[tuple[Msg, Readable]], room: Room) -> None:
    """Find the message that cannot be kept among its neighbours: they are kept, it is tried again, then parked."""
    for message, letter in letters:
        try:
            unknown = await _patiently(lambda f=letter: keep(f.sender.project, [f.insight], room))
        except Exception as error:
            if message.metadata.num_delivered <= ISOLATED_RETRIES:
                await message.nak(delay=2.0**message.metadata.num_delivered)
                continue
            unknown = f"could not be kept: {type(error).__name__}"
        if unknown:
            spoilt = Spoilt(letter.sender, letter.insight.id, unknown)
            await _patiently(lambda m=message, s=spoilt: set_aside(m, s, room))
        await message.ack()


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` returns, tried again for as long as Postgres is away."""
    while True:
        try:
            return await attempt()
        except TryAgain as error:
            await asyncio.sleep(error.after)
