"""What MemCube answers, as typed values. Fields a newer server adds are kept, not refused."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Something the server said; a field unknown to this version is an attribute like any other."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)


class Receipt(Answer):
    """The fate of one write.

    state: accepted → stored (found by words) → searchable (found by meaning too), or `failed` (kept and found by
    words, but it will not get a vector) or `parked` (set aside for an operator), both with a `reason`.
    """

    id: UUID
    project: str
    state: str
    memory_id: UUID | None = None
    reason: str | None = None
    accepted_at: datetime | None = None
    stored_at: datetime | None = None
    searchable_at: datetime | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen by itself: searchable, failed or parked."""
        return self.state in {"searchable", "failed", "parked"}

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


class FoundMemory(Memory):
    """A memory a query found. `score`: higher is better, comparable inside one answer only."""

    score: float
    text_score: float | None = None
    similarity: float | None = Field(default=None, description="Cosine similarity to the question, -1 … 1.")


class Found(list[FoundMemory]):
    """The memories a query found, best first: a list that also says how it was made.

    mode: how the search was really made (hybrid, semantic, keyword, recent). degraded: why less than asked was
    searched, None if nothing was missing. took_ms: milliseconds spent in the server.
    """

    def __init__(self, memories: Iterable[FoundMemory], *, mode: str, degraded: str | None, took_ms: float) -> None:
        super().__init__(memories)
        self.mode = mode
        self.degraded = degraded
        self.took_ms = took_ms


class ImportResult(Answer):
    """What became of one imported memory. status: `created`, or `exists` if it was there before."""

    external_id: str
    memory_id: UUID
    status: str


class Change(Answer):
    """Something changed in the project: identity and state, never content.

    type: e.g. `memory.v1.created`. position: 1, 2, 3 … in the project; give it as `after` to go on behind it.
    Changes of memories carry memory_id, version, label, tags, lifecycle, actor and changed (names of fields).
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
    at: datetime | None = None


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
