"""The memory book through the HTTP door: memories made, changed, put away, compared and traced."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, JsonValue, StringConstraints, field_validator, model_validator
from pydantic.functional_validators import AfterValidator

from memcube_common.contracts.api import MAX_BATCH, Answer, FieldFault
from memcube_common.contracts.fields import (
    Closed,
    Content,
    FreeJson,
    Governance,
    Label,
    Lifecycle,
    MemoryType,
    Priority,
    Tags,
    storable,
)
from memcube_common.ids import Uuid7

PARENTS_MAX = 64

Hint = Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(storable)]
"""Where a runtime finds what a binary memory is for (a model, a layer, a cache slot): 1-512 characters."""


class MemoryFields(Closed):
    """What a memory is made with beside its content."""

    id: Uuid7 | None = Field(default=None, description="UUIDv7, so that sending again is safe; made if absent.")
    label: Label | None = Field(default=None, description="Short name, 1-200 characters; made from the text if absent.")
    tags: Tags = Field(default_factory=list, description="At most 64 tags of 1-64 characters.")
    governance: Governance | None = Field(default=None, description="The defaults of governance if absent.")
    metadata: FreeJson = Field(default_factory=dict)
    priority: Priority = "WARM"
    kv_hint: Hint | None = None
    parents: Annotated[list[UUID], Field(max_length=PARENTS_MAX)] = Field(
        default_factory=list, description="What it was derived from: governance is at least as strict as theirs."
    )


class MemoryCreation(MemoryFields):
    """A memory of text. Bytes (ACTIVATION, PARAMETER) come as `multipart/form-data`."""

    type: Literal["PLAINTEXT"] = "PLAINTEXT"
    content: Content = Field(description="1 byte to 64 KiB of UTF-8, not blank.")

    @field_validator("type", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        if value in ("ACTIVATION", "PARAMETER"):
            raise ValueError("must be PLAINTEXT in JSON: bytes come as multipart/form-data, `memory` then `payload`")
        return value


class BinaryCreation(MemoryFields):
    """The part `memory` of an upload; the part `payload` after it holds the bytes."""

    type: MemoryType = Field(description="ACTIVATION: at most 256 KiB; PARAMETER: 50 MiB; PLAINTEXT: text, 64 KiB.")


class MemoryBatch(Closed):
    """Up to 500 memories of text."""

    memories: Annotated[list[MemoryCreation], Field(min_length=1, max_length=MAX_BATCH)]
    atomic: bool = Field(
        default=True, description="true: all are kept or none. false: each is kept or refused for itself."
    )


class MemoryChange(Closed):
    """What is to be different; what is not said stays. Lists and objects are replaced as a whole."""

    content: Content | None = Field(default=None, description="New text; for PLAINTEXT.")
    label: Label | None = None
    tags: Tags | None = None
    metadata: FreeJson | None = None
    governance: Governance | None = Field(
        default=None, description="The whole of it: what is not said takes its default."
    )
    priority: Priority | None = None
    kv_hint: Hint | None = Field(default=None, description="null takes the hint away.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("must change something")
        if empty := sorted(f for f in self.model_fields_set - {"kv_hint"} if getattr(self, f) is None):
            raise ValueError(f"{', '.join(empty)}: leave out what is to stay, null takes nothing away")
        return self


class BatchResult(Answer):
    """What became of one memory of a batch, in the place it was sent."""

    status: Literal["created", "exists", "refused"]
    id: UUID | None = None
    code: str | None = Field(default=None, description="Why it was refused, as in a problem document.")
    detail: str | None = None
    errors: list[FieldFault] = Field(default_factory=list["FieldFault"])


class BatchResults(Answer):
    """The results of a batch, in the order sent."""

    results: list[BatchResult]


class Version(Answer):
    """One version of a memory, without its content. `changed`: what it changed of the version before."""

    version: int
    by: str
    at: datetime
    changed: list[str]
    label: str
    tags: list[str]
    metadata: dict[str, JsonValue]
    governance: Governance = Field(description="As it was stated; what applies now applies to every version.")
    priority: Priority
    lifecycle: Lifecycle
    kv_hint: str | None
    size_bytes: int
    token_count: int
    checksum: str


class Versions(Answer):
    """Versions, newest first. `next_before`: ask on with `before`; null where there is no more."""

    versions: list[Version]
    next_before: int | None = None


class VersionContent(Version):
    """One version with its content; null for bytes, which `/payload?version=` gives."""

    content: str | None


class VersionChange(Answer):
    """One field that differs between two versions.

    `diff`: of text, a unified diff of its lines; null where that would take too much work, which is with more than
    about 400 removed and added lines of those that stand in both versions.
    """

    field: str
    before: Any
    after: Any
    diff: str | None = None


class VersionDiff(Answer):
    """What differs between two versions."""

    memory_id: UUID
    before: int
    after: int
    changes: list[VersionChange]


class TrailEvent(Answer):
    """One thing that happened to a memory: who did it, in which role, by which credential and from where."""

    seq: int
    kind: Literal["CREATED", "UPDATED", "ACCESSED", "PROMOTED", "ARCHIVED", "EXPIRED", "RESTORED", "PURGED"]
    version: int
    changed: list[str]
    actor: str
    role: str
    source: str
    at: datetime


class Trail(Answer):
    """What happened to a memory, newest first. `next_before`: ask on with `before`; null where there is no more."""

    events: list[TrailEvent]
    next_before: int | None = None


class Relative(Answer):
    """A memory that this one was derived from, or that was derived from it."""

    id: UUID
    distance: int = Field(description="Steps between the two, from 1.")
    label: str
    type: MemoryType
    version: int
    lifecycle: Lifecycle
    parents: list[UUID]
    origin: str
    created_by: str
    created_at: datetime


class Lineage(Answer):
    """Where a memory comes from and what came of it, as far as the reader sees; nearest first, at most 1,000 each."""

    memory_id: UUID
    ancestors: list[Relative]
    descendants: list[Relative]


class Purged(Answer):
    """The memories that were ended for good."""

    purged: list[UUID]
