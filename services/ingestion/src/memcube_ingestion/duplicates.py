"""Memories that nearly say the same: compared once the newer has its vector, where the project asks for it."""

from __future__ import annotations

from typing import Final

from memcube_common.insights.duplicates import merge_insights, nearest_insight
from memcube_common.mailbox import work
from memcube_common.mailbox.work import Claim
from memcube_common.memories.revisions import hold_lineage, purge_memories
from memcube_common.security.principal import Principal
from memcube_ingestion.room import Room
from memcube_ingestion.waiting import Line

LINE_AT_ONCE: Final = 4
MAX_ATTEMPTS: Final = 5


def line_of(room: Room) -> Line:
    """How comparisons are worked off."""
    return Line("duplicate", compare, leave, at_once=LINE_AT_ONCE, attempts=MAX_ATTEMPTS)


async def compare(claim: Claim, room: Room) -> None:
    """Compare a memory with its neighbours; of two that nearly say the same the newer goes, and supports the older.

    Never one that was changed, frozen or held since, and never two that are not open to the same readers.
    """
    project = claim.project
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        if not await work.finish(tx, kind="duplicate", project=project, ids=[claim.item_id]):
            return
        near = await nearest_insight(tx, project=project, memory_id=claim.item_id)
        if near is None or near.similarity < near.threshold:
            return
        pair = (claim.item_id, near.memory_id)
        await hold_lineage(tx, ids=pair)
        newer = await merge_insights(tx, project=project, memories=pair, similarity=near.similarity)
        if newer is not None:
            await purge_memories(tx, project=project, ids=[newer])


async def leave(claim: Claim, reason: str, room: Room) -> None:
    """A comparison that cannot be made leaves both memories as they are."""
    async with room.db.transaction(Principal.worker("ingestion", claim.project)) as tx:
        await work.finish(tx, kind="duplicate", project=claim.project, ids=[claim.item_id])
