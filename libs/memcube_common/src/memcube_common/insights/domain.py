"""What an insight is, and the memory it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import orjson

from memcube_common.contracts.api import InsightSubmission
from memcube_common.contracts.events import InsightSubmitted
from memcube_common.contracts.fields import Priority, governance_json
from memcube_common.ids import derive, new_id
from memcube_common.memories.domain import NewMemory, label_from

Via = Literal["http", "nats"]


@dataclass(frozen=True, slots=True)
class Insight:
    """Something an agent learned. `governance` and `metadata` are JSON texts already validated."""

    id: UUID
    agent_id: str
    insight: str
    label: str | None
    tags: tuple[str, ...]
    evidence_refs: tuple[str, ...]
    sentiment: float | None
    priority: Priority
    governance: str
    metadata: str

    @property
    def memory_id(self) -> UUID:
        """The id of the memory this insight becomes: known from the first moment, the same on every delivery."""
        return derive(self.id, "memory")


def from_event(event: InsightSubmitted, agent: str) -> Insight:
    """The insight that `agent` published."""
    return _build(event.id, agent, event)


def from_submission(submission: InsightSubmission, agent: str) -> Insight:
    """The insight that was posted, under its own id or a fresh one."""
    return _build(submission.id or new_id(), submission.agent_id or agent, submission)


def distil(insight: Insight, now: datetime) -> NewMemory:
    """The memory that an insight becomes: its own words, labelled, tagged and governed as its sender said."""
    memory_id = insight.memory_id
    return NewMemory(
        id=memory_id,
        label=insight.label or label_from(insight.insight),
        content=insight.insight,
        origin=f"insight:{insight.id}",
        provenance_id=memory_id,
        tags=insight.tags,
        governance=insight.governance,
        metadata=insight.metadata,
        priority=insight.priority,
        created_by=insight.agent_id,
        created_at=now,
    )


def _build(identity: UUID, agent: str, body: InsightSubmission | InsightSubmitted) -> Insight:
    return Insight(
        id=identity,
        agent_id=agent,
        insight=body.insight,
        label=body.label,
        tags=tuple(body.tags),
        evidence_refs=tuple(body.evidence_refs),
        sentiment=body.sentiment,
        priority=body.priority,
        governance=governance_json(body.governance),
        metadata=orjson.dumps(body.metadata).decode(),
    )
