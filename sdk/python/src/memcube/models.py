"""What MemCube answers, as typed values. Fields a newer server adds are kept, not refused."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator


class Answer(BaseModel):
    """Something the server said; a field unknown to this version is an attribute like any other."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)


class ReceivedInsight(Answer):
    """One insight that was made of a conversation; `decision` and what follows as on the receipt of an insight."""

    insight_id: UUID
    memory_id: UUID
    state: str
    decision: str | None = None
    decided_because: str | None = None
    supports: UUID | None = None


class Receipt(Answer):
    """The fate of one write.

    state: accepted → stored (found by words) → searchable (found by meaning too), or `failed` (kept and found by
    words, but it will not get a vector) or `parked` (set aside for an operator), both with a `reason`.
    decision: `new`; `duplicate`, `near_duplicate` (it `supports` an insight that was there, whose memory is
    `memory_id`) or `echo` (it repeats what was recalled), with `decided_because`; None until it is decided.
    insights: what was made of a conversation, once it is stored.
    """

    id: UUID
    project: str
    state: str
    memory_id: UUID | None = None
    reason: str | None = None
    accepted_at: datetime | None = None
    stored_at: datetime | None = None
    searchable_at: datetime | None = None
    decision: str | None = None
    decided_because: str | None = None
    supports: UUID | None = None
    insights: list[ReceivedInsight] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen by itself: searchable, failed, parked, or stored with a `reason` why not."""
        return self.state in {"searchable", "failed", "parked"} or (self.state == "stored" and self.reason is not None)

    def has_reached(self, until: str) -> bool:
        """Whether the write is at least `stored`, or `searchable`."""
        return self.state in {"stored": {"stored", "embedded", "searchable", "failed"}}.get(until, {until})


class Embedding(Answer):
    """Where a memory stands on its way to being found by meaning: pending, ready, or failed with a reason."""

    state: str
    model: str | None = None
    reason: str | None = None


class Memory(Answer):
    """A memory as you may see it. `size_bytes` counts UTF-8 bytes, `token_count` o200k tokens."""

    id: UUID
    project_id: str
    label: str
    type: str
    version: int
    content: str | None = None
    origin: str
    provenance_id: UUID | None = None
    parents: list[UUID] = []
    tags: list[str] = []
    governance: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    priority: str
    lifecycle: str
    trust: str
    usage_hits: int = 0
    last_used: datetime | None = None
    kv_hint: str | None = None
    watermark: str | None = None
    created_by: str
    created_at: datetime
    updated_at: datetime
    size_bytes: int | None = None
    token_count: int | None = None
    checksum: str | None = None
    embedding: Embedding | None = None


class PayloadLink(Answer):
    """An address under which anybody may read the bytes of a memory until it is over.

    checksum: SHA-256 of the bytes, in hexadecimal; compare it, since a bucket does not check what it hands out.
    """

    url: str
    expires_at: datetime
    size_bytes: int
    checksum: str


class FoundMemory(Memory):
    """A memory a query found. `score`: higher is better, comparable inside one answer only."""

    score: float
    text_score: float | None = None
    similarity: float | None = Field(default=None, description="Cosine similarity to the question, -1 … 1.")


class Found(list[FoundMemory]):
    """The memories a query found, best first: a list that also says how it was made.

    mode: how the search was really made (hybrid, semantic, keyword; recent is a listing). degraded: why less than asked
    was searched, None if nothing was missing. took_ms: milliseconds spent in the server. next_cursor: where the next
    page begins, None at the end; a page may be short and have one. total: how many there are, where `count` was asked;
    where it is not exact (total_is_exact), at least so many.
    """

    def __init__(
        self,
        memories: Iterable[FoundMemory],
        *,
        mode: str,
        degraded: str | None,
        took_ms: float,
        next_cursor: str | None = None,
        total: int | None = None,
        total_is_exact: bool | None = None,
    ) -> None:
        super().__init__(memories)
        self.mode = mode
        self.degraded = degraded
        self.took_ms = took_ms
        self.next_cursor = next_cursor
        self.total = total
        self.total_is_exact = total_is_exact


class ImportResult(Answer):
    """What became of one imported memory. status: `created`, or `exists` if it was there before."""

    external_id: str
    memory_id: UUID
    status: str


class BatchResult(Answer):
    """What became of one memory of a batch: `created`, `exists`, or `refused` with `code`, `detail` and `errors`."""

    status: str
    id: UUID | None = None
    code: str | None = None
    detail: str | None = None
    errors: list[dict[str, str]] = []


class Version(Answer):
    """One version of a memory: who made it and when, what it changed of the one before, and its fields then.

    content: where one version was asked for, its text; None for bytes and in lists.
    """

    version: int
    by: str
    at: datetime
    changed: list[str] = []
    label: str
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    governance: dict[str, Any] = {}
    priority: str
    lifecycle: str
    kv_hint: str | None = None
    size_bytes: int
    token_count: int
    checksum: str
    content: str | None = None


class VersionChange(Answer):
    """One field that differs between two versions; `diff`: of text, a unified diff, None if too many lines differ."""

    field: str
    before: Any = None
    after: Any = None
    diff: str | None = None


class MemoryEvent(Answer):
    """One entry of a memory's audit trail: what happened, who did it, in which role and from where."""

    seq: int
    kind: str
    version: int
    changed: list[str] = []
    actor: str
    role: str
    source: str
    at: datetime


