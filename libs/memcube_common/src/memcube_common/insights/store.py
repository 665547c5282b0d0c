"""Insights in Postgres: write them down once, and tell their fate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from memcube_common.contracts.api import Receipt
from memcube_common.contracts.fields import ReceiptState
from memcube_common.db import Statements, Transaction
from memcube_common.db.arrays import array_literal
from memcube_common.db.pool import Row
from memcube_common.insights.domain import Insight, Via
from memcube_common.quotas.store import refusal

QUERIES = Statements(__package__)


@dataclass(frozen=True, slots=True)
class SentInsight:
    """An insight that an agent sent over NATS, and the memory it became."""

    insight_id: UUID
    agent_id: str
    memory_id: UUID


async def project_exists(tx: Transaction, *, project: str) -> bool:
    """Whether `project`, the transaction's own, exists."""
    return bool(await tx.fetch_value(QUERIES["project_exists"], project))


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


async def bus_senders(tx: Transaction, *, project: str, memory_ids: Sequence[UUID]) -> list[SentInsight]:
    """The insights behind `memory_ids` that agents sent over NATS and wait to hear of."""
    rows = await tx.fetch(QUERIES["bus_senders"], project, memory_ids)
    return [SentInsight(row["id"], row["agent_id"], row["memory_id"]) for row in rows]


async def announce_receipts(
    tx: Transaction,
    *,
    verb: Literal["stored", "searchable", "failed", "parked"],
    sent: Sequence[SentInsight],
    reason: str | None = None,
) -> None:
    """Tell agents what became of insights they sent over NATS; nothing to tell is nothing done."""
    if sent:
        await tx.execute(
            QUERIES["announce_receipts"],
            f"receipt.v1.{verb}",
            [s.agent_id for s in sent],
            [s.insight_id for s in sent],
            [s.memory_id for s in sent],
            [reason] * len(sent),
        )


async def read_receipts(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> list[Receipt]:
    """The fate of the writes among `ids` that exist, in the order asked."""
    return [_receipt(project, row) for row in await tx.fetch(QUERIES["read_receipts"], project, ids)]


def _receipt(project: str, row: Row) -> Receipt:
    state, reason = _fate(row)
    return Receipt.model_construct(
        id=row["id"],
        project=project,
        state=state,
        memory_id=row["memory_id"] if row["is_insight"] else row["id"],
        reason=reason,
        accepted_at=row["accepted_at"] or row["stored_at"],
        stored_at=row["stored_at"],
        searchable_at=row["embedded_at"] if state == "searchable" else None,
    )


def _fate(row: Row) -> tuple[ReceiptState, str | None]:
    """A vector is saved, announced and searchable in one transaction: `embedded` and `searchable` are one moment."""
    if row["state"] == "parked":
        return "parked", row["reason"]
    if row["state"] == "accepted":
        return "accepted", None
    if not row["memory_exists"]:
        return "stored", "the memory was purged since"
    if row["embedding_state"] == "ready":
        return "searchable", None
    if row["embedding_state"] == "failed":
        return "failed", row["embedding_reason"]
    return "stored", None
