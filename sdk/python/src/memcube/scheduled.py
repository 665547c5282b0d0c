"""What was chosen for an agent, as typed values: schedules, their records, and a choice made again."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from memcube.models import Answer


class ScheduledMemory(Answer):
    """A memory of a schedule. `kind` is `insight` for one that is not a memory of its own yet.

    content: its text, None for binary memories, whose `kv_hint` says where the bytes are. reason: chosen or pinned.
    """

    id: UUID
    kind: str = "memory"
    version: int
    label: str
    type: str
    tags: list[str] = []
    priority: str
    trust: str
    created_at: datetime
    content: str | None = None
    kv_hint: str | None = None
    score: float
    tokens: int
    reason: str


class ScheduleCandidate(Answer):
    """A memory that was weighed: its score, the `parts` it is made of, what it costs, and what became of it.

    reason: chosen, pinned, or why it was left: budget, redundant (with `redundant_with`), stale, governance,
    quarantined, irrelevant.
    """

    id: UUID
    version: int
    score: float
    parts: dict[str, float] = {}
    tokens: int
    reason: str
    redundant_with: UUID | None = None


class Schedule(Answer):
    """Memories chosen for an agent, best first behind the pinned ones, and their rendering.

    prompt: what goes before the agent's own prompt, `tokens_used` tokens (o200k), never more than `token_budget`.
    candidates: everything that was weighed, where `explain` was asked for. degraded: what the choice had to do without,
    None if nothing was missing. took_ms: milliseconds spent in the server.
    """

    id: UUID
    agent_id: str
    task_id: str | None = None
    made_at: datetime
    token_budget: int
    tokens_used: int
    memories: list[ScheduledMemory]
    prompt: str
    candidates: list[ScheduleCandidate] | None = None
    considered: int
    degraded: str | None = None
    cached: bool = False
    took_ms: float


class ScheduleRecord(Answer):
    """A schedule as it was recorded, without what was written: `asked` holds digests in place of text and embedding.

    candidates: None in a list; `client.schedules.get` brings them.
    """

    id: UUID
    agent_id: str
    task_id: str | None = None
    made_by: str
    made_at: datetime
    asked: dict[str, Any] = {}
    weights: dict[str, float] = {}
    token_budget: int
    tokens_used: int
    chosen: list[UUID]
    candidates: list[ScheduleCandidate] | None = None
    embedding_model: str | None = None


class Replay(Answer):
    """A recorded schedule chosen again, with each memory's text as it was then.

    same: whether the same memories came out in the same order. missing: those that are gone, or that you may not read.
    """

    schedule: Schedule
    same: bool
    missing: list[UUID] = []


class ScheduleRecords(Answer):
    """A page of recorded schedules, newest first; `next_cursor` is where the next one begins."""

    schedules: list[ScheduleRecord]
    next_cursor: str | None = None
