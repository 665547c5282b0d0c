"""Insights in Postgres: written down once, decided about, kept or set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from memcube_common.db import Statements, Transaction
from memcube_common.db.arrays import array_literal
from memcube_common.insights.domain import (
    Insight,
    Settled,
    Via,
    fingerprint,
    recalled_fingerprint,
    recalled_parts,
)
from memcube_common.quotas.store import refusal

QUERIES = Statements(__package__)


async def insert_insights(
    tx: Transaction, *, project: str, via: Via, state: Literal["accepted", "stored"], insights: Sequence[Insight]
) -> set[UUID]:
    """Write `insights` of one project down; returns the ids that were not there before."""
    rows = await tx.fetch(
        QUERIES["insert_insights"],
        project,
        via,
        state,
        [i.id for i in insights],
        [i.agent_id for i in insights],
        [i.insight for i in insights],
        [i.label for i in insights],
        [array_literal(i.tags) for i in insights],
        [array_literal(i.evidence_refs) for i in insights],
        [i.sentiment for i in insights],
        [i.priority for i in insights],
        [i.governance for i in insights],
        [i.metadata for i in insights],
        [i.memory_id for i in insights],
    )
    return {row["id"] for row in rows}


async def accept_insights(
    tx: Transaction, *, project: str, via: Via, insights: Sequence[Insight]
) -> dict[UUID, datetime]:
    """Write `insights` of one project down and queue them for ingestion, in one statement.

    Returns the ids that were not there before, with the time they were accepted. What they and the memories they
    become need is taken from the project's quotas; ingestion takes nothing more. Raises QuotaExceeded, after which the
    transaction must not be committed.
    """
    rows = await tx.fetch(
        QUERIES["accept_insights"],
        project,
        via,
        [i.id for i in insights],
        [i.agent_id for i in insights],
        [i.insight for i in insights],
        [i.label for i in insights],
        [array_literal(i.tags) for i in insights],
        [array_literal(i.evidence_refs) for i in insights],
        [i.sentiment for i in insights],
        [i.priority for i in insights],
        [i.governance for i in insights],
        [i.metadata for i in insights],
        [i.memory_id for i in insights],
    )
    if rows and rows[0]["refused"] is not None:
        raise await refusal(tx, resource=rows[0]["refused"])
    return {row["id"]: row["accepted_at"] for row in rows}


async def queue_insights(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> None:
    """Put accepted insights in the line for ingestion."""
    await tx.execute(QUERIES["queue_insights"], project, ids)


async def read_accepted(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> list[tuple[Insight, datetime]]:
    """The insights among `ids` that still wait to become memories, with the time they were accepted."""
    rows = await tx.fetch(QUERIES["read_accepted"], project, ids)
    return [
        (
            Insight(
                id=row["id"],
                agent_id=row["agent_id"],
                insight=row["insight"],
                label=row["label"],
                tags=tuple(row["tags"]),
                evidence_refs=tuple(row["evidence_refs"]),
                sentiment=row["sentiment"],
                priority=row["priority"],
                governance=row["governance"],
                metadata=row["metadata"],
            ),
            row["accepted_at"],
        )
        for row in rows
    ]


async def mark_stored(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> None:
    """These insights are memories now."""
    await tx.execute(QUERIES["mark_stored"], project, ids)


async def mark_parked(tx: Transaction, *, project: str, insight_id: UUID, reason: str) -> None:
    """This insight was set aside; its receipt gives `reason`."""
    await tx.execute(QUERIES["mark_parked"], project, insight_id, reason)


async def settle_insights(
    tx: Transaction, *, project: str, insights: Sequence[Insight], echo_window: float
) -> dict[UUID, Settled]:
    """Decide about `insights` that are new in this transaction; returns those that become no memory, by id.

    Each of these supports the insight whose words it repeats, or is an echo of what was recalled less than
    `echo_window` seconds ago; its row says so. The others' memories must be kept in this very transaction. Call it
    before quotas are taken: everybody waits for the same words first.
    """
    rows = await tx.fetch(
        QUERIES["settle_insights"],
        [i.id for i in insights],
        [i.agent_id for i in insights],
        [i.memory_id for i in insights],
        [fingerprint(i) for i in insights],
        *_parts(insights),
        echo_window,
    )
    return {row["insight_id"]: Settled(**dict(row)) for row in rows}


async def weigh_insights(tx: Transaction, *, insights: Sequence[Insight], echo_window: float) -> dict[UUID, Settled]:
    """What would be decided about `insights` by the caller's project as it is, writing nothing: see `settle_insights`.

    Those that say the same among themselves are duplicates of the first of them.
    """
    prints = [fingerprint(i) for i in insights]
    rows = await tx.fetch(
        QUERIES["weigh_insights"],
        [i.id for i in insights],
        [i.agent_id for i in insights],
        prints,
        [i.governance for i in insights],
        *_parts(insights),
        echo_window,
    )
    settled = {row["insight_id"]: Settled(**dict(row)) for row in rows}
    first: dict[bytes, Insight] = {}
    for insight, print_ in zip(insights, prints, strict=True):
        if insight.id not in settled and (same := first.setdefault(print_, insight)) is not insight:
            settled[insight.id] = Settled(insight.id, "duplicate", same.memory_id, same.id)
    return settled


def _parts(insights: Sequence[Insight]) -> tuple[list[UUID], list[bytes]]:
    """What each insight repeats if it is an echo: its id, and the fingerprint of the part, as two columns."""
    pairs = [(i.id, recalled_fingerprint(part)) for i in insights for part in recalled_parts(i.insight)]
    return [id for id, _ in pairs], [print_ for _, print_ in pairs]


async def give_back(tx: Transaction, *, memories: int, size: int) -> None:
    """Give back what was taken at acceptance for so many memories of `size` bytes together, which are not made."""
    if memories or size:
        await tx.execute(QUERIES["give_back_quotas"], memories, size)


async def note_recalled(tx: Transaction, *, project: str, agent: str, recalled: Mapping[UUID, str]) -> None:
    """These memories, by id with their texts, were recalled to `agent`: said again, they are an echo for a while."""
    if recalled:
        prints = [recalled_fingerprint(text) for text in recalled.values()]
        await tx.execute(QUERIES["note_recalled"], project, agent, prints, list(recalled))


async def forget_recalls(tx: Transaction, *, at_most: int) -> int:
    """Forget what was recalled more than a day ago, in whichever project; how many were forgotten."""
    return int(await tx.fetch_value(QUERIES["forget_recalls"], at_most))
