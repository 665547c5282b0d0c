"""What goes through the HTTP door: the bodies it takes and the answers it gives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from memcube_common.contracts.fields import (
    Closed,
    Content,
    EmbeddingState,
    FreeJson,
    Governance,
    Label,
    Lifecycle,
    MemoryType,
    Moment,
    Priority,
    ReceiptState,
    Reference,
    Tags,
    Trust,
    storable,
)
from memcube_common.ids import AgentName, Uuid7

MAX_BATCH = 500
MAX_RESULTS = 200


class InsightSubmission(Closed):
    """One thing an agent learned."""

    insight: Content = Field(description="What was learned, in words: 1 byte to 64 KiB of UTF-8.")
    id: Uuid7 | None = Field(
        default=None, description="UUIDv7 of the insight; the same id sent twice is one insight. Made if absent."
    )
    agent_id: AgentName | None = Field(default=None, description="Who learned it; the key's own name if absent.")
    label: Label | None = Field(default=None, description="Short name, 1-200 characters; made from the text if absent.")
    tags: Tags = Field(default_factory=list, description="At most 64 tags of 1-64 characters.")
    evidence_refs: Annotated[list[Reference], Field(max_length=64)] = Field(
        default_factory=list, description="Where it was learned: at most 64 references of 1-512 characters."
    )
    sentiment: Annotated[float, Field(ge=-1, le=1)] | None = Field(default=None, description="-1 … 1.")
    priority: Priority = "WARM"
    governance: Governance | None = Field(default=None, description="The defaults of governance if absent.")
    metadata: FreeJson = Field(default_factory=dict)


class InsightBatch(Closed):
    """Up to 500 insights, accepted together or not at all."""

    insights: Annotated[list[InsightSubmission], Field(min_length=1, max_length=MAX_BATCH)]


class ImportedMemory(Closed):
    """A memory that existed elsewhere, with its own time."""

    id: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)] = Field(
        description="Its id where it comes from; importing the same id again changes nothing."
    )
    content: Content
    label: Label | None = None
    tags: Tags = Field(default_factory=list)
    created_at: Moment | None = Field(default=None, description="When it was first known; now if absent.")
    created_by: AgentName | None = None
    priority: Priority = "WARM"
    governance: Governance | None = Field(default=None, description="The defaults of governance if absent.")
    metadata: FreeJson = Field(default_factory=dict)


class ImportBatch(Closed):
    """Up to 500 memories, kept together or not at all."""

    memories: Annotated[list[ImportedMemory], Field(min_length=1, max_length=MAX_BATCH)]


class Answer(BaseModel):
    """What MemCube answers; clients ignore fields they do not know."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class Receipt(Answer):
    """The fate of one write: accepted → stored → embedded → searchable, or failed / parked with the reason."""

    id: UUID
    project: str
    state: ReceiptState
    memory_id: UUID | None
    reason: str | None = None
    accepted_at: datetime | None = None
    stored_at: datetime | None = None
    searchable_at: datetime | None = None


class Receipts(Answer):
    """The receipts of a batch, in the order sent."""

    receipts: list[Receipt]


class ImportResult(Answer):
    """What became of one imported memory."""

    external_id: str
    memory_id: UUID
    status: Literal["created", "exists"]


class ImportResults(Answer):
    """The results of an import, in the order sent."""

    results: list[ImportResult]


class Embedding(Answer):
    """Where a memory stands on its way to being found by meaning."""

    state: EmbeddingState
    model: str | None = None
    reason: str | None = None


class Memory(Answer):
    """A memory as its readers see it."""

    id: UUID
    project_id: str
    label: str
    type: MemoryType
    version: int
    content: str | None
    origin: str
    provenance_id: UUID
    parents: list[UUID]
    tags: list[str]
    governance: Governance
    metadata: dict[str, JsonValue]
    priority: Priority
    lifecycle: Lifecycle
    trust: Trust
    usage_hits: int
    last_used: datetime | None
    kv_hint: str | None
    watermark: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    size_bytes: int
    token_count: int
    checksum: str
    embedding: Embedding


class FoundMemory(Memory):
    """A memory a query found, and why."""

    score: float = Field(description="Higher is better; comparable inside one answer only.")
    text_score: float | None = Field(default=None, description="How well its words match, if they do.")
    similarity: float | None = Field(default=None, description="Cosine similarity to the question, -1 … 1.")


class MemoryQuery(Closed):
    """What to look for. Without `text`, the newest memories that carry the tags."""

    text: Annotated[str, Field(min_length=1, max_length=8000), AfterValidator(storable)] | None = None
    tags: Tags = Field(default_factory=list, description="Only memories that carry all of these tags.")
    mode: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    limit: Annotated[int, Field(ge=1, le=MAX_RESULTS)] = 10
    as_of: Moment | None = Field(default=None, description="The reader's now; memories created later are left out.")


class QueryAnswer(Answer):
    """The memories found, best first."""

    memories: list[FoundMemory]
    mode: Literal["hybrid", "semantic", "keyword", "recent"] = Field(description="How the search was really made.")
    degraded: str | None = Field(default=None, description="Why less than asked was searched, if so.")
    took_ms: float = Field(description="Milliseconds spent in the server.")


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[dict[str, str]] = []
    resource: str | None = Field(default=None, description="What there is not enough of (`quota_exceeded`).")
    maximum: int | None = Field(default=None, description="What the project may have of it (`quota_exceeded`).")
