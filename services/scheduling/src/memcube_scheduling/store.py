"""What the scheduling room reads of memories: no more than is needed to weigh them, and the texts of the chosen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from memcube_common.contracts.fields import MemoryType, Priority, Trust
from memcube_common.db import Statements, Transaction
from memcube_common.db.pool import Row
from memcube_common.memories.domain import label_from, unpack
from memcube_scheduling.domain.scores import NO_FIT, Decay, Fit, Known

QUERIES = Statements(__package__)

RECENT: Final = 200
INSIGHTS: Final = 50


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate as it was found. tokens: of its content; content, words, fit: of an insight, which is read whole.

    audited: each reading of it is to be marked.
    """

    known: Known
    type: MemoryType
    kv_hint: str | None
    tokens: int
    content: str | None = None
    words: str = ""
    fit: Fit = NO_FIT
    audited: bool = False


@dataclass(frozen=True, slots=True)
class ToldThen:
    """What a memory or an insight said when it was told."""

    label: str
    tags: list[str]
    priority: Priority
    trust: Trust
    type: MemoryType
    kv_hint: str | None
    created_at: datetime
    content: str | None


async def read_candidates(
    tx: Transaction,
    *,
    project: str,
    found: Sequence[UUID],
    task_id: str | None,
    tags: Collection[str],
    recent: bool,
    as_of: datetime | None,
    agent: str,
    for_another: bool,
) -> list[Found]:
    """What comes into question, without what it says. for_another: the reader's rights are more than the agent's."""
    rows = await tx.fetch(
        QUERIES["read_candidates"],
        project,
        found,
        task_id,
        list(tags),
        RECENT if recent else 0,
        as_of,
        agent,
        for_another,
    )
    return [
        Found(_known(row), row["type"], row["kv_hint"], row["token_count"], audited=row["audit_reads"]) for row in rows
    ]


async def read_insights(
    tx: Transaction, *, project: str, text: str | None, as_of: datetime | None, agent: str
) -> list[Found]:
    """Insights that are no memories yet, with their share of the text's words as their relevance."""
    rows = await tx.fetch(QUERIES["read_insights"], project, text, INSIGHTS, as_of, agent)
    return [_waiting(row) for row in rows]


async def current_generation(tx: Transaction) -> int | None:
    """The generation of vectors that questions are compared with; None before the first."""
    generation: int | None = await tx.fetch_value(QUERIES["current_generation"])
    return generation


async def read_words(tx: Transaction, *, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The words by which memories are found, one a line."""
    rows = await tx.fetch(QUERIES["read_words"], ids)
    return {row["memory_id"]: row["words"] or "" for row in rows}


async def read_texts(tx: Transaction, *, project: str, versions: Mapping[UUID, int]) -> dict[UUID, str]:
    """What memories say, of those still in the version that was weighed; their audit trail says that it was read."""
    rows = await tx.fetch(QUERIES["read_texts"], project, list(versions))
    return {
        row["memory_id"]: unpack(row["content"], row["content_zstd"]) or ""
        for row in rows
        if row["version"] == versions[row["memory_id"]]
    }


async def read_told(tx: Transaction, *, project: str, versions: Mapping[UUID, int]) -> dict[UUID, ToldThen]:
    """What memories said as of these versions, as far as they are there and the principal may read them now."""
    rows = await tx.fetch(QUERIES["read_told"], project, list(versions), list(versions.values()))
    return {
        row["id"]: ToldThen(
            row["label"],
            row["tags"],
            row["priority"],
            row["trust"],
            row["type"],
            row["kv_hint"],
            row["created_at"],
            unpack(row["content"], row["content_zstd"]) if row["type"] == "PLAINTEXT" else None,
        )
        for row in rows
    }


async def read_told_insights(tx: Transaction, *, ids: Sequence[UUID]) -> dict[UUID, ToldThen]:
    """What insights said that were no memories yet, as far as they are there and the principal may read them now."""
    rows = await tx.fetch(QUERIES["read_told_insights"], ids)
    return {
        row["id"]: ToldThen(
            _label(row),
            row["tags"],
            row["priority"],
            "trusted",
            "PLAINTEXT",
            None,
            row["accepted_at"],
            row["insight"],
        )
        for row in rows
    }


def _known(row: Row) -> Known:
    return Known(
        id=row["id"],
        version=row["version"],
        label=row["label"],
        tags=row["tags"],
        priority=row["priority"],
        created_at=row["created_at"],
        lifecycle=row["lifecycle"],
        trust=row["trust"],
        usage_hits=row["usage_hits"],
        last_used=row["last_used"],
        expires_at=row["expires_at"],
        pinned=row["pinned"],
        decay=Decay(row["half_life"], row["floor"] or 0.0) if row["decays"] else None,
        linked=row["linked"],
        kept_from=row["kept_from"],
        feedback=row["feedback"],
    )


def _waiting(row: Row) -> Found:
    asked = set(row["asked"].split())
    matched = len(asked.intersection(row["words"].split()))
    known = Known(
        id=row["id"],
        version=0,
        label=_label(row),
        tags=row["tags"],
        priority=row["priority"],
        created_at=row["accepted_at"],
        kind="insight",
        kept_from=row["kept_from"],
    )
    fit = Fit(matched / len(asked) if asked else 0.0, None, matched > 0)
    return Found(known, "PLAINTEXT", None, 0, row["insight"], row["words"], fit)


def _label(row: Row) -> str:
    return row["label"] or label_from(row["insight"])
