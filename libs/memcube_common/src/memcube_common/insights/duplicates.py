"""Memories of insights that nearly say the same: the nearest neighbour, and two that become one."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from memcube_common.db import Transaction
from memcube_common.insights.announcing import SentInsight, announce_receipts
from memcube_common.insights.store import QUERIES


@dataclass(frozen=True, slots=True)
class Near:
    """The nearest neighbour of a memory, how near it is (cosine, -1 … 1), and from where on that counts."""

    memory_id: UUID
    similarity: float
    threshold: float


async def nearest_insight(tx: Transaction, *, project: str, memory_id: UUID) -> Near | None:
    """Of the memories that insights became and that are open to the same readers, the nearest to this one."""
    row = await tx.fetch_one(QUERIES["nearest_insight"], project, memory_id)
    return None if row is None else Near(row["id"], row["similarity"], row["threshold"])


async def merge_insights(
    tx: Transaction, *, project: str, memories: tuple[UUID, UUID], similarity: float
) -> UUID | None:
    """Let the insights of the newer of two memories belong to the older, and raise its support; agents on NATS hear of
    it. Returns the newer, which the caller ends in the same transaction; None where one is not as it came any more.
    """
    makers = await tx.fetch(QUERIES["read_makers"], project, memories)
    if len(makers) < 2:
        return None
    (older, made_older), (newer, made_newer) = ((row["id"], row["insight_id"]) for row in makers)
    if len(await tx.fetch(QUERIES["hold_pair"], project, older, newer)) < 2:
        return None
    await tx.execute(QUERIES["hold_words"], project, older, newer, made_older, made_newer)
    because = f"{similarity:.3f} similar to insight {made_older}"
    rows = await tx.fetch(QUERIES["merge_insights"], project, older, newer, made_older, made_newer, because)
    sent = [
        SentInsight(row["id"], row["agent_id"], older, "near_duplicate", because, made_older)
        for row in rows
        if row["via"] == "nats" and row["id"] == made_newer
    ]
    await announce_receipts(tx, verb="searchable", sent=sent)
    return newer
