"""What was learned, as its readers list it, support it and link it to other memories."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import orjson

from memcube_common.contracts import learning
from memcube_common.contracts.fields import Governance
from memcube_common.db import Transaction
from memcube_common.db.pool import Row
from memcube_common.insights.store import QUERIES

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
