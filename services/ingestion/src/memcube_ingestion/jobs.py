"""Insights accepted over HTTP: work that waits in Postgres until it is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from uuid import UUID

import structlog

from memcube_common.contracts import subjects
from memcube_common.errors import TryAgain
from memcube_common.insights import store as insights_store
from memcube_common.insights.domain import distil
from memcube_common.mailbox import work
from memcube_common.mailbox.work import Claim
from memcube_common.memories.store import insert_memories
from memcube_common.security.principal import Principal
from memcube_ingestion.room import Room
from memcube_ingestion.waiting import where

CLAIM_LIMIT = 500
LEASE_SECONDS = 10.0
POLL_SECONDS = 0.2
GATHER_SECONDS = 0.01
MAX_ATTEMPTS = 5
FORGET_SECONDS = 3600.0
FORGOTTEN_AT_ONCE = 5_000
_log = structlog.get_logger(__name__)


async def keep_accepted(room: Room) -> None:
    """Turn accepted insights into memories for ever; a bell saves the wait, the poll finds the rest."""
    while True:
        try:
            busy = await keep_due(room)
        except TryAgain as error:
            await room.insights_bell.wait(error.after)
            continue
        if not busy:
            await room.insights_bell.wait(POLL_SECONDS)
        # One insight a claim would cost as much as fifty: let a few more arrive.
        await asyncio.sleep(GATHER_SECONDS)


async def keep_due(room: Room) -> bool:
    """One claim's worth of accepted insights; True if there was any."""
    async with room.db.transaction(Principal.worker("ingestion")) as tx:
        claims = await work.claim(tx, kind="insight", limit=CLAIM_LIMIT, lease=LEASE_SECONDS)
    for project, claimed in claims.items():
        try:
            await keep_project(project, [claim.item_id for claim in claimed], room)
        except TryAgain:
            raise
        except Exception as error:
            _log.error("insights_not_kept", error=type(error).__name__, where=where(error))
            for claim in claimed:
                await _keep_alone(claim, room)
    if claims:
        await room.bus.ring(subjects.BELL_MEMORIES)
        room.changes_bell.ring()
    return bool(claims)


async def keep_project(project: str, ids: Sequence[UUID], room: Room) -> None:
    """Write the memories of one project's accepted insights, mark them stored and finish the work: all or nothing.

    What was taken from the quotas at acceptance for those that become no memory of their own is given back.
    """
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        ours = await work.finish(tx, kind="insight", project=project, ids=ids)
        accepted = await insights_store.read_accepted(tx, project=project, ids=list(ours))
        if accepted:
            settled = await insights_store.settle_insights(
                tx,
                project=project,
                insights=[insight for insight, _ in accepted],
                echo_window=room.settings.echo_window,
            )
            held = [len(insight.insight.encode()) for insight, _ in accepted if insight.id in settled]
            await insights_store.give_back(tx, memories=len(held), size=sum(held))
            news = [(insight, at) for insight, at in accepted if insight.id not in settled]
            await insert_memories(tx, project=project, memories=[distil(insight, at) for insight, at in news])
            await insights_store.mark_stored(tx, project=project, ids=[insight.id for insight, _ in news])
    room.stored.labels("http").inc(len(accepted))


async def forget_recalls(room: Room) -> None:
    """Forget once an hour what was recalled more than a day ago, for ever."""
    while True:
        with contextlib.suppress(TryAgain):
            async with room.db.transaction(Principal.worker("ingestion")) as tx:
                while await insights_store.forget_recalls(tx, at_most=FORGOTTEN_AT_ONCE) == FORGOTTEN_AT_ONCE:
                    pass
        await asyncio.sleep(FORGET_SECONDS)


async def _keep_alone(claim: Claim, room: Room) -> None:
    """One insight that made trouble, or whose neighbours did: kept, tried again later, or parked by its receipt."""
    try:
        await keep_project(claim.project, [claim.item_id], room)
        return
    except TryAgain:
        raise
    except Exception as error:
        reason = f"could not be kept: {type(error).__name__}"
    async with room.db.transaction(Principal.worker("ingestion", claim.project)) as tx:
        if claim.attempts < MAX_ATTEMPTS:
            pause = work.pause_after(claim.attempts)
            await work.postpone(tx, kind="insight", project=claim.project, ids=[claim.item_id], seconds=pause)
            return
        if await work.finish(tx, kind="insight", project=claim.project, ids=[claim.item_id]):
            await insights_store.mark_parked(tx, project=claim.project, insight_id=claim.item_id, reason=reason)
    room.parked.inc()
    _log.warning("insight_parked", insight_id=str(claim.item_id))
