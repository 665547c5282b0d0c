"""What goes through the HTTP door: the bodies it takes and the answers it gives."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from memcube_common.contracts.fields import (
    Closed,
    Content,
    Decision,
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


class FieldFault(Answer):
    """One refused field: its path, and the limit it broke."""

    field: str
    message: str


class ReceivedInsight(Answer):
    """One insight of a conversation: the memory that holds it, where that stands, and what was decided about it."""

    insight_id: UUID
    memory_id: UUID
    state: ReceiptState
    decision: Decision | None = None
    decided_because: str | None = None
    supports: UUID | None = None


class Receipt(Answer):
    """The fate of one write: accepted → stored → embedded → searchable, or failed / parked with the reason."""

    id: UUID
    project: str
    state: ReceiptState
    memory_id: UUID | None = Field(
        description="The memory that holds it: its own, or for a duplicate or an echo the one that was there."
        " None for a conversation."
    )
    reason: str | None = None
    accepted_at: datetime | None = None
    stored_at: datetime | None = None
    searchable_at: datetime | None = None
    decision: Decision | None = Field(
        default=None, description="What was made of an insight: a memory of its own (new), or none; None until decided."
    )
    decided_because: str | None = Field(default=None, description="Why, without a word of what it says.")
    supports: UUID | None = Field(default=None, description="The insight whose `support_count` it raised.")
    insights: list[ReceivedInsight] | None = Field(
        default=None, description="Of a conversation: what was made of it, once it is stored."
    )


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
    text_score: float | None = Field(
        default=None, description="The share of the question's information that its words carry, 0 … 1."
    )
    similarity: float | None = Field(default=None, description="Cosine similarity to the question, -1 … 1.")
    score_parts: dict[str, float] | None = Field(
        default=None,
        description="With `explain`: what each stage adds to the score before it is put between 0 and 1. `rerank` is"
        " the reranker's score, which adds nothing to it and decides about the place.",
    )


if TYPE_CHECKING:

    class PartialMemory(Answer):
        """A memory a query found, with the fields that were asked for; `id` is always there."""

        id: UUID
else:
    PartialMemory = create_model(
        "PartialMemory",
        __base__=Answer,
        __doc__="A memory a query found, with the fields that were asked for; `id` is always there.",
        id=(UUID, ...),
        **{
            name: (field.annotation | None, Field(default=None, description=field.description))
            for name, field in FoundMemory.model_fields.items()
            if name != "id"
        },
    )


MemoryField = Literal[
    "id",
    "project_id",
    "label",
    "type",
    "version",
    "content",
    "origin",
    "provenance_id",
    "parents",
    "tags",
    "governance",
    "metadata",
    "priority",
    "lifecycle",
    "trust",
    "usage_hits",
    "last_used",
    "kv_hint",
    "watermark",
    "created_by",
    "created_at",
    "updated_at",
    "size_bytes",
    "token_count",
    "checksum",
    "embedding",
    "score",
    "text_score",
    "similarity",
    "score_parts",
]
"""What a query may be asked to answer with: the fields of a found memory."""

Stage = Literal[
    "words", "meaning", "names", "length", "label", "neighbours", "times", "shape", "recency", "trust", "rerank"
]
"""What a ranking is made of; each can be done without."""


Listed = TypeVar("Listed", bound=Hashable)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _different(values: list[Listed]) -> list[Listed]:
    return list(dict.fromkeys(values))


Types = Annotated[
    list[MemoryType],
    Field(min_length=1, max_length=64),
    AfterValidator(_different),
    BeforeValidator(
        _listed, json_schema_input_type=MemoryType | Annotated[list[MemoryType], Field(min_length=1, max_length=64)]
    ),
]
Priorities = Annotated[
    list[Priority],
    Field(min_length=1, max_length=64),
    AfterValidator(_different),
    BeforeValidator(
        _listed, json_schema_input_type=Priority | Annotated[list[Priority], Field(min_length=1, max_length=64)]
    ),
]
Lifecycles = Annotated[
    list[Lifecycle],
    Field(min_length=1, max_length=64),
    AfterValidator(_different),
    BeforeValidator(
        _listed, json_schema_input_type=Lifecycle | Annotated[list[Lifecycle], Field(min_length=1, max_length=64)]
    ),
]
Trusts = Annotated[
    list[Trust],
    Field(min_length=1, max_length=64),
    AfterValidator(_different),
    BeforeValidator(_listed, json_schema_input_type=Trust | Annotated[list[Trust], Field(min_length=1, max_length=64)]),
]
Makers = Annotated[
    list[Reference],
    Field(min_length=1, max_length=64),
    AfterValidator(_different),
    BeforeValidator(
        _listed, json_schema_input_type=Reference | Annotated[list[Reference], Field(min_length=1, max_length=64)]
    ),
]
LabelPart = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)]


class LabelFilter(Closed):
    """Which labels: taken literally, `%` and `_` mean themselves. Where several are given, all must hold."""

    equals: LabelPart | None = Field(default=None, description="The whole label.")
    prefix: LabelPart | None = Field(default=None, description="What it begins with.")
    contains: LabelPart | None = Field(default=None, description="What stands in it, upper or lower case alike.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.equals is None and self.prefix is None and self.contains is None:
            raise ValueError("needs one of equals, prefix, contains")
        return self


class MemoryQuery(Closed):
    """What to look for.

    With `text` or `embedding` the answer is ranked, best first; without, it is a listing of the memories that fit. All
    that is given must hold. Filters are applied before `limit` cuts, so an answer is not short because of them.
    """

    text: Annotated[str, Field(min_length=1, max_length=8000), AfterValidator(storable)] | None = Field(
        default=None, description="A question or words."
    )
    embedding: Annotated[list[float], Field(min_length=1, max_length=4000)] | None = Field(
        default=None,
        description="A vector by the model of the memories' own, in place of the one made of `text`: as many numbers as"
        " that model gives, not all zero. With both, words are those of `text`.",
    )
    mode: Literal["hybrid", "semantic", "keyword"] = Field(
        default="hybrid", description="By words and meaning, or one of them."
    )
    similarity_threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Least cosine similarity to the question. A cosine distance (`embedding <=> query`) of at most d is"
        " a similarity of at least 1 - d; a Euclidean one (`<->`) of d between vectors of length 1 is one of 1 - d²/2.",
    )
    tags: Tags = Field(default_factory=list, description="Only memories that carry all of these tags.")
    tags_any: Tags = Field(default_factory=list, description="Only memories that carry at least one of these tags.")
    tags_none: Tags = Field(default_factory=list, description="Only memories that carry none of these tags.")
    type: Types | None = Field(default=None, description="One type, or a list of types.")
    priority: Priorities | None = Field(default=None, description="One priority, or a list.")
    lifecycle: Lifecycles | None = Field(
        default=None,
        description="One state, or a list. Without it NEW, ACTIVE and STALE; ARCHIVED and EXPIRED only where named, and"
        " EXPIRED only to OWNER, ADMIN and SERVICE.",
    )
    trust: Trusts | None = Field(default=None, description="One, or a list.")
    label: LabelFilter | None = None
    metadata: FreeJson | None = Field(
        default=None, description="What `metadata` must contain, as jsonb's `@>` has it: every key with that value."
    )
    created_by: Makers | None = Field(default=None, description="Who made it: one handle, or a list.")
    created_after: Moment | None = Field(default=None, description="Created later than this.")
    created_before: Moment | None = Field(default=None, description="Created earlier than this.")
    updated_after: Moment | None = Field(default=None, description="Changed last later than this.")
    updated_before: Moment | None = Field(default=None, description="Changed last earlier than this.")
    ids: Annotated[list[UUID], Field(min_length=1, max_length=200), AfterValidator(_different)] | None = Field(
        default=None, description="Only these."
    )
    as_of: Moment | None = Field(default=None, description="The reader's now; memories created later are left out.")
    order_by: Literal["relevance", "created_at", "updated_at", "label"] | None = Field(
        default=None,
        description="relevance if absent with text or embedding, created_at without. Any other order with text or"
        " embedding is that of the 1,000 most relevant. Labels are ordered by their characters' numbers; what is equal,"
        " by id.",
    )
    order: Literal["asc", "desc"] | None = Field(
        default=None, description="desc if absent (labels: asc); relevance is always desc."
    )
    limit: Annotated[int, Field(ge=1, le=MAX_RESULTS)] = 10
    cursor: Annotated[str, Field(min_length=1, max_length=8192)] | None = Field(
        default=None,
        description="`next_cursor` of the page before, with the same query; limit, count and fields may differ.",
    )
    count: bool = Field(default=False, description="Also count: `total`, up to 10,000.")
    explain: bool = Field(default=False, description="Also tell what each score is made of: `score_parts`.")
    without: Annotated[list[Stage], Field(max_length=11), AfterValidator(_different)] = Field(
        default_factory=list,
        description="Stages of the ranking to do without, to see what each is worth. `names` leaves names that stand"
        " nearly everywhere out of the meaning of `text`; `rerank`, in a house that has a reranker, puts the first page"
        " of a hybrid search into its order.",
    )
    fields: Annotated[list[MemoryField], Field(min_length=1, max_length=64), AfterValidator(_different)] | None = Field(
        default=None,
        description="Only these fields, and `id`. Without content, size_bytes, token_count and checksum among them,"
        " what was written is not read, and not marked as read either.",
    )

    @field_validator("mode", "similarity_threshold", "order_by", "order", "embedding", mode="after")
    @classmethod
    def _agrees(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what contradicts a field before it, under the name of the field that could be left out."""
        given = info.data
        if "text" not in given or (info.field_name != "embedding" and "embedding" not in given):
            return value  # refused itself
        ranked = given["text"] is not None or given.get("embedding") is not None
        match info.field_name:
            case "embedding" if value is not None and not any(value):
                raise ValueError("must not be all zero")
            case "mode" if value != "hybrid" and not ranked:
                raise ValueError("needs text or embedding")
            case "mode" if value == "keyword" and given["text"] is None:
                raise ValueError("keyword needs text")
            case "mode" if value == "keyword" and given["embedding"] is not None:
                raise ValueError("keyword does not use the embedding")
            case "similarity_threshold" if value is not None and not ranked:
                raise ValueError("needs text or embedding")
            case "similarity_threshold" if value is not None and given.get("mode") == "keyword":
                raise ValueError("keyword mode compares no meanings")
            case "order_by" if value == "relevance" and not ranked:
                raise ValueError("relevance needs text or embedding")
            case "order" if value == "asc" and ranked and given.get("order_by") in (None, "relevance"):
                raise ValueError("relevance is always desc")
            case _:
                return value

    @field_validator("created_before", "updated_before", mode="after")
    @classmethod
    def _spans(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        begins = info.data.get(str(info.field_name).replace("before", "after"))
        if value is not None and begins is not None and value <= begins:
            raise ValueError("must be later than the time after which")
        return value


class QueryAnswer(Answer):
    """A page of the memories found, in order."""

    memories: list[FoundMemory]
    mode: Literal["hybrid", "semantic", "keyword", "recent"] = Field(
        description="How the search was really made; `recent` is a listing, in whatever order."
    )
    degraded: str | None = Field(default=None, description="Why less than asked was searched, if so.")
    took_ms: float = Field(description="Milliseconds spent in the server.")
    next_cursor: str | None = Field(
        default=None,
        description="Where the next page begins; null at the end, which for ranked answers comes after 1,000 memories"
        " at the latest. A page may be short or empty and still have one: a listing looks at 20,000 memories a page.",
    )
    total: int | None = Field(
        default=None,
        description="How many memories there are, where `count` was asked: those that fit; of a ranked answer those"
        " that its words match or that have a vector.",
    )
    total_is_exact: bool | None = Field(default=None, description="Else there are at least `total`.")


class PartialAnswer(QueryAnswer):
    """The same, where `fields` was given."""

    memories: list[PartialMemory]  # pyright: ignore[reportIncompatibleVariableOverride]  (fewer fields, the same keys)


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