class Relative(Answer):
    """A memory this one was derived from, or that was derived from it, `distance` steps away."""

    id: UUID
    distance: int
    label: str
    type: str
    version: int
    lifecycle: str
    parents: list[UUID] = []
    origin: str
    created_by: str
    created_at: datetime


class Lineage(Answer):
    """Where a memory comes from and what came of it, nearest first, as far as you may see."""

    memory_id: UUID
    ancestors: list[Relative] = []
    descendants: list[Relative] = []


class BatchAnswer(Answer):
    """The wire form of a batch's results, in the order sent."""

    results: list[BatchResult]


class VersionsAnswer(Answer):
    """The wire form of a page of versions."""

    versions: list[Version]
    next_before: int | None = None


class DiffAnswer(Answer):
    """The wire form of what differs between two versions."""

    changes: list[VersionChange]


class EventsAnswer(Answer):
    """The wire form of a page of the audit trail."""

    events: list[MemoryEvent]
    next_before: int | None = None


class PurgedAnswer(Answer):
    """The wire form of what was purged."""

    purged: list[UUID]


class Change(Answer):
    """Something changed in the project: identity and state, never content.

    type: e.g. `memory.v1.created`. position: 1, 2, 3 … in the project; give it as `after` to go on behind it.
    Changes of memories carry memory_id, version, label, tags, lifecycle, actor and changed (names of fields); of tasks
    memory_id, task_id, role and actor; of chains chain_id, version, name, items, actor and changed.
    """

    type: str
    position: int
    project: str | None = None
    at: datetime | None = None
    memory_id: UUID | None = None
    version: int | None = None
    memory_type: str | None = None
    label: str | None = None
    tags: list[str] = []
    lifecycle: str | None = None
    actor: str | None = None
    changed: list[str] = []
    receipt_id: UUID | None = None
    agent: str | None = None
    reason: str | None = None
    task_id: str | None = None
    role: str | None = None
    chain_id: UUID | None = None
    name: str | None = None
    items: int | None = None


class Reset(Answer):
    """The position asked for is too old to be replayed: changes were missed. Read the state anew; the stream goes on.

    position: behind it the stream goes on, with the oldest change that is kept.
    """

    position: int | None = None


class Published(Answer):
    """An insight is durable in the stream: its id (its receipt's id too), and its place there (0: not told to agents).

    duplicate: the server had it already, from an earlier attempt.
    """

    id: UUID
    sequence: int
    duplicate: bool = False


class ReceiptNews(Answer):
    """What became of an insight sent over NATS. type: `receipt.v1.stored`, `.searchable`, `.failed`, `.parked`."""

    type: str
    position: int
    receipt_id: UUID
    memory_id: UUID | None = None
    agent: str | None = None
    reason: str | None = None
    decision: str | None = None
    decided_because: str | None = None
    supports: UUID | None = None
    at: datetime | None = None


class ProjectSettings(Answer):
    """What a project decides about what is written into it; `near_duplicates` is None where it is off."""

    screening: str
    near_duplicates: float | None = None


class Insight(Answer):
    """Something an agent learned, and what became of it. `support_count`: how often it was learned or supported."""

    id: UUID
    project_id: str
    agent_id: str
    insight: str
    label: str | None = None
    tags: list[str] = []
    evidence_refs: list[str] = []
    sentiment: float | None = None
    support_count: int = 1
    priority: str
    governance: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    memory_id: UUID
    state: str
    reason: str | None = None
    decision: str | None = None
    decided_because: str | None = None
    supports: UUID | None = None
    accepted_at: datetime
    stored_at: datetime | None = None


class InsightsPage(Answer):
    """A page of insights, newest first; it may hold fewer than asked and have a next one."""

    insights: list[Insight]
    next_cursor: str | None = None


class Weighed(Answer):
    """One insight that would be stored, and what would be decided about it. `memory_id`: what is there already."""

    insight: str
    label: str
    tags: list[str] = []
    decision: str
    decided_because: str | None = None
    memory_id: UUID | None = None
    kind: str | None = None
    confidence: float | None = None


class DryRun(Answer):
    """What would be stored; nothing was. how: `extracted` by a language model, `as_they_are`, or `given`."""

    insights: list[Weighed]
    how: str
    reason: str | None = None


class ReceiptsAnswer(Answer):
    """The wire form of a batch's receipts, in the order sent."""

    receipts: list[Receipt]


class ImportAnswer(Answer):
    """The wire form of an import's results, in the order sent."""

    results: list[ImportResult]


class QueryAnswer(Answer):
    """The wire form of a query's answer."""

    memories: list[FoundMemory]
    mode: str
    degraded: str | None = None
    took_ms: float = 0.0
    next_cursor: str | None = None
    total: int | None = None
    total_is_exact: bool | None = None


def _or_none(kind: Any) -> Any:
    return kind | None


PartialMemory: Final[type[FoundMemory]] = create_model(
    "PartialMemory",
    __base__=FoundMemory,
    __doc__="A memory of which only some fields were asked for: the others are None.",
    **cast("Any", {n: (_or_none(f.annotation), None) for n, f in FoundMemory.model_fields.items() if n != "id"}),
)


class PartialQueryAnswer(QueryAnswer):
    """The same, where only some fields were asked for."""

    @field_validator("memories", mode="before")
    @classmethod
    def _partly(cls, memories: list[object]) -> list[FoundMemory]:
        return [PartialMemory.model_validate(memory) for memory in memories]
