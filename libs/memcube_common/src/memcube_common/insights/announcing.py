"""Agents on NATS are told what became of the insights they sent: in the feed, like every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import orjson

from memcube_common.contracts.fields import Decision
from memcube_common.db import Transaction
from memcube_common.db.pool import Row
from memcube_common.insights.domain import Insight, Settled
from memcube_common.insights.store import QUERIES


@dataclass(frozen=True, slots=True)
class SentInsight:
    """An insight that an agent sent over NATS, and the memory it became."""

    insight_id: UUID
    agent_id: str
    memory_id: UUID
    decision: Decision | None = None
    decided_because: str | None = None
    supports: UUID | None = None


async def announce_settled(
    tx: Transaction, *, project: str, sent: Sequence[Insight], settled: Mapping[UUID, Settled]
) -> list[SentInsight]:
    """Tell agents on NATS that their insights are stored, and of those that are no memory of their own, what else is
    known of the memory that holds them: for them nobody else will say it. Returns those of whose memory nothing could
    be said, because somebody is at it: `announce_late` says it after the commit.
    """
    telling = [
        SentInsight(i.id, i.agent_id, s.memory_id, s.decision, s.because, s.supports)
        if (s := settled.get(i.id)) is not None
        else SentInsight(i.id, i.agent_id, i.memory_id, "new")
        for i in sent
    ]
    await announce_receipts(tx, verb="stored", sent=telling)
    held = [one for one in telling if one.insight_id in settled]
    if not held:
        return []
    return await _announce_states(tx, held, await tx.fetch(QUERIES["hold_memories"], project, _memories(held)))


async def announce_late(tx: Transaction, *, project: str, sent: Sequence[SentInsight]) -> None:
    """Tell agents on NATS of the memories that `announce_settled` could say nothing of, in a transaction that holds
    nothing else. Whoever saved a vector just then may have said it too: it is told at least once.
    """
    await _announce_states(tx, sent, await tx.fetch(QUERIES["wait_for_memories"], project, _memories(sent)))


async def bus_senders(tx: Transaction, *, project: str, memory_ids: Sequence[UUID]) -> list[SentInsight]:
    """The insights behind `memory_ids` that agents sent over NATS and wait to hear of."""
    rows = await tx.fetch(QUERIES["bus_senders"], project, memory_ids)
    return [
        SentInsight(
            row["id"], row["agent_id"], row["memory_id"], row["decision"], row["decided_because"], row["supports"]
        )
        for row in rows
    ]


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
            [_decided(one) for one in sent],
        )


def _memories(sent: Sequence[SentInsight]) -> list[UUID]:
    return [one.memory_id for one in sent]


async def _announce_states(tx: Transaction, sent: Sequence[SentInsight], rows: Sequence[Row]) -> list[SentInsight]:
    """Tell of memories that are embedded, or never will be; returns those of whom `rows` say nothing."""
    states = {row["id"]: row for row in rows}
    known = [one for one in sent if one.memory_id in states]
    ready = [one for one in known if states[one.memory_id]["embedding_state"] == "ready"]
    await announce_receipts(tx, verb="searchable", sent=ready)
    for one in known:
        if states[one.memory_id]["embedding_state"] == "failed":
            reason = states[one.memory_id]["embedding_reason"]
            await announce_receipts(tx, verb="failed", sent=[one], reason=reason)
    return [one for one in sent if one.memory_id not in states]


def _decided(one: SentInsight) -> str:
    supports = None if one.supports is None else str(one.supports)
    said = {"decision": one.decision, "decided_because": one.decided_because, "supports": supports}
    return orjson.dumps({name: value for name, value in said.items() if value is not None}).decode()
