"""Conversations that wait: a language model says what is worth remembering of them, or they are kept as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import structlog

from memcube_common.contracts import subjects
from memcube_common.contracts.fields import Screening
from memcube_common.db import Transaction
from memcube_common.errors import QuotaExceeded
from memcube_common.insights import store as insights_store
from memcube_common.insights import talks
from memcube_common.insights.conversation import Talk, as_extracted, as_they_are
from memcube_common.insights.domain import Insight, distil
from memcube_common.language.protocol import Extracted, LanguageRefused, LanguageUnavailable
from memcube_common.mailbox import work
from memcube_common.mailbox.work import Claim
from memcube_common.memories.store import insert_memories
from memcube_common.quotas import store as quotas_store
from memcube_common.quotas.domain import of_memories
from memcube_common.screening.insights import screen_extracted_soon
from memcube_common.security.principal import Principal
from memcube_ingestion.room import Room
from memcube_ingestion.screened import write_screened
from memcube_ingestion.waiting import Later, Line

How = Literal["extracted", "as_they_are"]
_log = structlog.get_logger(__name__)


def line_of(room: Room) -> Line:
    """How conversations are worked off: one more try than the language model gets, for what is not its fault."""
    return Line(
        "conversation",
        keep_conversation,
        park_conversation,
        at_once=room.settings.conversations_at_once,
        attempts=room.settings.conversation_attempts + 5,
    )


async def keep_conversation(claim: Claim, room: Room) -> None:
    """Make insights of one conversation and keep them with their memories; nothing of it is asked inside a transaction.

    Raises Later while the language model is away and has tries left; after the last, messages are kept as they are.
    """
    async with room.db.transaction(Principal.worker("ingestion", claim.project)) as tx:
        talk = await talks.read_conversation(tx, project=claim.project, conversation_id=claim.item_id)
        if talk is None:
            await work.finish(tx, kind="conversation", project=claim.project, ids=[claim.item_id])
            return
    found, reason = await _learn(talk, claim, room)
    how: How = "as_they_are" if found is None else "extracted"
    try:
        await _keep(claim, talk, found, reason, room)
    except QuotaExceeded as error:  # of more than was taken as it came in
        if how == "as_they_are":
            raise
        worker = Principal.worker("ingestion", claim.project)
        await quotas_store.announce_refusal(room.db, principal=worker, refused=error)
        await _keep(claim, talk, None, f"kept as they are: {error.detail}", room)
    await room.bus.ring(subjects.BELL_MEMORIES)


async def park_conversation(claim: Claim, reason: str, room: Room) -> None:
    """Set a conversation aside with its messages; its receipt says why."""
    async with room.db.transaction(Principal.worker("ingestion", claim.project)) as tx:
        if await work.finish(tx, kind="conversation", project=claim.project, ids=[claim.item_id]):
            await talks.park_conversation(tx, project=claim.project, conversation_id=claim.item_id, reason=reason)
    room.parked.inc()
    _log.warning("conversation_parked", conversation_id=str(claim.item_id))


async def _learn(talk: Talk, claim: Claim, room: Room) -> tuple[list[Extracted] | None, str | None]:
    """What the language model found in a conversation, None where it is kept as it is, and why so. Raises Later."""
    if room.language is None:
        return None, "kept as they are: no language model is set"
    if talk.is_confidential:
        return None, "kept as they are: what is confidential is shown to no language model"
    try:
        found = await room.language.extract(talk.messages)
    except LanguageUnavailable as error:
        if claim.attempts < room.settings.conversation_attempts:
            _log.info("language_model_away", why=error.detail, attempts=claim.attempts)
            raise Later(max(error.after, work.pause_after(claim.attempts))) from None
        return None, f"kept as they are: {error.detail}"
    except LanguageRefused as error:
        return None, f"kept as they are: {error.reason}"
    reason = None if found else "the language model found nothing to remember"
    return list(found), reason


async def _keep(claim: Claim, talk: Talk, found: Sequence[Extracted] | None, reason: str | None, room: Room) -> None:
    """Write the insights and memories of one conversation, blank its messages and finish the work: all or nothing.

    What a language model found is screened before; messages were as they came in. What was taken from the quotas then
    is made what it needs. Raises QuotaExceeded, and keeps nothing.
    """
    project = claim.project
    how: How = "as_they_are" if found is None else "extracted"

    async def screen(screening: Screening) -> list[Insight]:
        if found is None:
            return as_they_are(talk)
        return as_extracted(talk, await screen_extracted_soon(found, screening, room.screening))

    async def write(tx: Transaction, insights: Sequence[Insight], _: bool) -> int:
        if not await work.finish(tx, kind="conversation", project=project, ids=[claim.item_id]):
            return 0
        in_order = sorted(insights, key=lambda insight: insight.id)
        new = await insights_store.insert_insights(tx, project=project, via="http", state="stored", insights=in_order)
        fresh = [insight for insight in in_order if insight.id in new]
        settled = await insights_store.settle_insights(
            tx, project=project, insights=fresh, echo_window=room.settings.echo_window
        )
        news = [insight for insight in fresh if insight.id not in settled]
        taken, needed = of_memories(talk.contents), of_memories(insight.insight for insight in news)
        memories, size = needed["memories"] - taken["memories"], needed["bytes"] - taken["bytes"]
        more_insights = max(0, len(fresh) - taken["memories"])
        await quotas_store.take(
            tx, need={"insights_per_day": more_insights, "memories": max(0, memories), "bytes": max(0, size)}
        )
        await insights_store.give_back(tx, memories=max(0, -memories), size=max(0, -size))
        await insert_memories(tx, project=project, memories=[distil(insight, room.clock()) for insight in news])
        await talks.mark_conversation_stored(
            tx,
            project=project,
            conversation_id=talk.id,
            how=how,
            reason=reason,
            insight_ids=[insight.id for insight in insights],
        )
        return len(fresh)

    room.stored.labels("http").inc(await write_screened(project, room, screen, write))
