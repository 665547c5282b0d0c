"""Insights in Postgres: write them down once, and tell their fate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import orjson

from memcube_common.contracts import learning
from memcube_common.contracts.api import Receipt, ReceivedInsight
from memcube_common.contracts.fields import Decision, Governance, ReceiptState
from memcube_common.db import Statements, Transaction
from memcube_common.db.arrays import array_literal
from memcube_common.db.pool import Row
from memcube_common.insights.conversation import Talk, from_json, to_json
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


@dataclass(frozen=True, slots=True)
class SentInsight:
    """An insight that an agent sent over NATS, and the memory it became."""

    insight_id: UUID
    agent_id: str
    memory_id: UUID
    decision: Decision | None = None
    decided_because: str | None = None
    supports: UUID | None = None


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


async def mark_parked(tx: Transaction, *, project: str, insight_id: UUID, reason: str) -> None:
    """This insight was set aside; its receipt gives `reason`."""
    await tx.execute(QUERIES["mark_parked"], project, insight_id, reason)


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


def _decided(one: SentInsight) -> str:
    supports = None if one.supports is None else str(one.supports)
    said = {"decision": one.decision, "decided_because": one.decided_because, "supports": supports}
    return orjson.dumps({name: value for name, value in said.items() if value is not None}).decode()


async def read_receipts(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> list[Receipt]:
    """The fate of the writes among `ids` that exist, in the order asked; conversations come last."""
    receipts = [_receipt(project, row) for row in await tx.fetch(QUERIES["read_receipts"], project, ids)]
    known = {receipt.id for receipt in receipts}
    if others := [id for id in ids if id not in known]:
        receipts += await read_conversation_receipts(tx, project=project, ids=others)
    return receipts


async def read_conversation_receipts(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> list[Receipt]:
    """What became of the conversations among `ids` that exist: as far as the slowest of their insights."""
    receipts: list[Receipt] = []
    for row in await tx.fetch(QUERIES["read_conversation_fates"], project, ids):
        ids = row["insight_ids"]
        made = [_receipt(project, one) for one in await tx.fetch(QUERIES["read_receipts"], project, ids)] if ids else []
        receipts.append(_conversation_receipt(project, row, made))
    return receipts


async def accept_conversation(tx: Transaction, *, project: str, talk: Talk) -> datetime | None:
    """Write a conversation down and queue it for ingestion, in one statement; the time, None if it was there before.

    What its messages need if each becomes an insight is taken from the project's quotas. Raises QuotaExceeded, after
    which the transaction must not be committed.
    """
    messages, beside = to_json(talk)
    contents = talk.contents
    row = await tx.fetch_one(
        QUERIES["accept_conversation"],
        project,
        talk.id,
        talk.agent_id,
        messages,
        beside,
        len(contents),
        sum(len(content.encode()) for content in contents),
    )
    if row is not None and row["refused"] is not None:
        raise await refusal(tx, resource=row["refused"])
    return None if row is None else row["accepted_at"]


async def read_conversation(tx: Transaction, *, project: str, conversation_id: UUID) -> Talk | None:
    """A conversation that still waits."""
    row = await tx.fetch_one(QUERIES["read_conversation"], project, conversation_id)
    return None if row is None else from_json(conversation_id, row["agent_id"], row["messages"], row["said"])


async def mark_conversation_stored(
    tx: Transaction,
    *,
    project: str,
    conversation_id: UUID,
    how: Literal["extracted", "as_they_are"],
    reason: str | None,
    insight_ids: Sequence[UUID],
) -> None:
    """This conversation is insights now: its messages are blanked. `reason`: why so, where that needs saying."""
    await tx.execute(QUERIES["mark_conversation_stored"], project, conversation_id, how, reason, insight_ids)


async def park_conversation(tx: Transaction, *, project: str, conversation_id: UUID, reason: str) -> None:
    """This conversation was set aside with its messages; its receipt gives `reason`."""
    await tx.execute(QUERIES["mark_conversation_parked"], project, conversation_id, reason)


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
    await tx.execute(QUERIES["hold_words"], project, older, newer, made_older, made_newer)
    if len(await tx.fetch(QUERIES["hold_pair"], project, older, newer)) < 2:
        return None
    because = f"{similarity:.3f} similar to insight {made_older}"
    rows = await tx.fetch(QUERIES["merge_insights"], project, older, newer, made_older, made_newer, because)
    sent = [
        SentInsight(row["id"], row["agent_id"], older, "near_duplicate", because, made_older)
        for row in rows
        if row["via"] == "nats" and row["id"] == made_newer
    ]
    await announce_receipts(tx, verb="searchable", sent=sent)
    return newer


async def list_insights(
    tx: Transaction, *, wanted: learning.InsightFilter, below: UUID | None, limit: int, looked: int
) -> tuple[list[learning.Insight], UUID | None]:
    """A page of the insights that the caller may read, newest first, below the id `below`, and where the next begins.

    At most `looked` are looked at: a page may hold fewer than `limit`, none even, and be followed by another.
    """
    rows = await tx.fetch(
        QUERIES["list_insights"],
        wanted.agent_id,
        wanted.tag,
        wanted.state,
        wanted.memory_id,
        wanted.min_support,
        below or _BEYOND,
        limit,
        looked,
    )
    found = [_insight(tx.principal.project, row) for row in rows if not row["over"]]
    return found, rows[-1]["id"] if rows and (rows[-1]["over"] or len(found) == limit) else None


async def read_insight(tx: Transaction, *, insight_id: UUID) -> learning.Insight | None:
    """One insight, if the caller may read it."""
    row = await tx.fetch_one(QUERIES["read_insights"], [insight_id])
    return None if row is None else _insight(tx.principal.project, row)


async def support_insight(
    tx: Transaction, *, insight_id: UUID, evidence_refs: Sequence[str], sentiment: float | None
) -> bool:
    """Say that an insight holds: its support is raised once a principal. False where the caller may read none such."""
    return bool(await tx.fetch_value(QUERIES["support_insight"], insight_id, evidence_refs, sentiment))


async def link_insight(tx: Transaction, *, project: str, insight_id: UUID, memory_id: UUID) -> tuple[bool, bool]:
    """Let an insight belong to another memory; whether the caller may change that memory, and whether it was linked."""
    row = await tx.fetch_one(QUERIES["link_insight"], project, insight_id, memory_id)
    return (False, False) if row is None else (row["writable"], row["linked"])


def _insight(project: str, row: Row) -> learning.Insight:
    """A contract Insight of a row; the database is trusted to hold valid values."""
    return learning.Insight.model_construct(
        project_id=project,
        governance=Governance.model_validate_json(row["governance"]),
        metadata=orjson.loads(row["metadata"]),
        **{name: row[name] for name in _PLAIN_FIELDS},
    )


_BEYOND = UUID(int=(1 << 128) - 1)
_PLAIN_FIELDS = (
    "id",
    "agent_id",
    "insight",
    "label",
    "tags",
    "evidence_refs",
    "sentiment",
    "support_count",
    "priority",
    "memory_id",
    "state",
    "reason",
    "decision",
    "decided_because",
    "supports",
    "accepted_at",
    "stored_at",
)


def _conversation_receipt(project: str, row: Row, made: Sequence[Receipt]) -> Receipt:
    state: ReceiptState = row["state"]
    if made and state == "stored":
        states = {receipt.state for receipt in made}
        state = "failed" if states >= {"failed"} and states <= {"failed", "searchable"} else "stored"
        state = "searchable" if states == {"searchable"} else state
    return Receipt.model_construct(
        id=row["id"],
        project=project,
        state=state,
        memory_id=None,
        # What is stored and became nothing has come to its end.
        reason=row["reason"] if row["state"] == "parked" or (row["state"] == "stored" and not made) else None,
        accepted_at=row["accepted_at"],
        stored_at=row["stored_at"],
        searchable_at=max(at for receipt in made if (at := receipt.searchable_at)) if state == "searchable" else None,
        decided_because=row["reason"],
        insights=[
            ReceivedInsight.model_construct(insight_id=one.id, memory_id=one.memory_id, state=one.state) for one in made
        ]
        if row["state"] == "stored"
        else None,
    )


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
        searchable_at=_searchable_at(row) if state == "searchable" else None,
        decision=row["decision"],
        decided_because=row["decided_because"],
        supports=row["supports"],
    )


def _searchable_at(row: Row) -> datetime:
    """Since when it is found: a duplicate cannot be found before it came."""
    return max(row["embedded_at"], row["stored_at"]) if row["supports"] is not None else row["embedded_at"]


def _fate(row: Row) -> tuple[ReceiptState, str | None]:
    """A vector is saved, announced and searchable in one transaction: `embedded` and `searchable` are one moment."""
    if row["state"] == "parked":
        return "parked", row["reason"]
    if row["state"] == "accepted":
        return "accepted", None
    if not row["memory_exists"]:
        return "stored", "the memory is gone, or not yours to read any more"
    if row["embedding_state"] == "ready":
        return "searchable", None
    if row["embedding_state"] == "failed":
        return "failed", row["embedding_reason"]
    return "stored", None
