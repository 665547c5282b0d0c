"""Facts: what has happened, in the past tense. An event class carries its own name; its subject is derived."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from memcube_common.contracts.fields import (
    Content,
    Decision,
    FreeJson,
    Governance,
    Label,
    Lifecycle,
    MemoryType,
    Moment,
    Priority,
    QuotaResource,
    Reference,
    Tags,
)
from memcube_common.ids import AgentName, ProjectSlug, TaskName, Uuid7


class Event(BaseModel):
    """A fact on the bus. Readers ignore fields they do not know; within a version only optional fields are added."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    type: ClassVar[str]
    stream: ClassVar[Literal["INSIGHTS", "CHANGES"]]
    per_agent: ClassVar[bool] = False

    @classmethod
    def subject(cls, project: str, agent: str | None = None) -> str:
        """The one subject this event travels on for `project` (and for `agent`, where its subject names one)."""
        if cls.per_agent != (agent is not None):
            raise ValueError(f"{cls.type}: an agent is {'required' if cls.per_agent else 'not part of the subject'}")
        return f"memcube.{project}.{cls.type}" + (f".{agent}" if agent is not None else "")


class InsightSubmitted(Event):
    """An agent learned something. Project and sender are taken from the subject, never from the body."""

    type = "insight.v1.submitted"
    stream = "INSIGHTS"
    per_agent = True

    id: Uuid7 = Field(description="Made by the sender; the same id delivered twice is one insight.")
    insight: Content = Field(description="What was learned, in words.")
    label: Label | None = None
    tags: Tags = Field(default_factory=list)
    evidence_refs: Annotated[list[Reference], Field(max_length=64)] = Field(default_factory=list)
    sentiment: Annotated[float, Field(ge=-1, le=1)] | None = None
    priority: Priority = "WARM"
    governance: Governance | None = Field(default=None, description="The defaults of governance if absent.")
    metadata: FreeJson = Field(default_factory=dict)


class Change(Event):
    """A fact about what MemCube holds, numbered without gaps inside its project."""

    stream = "CHANGES"

    id: str = Field(description="'<project>/<position>': unique, and the same on every delivery.")
    project: ProjectSlug
    position: Annotated[int, Field(ge=1)] = Field(description="1, 2, 3 … inside the project; SSE's event id.")
    at: Moment


class MemoryChange(Change):
    """A memory changed. Identity and state, never content."""

    memory_id: UUID
    version: Annotated[int, Field(ge=1)]
    memory_type: MemoryType
    label: Label
    tags: Tags
    lifecycle: Lifecycle
    actor: str
    changed: list[str] = Field(default_factory=list, description="Names of the fields that changed.")


class MemoryCreated(MemoryChange):
    """A memory exists and can be found by its words."""

    type = "memory.v1.created"


class MemoryUpdated(MemoryChange):
    """A memory has a new version or new settings."""

    type = "memory.v1.updated"


class MemoryEmbedded(MemoryChange):
    """A memory has a vector of the current model; it can now be found by meaning."""

    type = "memory.v1.embedded"


class MemoryPromoted(MemoryChange):
    """A memory has proved itself and is active."""

    type = "memory.v1.promoted"


class MemoryArchived(MemoryChange):
    """A memory was put away; it is kept but no longer found."""

    type = "memory.v1.archived"


class MemoryExpired(MemoryChange):
    """A memory outlived its governance."""

    type = "memory.v1.expired"


class MemoryRestored(MemoryChange):
    """An archived or expired memory is back."""

    type = "memory.v1.restored"


class MemoryPurged(MemoryChange):
    """A memory is gone for good, and with it what it was called: the label is '(purged)', tags are none."""

    type = "memory.v1.purged"


class ReceiptFact(Change):
    """What became of an insight that an agent sent over NATS."""

    per_agent = True

    receipt_id: UUID
    memory_id: UUID | None = None
    agent: AgentName
    reason: str | None = None
    decision: Decision | None = Field(
        default=None, description="A memory of its own (new), or none because one was there that says it."
    )
    decided_because: str | None = Field(default=None, description="Why, without a word of what it says.")
    supports: UUID | None = Field(default=None, description="The insight whose support was raised.")


class ReceiptStored(ReceiptFact):
    """The insight is durable, and its memory can be found by its words."""

    type = "receipt.v1.stored"


class ReceiptSearchable(ReceiptFact):
    """The insight's memory can be found by meaning."""

    type = "receipt.v1.searchable"


class ReceiptFailed(ReceiptFact):
    """The insight's memory will not get a vector; it can still be found by its words."""

    type = "receipt.v1.failed"


class ReceiptParked(ReceiptFact):
    """The insight was set aside with its reason; an operator can replay it."""

    type = "receipt.v1.parked"


class QuotaFact(Change):
    """How much of a resource a project has used."""

    resource: QuotaResource
    used: Annotated[int, Field(ge=0)] = Field(description="When this was announced.")
    max: Annotated[int, Field(ge=0)] = Field(description="What the project may have of it.")


class QuotaWarned(QuotaFact):
    """80 % of what the project may have are used. Said once, until under 70 % are used again or a new day begins."""

    type = "quota.v1.warned"


class QuotaExhausted(QuotaFact):
    """All is used, or something was refused. Said once, until under 90 % are used again or a new day begins."""

    type = "quota.v1.exhausted"


class TaskChange(Change):
    """A task and a memory belong together, or do not any more. Told to whom the memory concerns."""

    memory_id: UUID
    task_id: TaskName
    role: Literal["READ", "WRITE"]
    actor: str


class TaskLinked(TaskChange):
    """A task has read a memory, or written it."""

    type = "task.v1.linked"


class TaskUnlinked(TaskChange):
    """A memory was taken off a task. Of a memory that is gone its purge says it."""

    type = "task.v1.unlinked"


class ChainChange(Change):
    """An ordered sequence of memories changed. Told to who may read the chain."""

    chain_id: UUID
    version: Annotated[int, Field(ge=1)]
    name: str = Field(description="What it is called; '(deleted)' once it is.")
    items: Annotated[int, Field(ge=0)] = Field(
        description="How many of its items every MEMBER and AGENT may read; restricted ones are not counted."
    )
    actor: str


class ChainCreated(ChainChange):
    """A chain exists."""

    type = "chain.v1.created"


class ChainUpdated(ChainChange):
    """A chain has other items, another order or another name."""

    type = "chain.v1.updated"

    changed: list[str] = Field(default_factory=list, description="items, name, description, governance.")


class ChainDeleted(ChainChange):
    """A chain is gone; its memories are not."""

    type = "chain.v1.deleted"
