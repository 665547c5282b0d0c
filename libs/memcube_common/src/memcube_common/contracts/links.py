"""Memories beside others through the HTTP door: what tasks read and wrote, chains, and several put into one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from memcube_common.contracts.api import Answer, Memory, PartialMemory
from memcube_common.contracts.fields import Closed, FreeJson, Governance, Label, Tags, storable

LINKED_MAX: Final = 100
CHAIN_MAX: Final = 1_000
SOURCES_LEAST: Final = 2
SOURCES_MAX: Final = 50
SYNTHESIS_TOKENS: Final = 400
POSITION_MAX: Final = 2**31 - 1

LinkRole = Literal["READ", "WRITE"]
ChainRole = Literal["MEMBER", "AGENT"]
Method = Literal["extractive", "llm"]
Position = Annotated[int, Field(ge=1, le=POSITION_MAX)]


def _each_once(ids: list[UUID]) -> list[UUID]:
    if len(set(ids)) < len(ids):
        raise ValueError("must name each memory once")
    return ids


MemoryOrder = Annotated[list[UUID], Field(max_length=CHAIN_MAX), AfterValidator(_each_once)]


# ── tasks ──────────────────────────────────────────────────────────────────────────────────────────


class TaskLinking(Closed):
    """Memories that a task read, or wrote: one as `memory_id`, or several as `memory_ids`."""

    memory_id: UUID | None = None
    memory_ids: Annotated[list[UUID], Field(min_length=1, max_length=LINKED_MAX)] | None = None
    role: LinkRole = "READ"

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.memory_id is None) == (self.memory_ids is None):
            raise ValueError("must have either memory_id or memory_ids")
        return self

    @property
    def ids(self) -> list[UUID]:
        """The memories, each once, in the order given."""
        given = [self.memory_id] if self.memory_id is not None else self.memory_ids or []
        return list(dict.fromkeys(given))


class LinkedMemory(Answer):
    """A memory of a task. created: this request linked it; false where it was linked already."""

    memory_id: UUID
    role: LinkRole
    created: bool


class LinkedMemories(Answer):
    """What a task is linked with by now, in the order sent."""

    task_id: str
    links: list[LinkedMemory]


class Link(Answer):
    """How a task and a memory belong together, by whom and since when."""

    role: LinkRole
    created_by: str
    created_at: datetime


class TaskMemory(Answer):
    """A memory of a task, and its links with it: one as READ, one as WRITE."""

    memory: Memory
    links: list[Link]


class TaskMemories(Answer):
    """The memories of a task that the reader may read, newest first."""

    task_id: str
    memories: list[TaskMemory]
    next_cursor: str | None = Field(default=None, description="Where the next page begins; null: there is none.")


class MemoryTask(Answer):
    """A task of a memory, and its links with it."""

    task_id: str
    links: list[Link]


class MemoryTasks(Answer):
    """The tasks that a memory is linked with, by their ids."""

    memory_id: UUID
    tasks: list[MemoryTask]
    next_cursor: str | None = Field(default=None, description="Where the next page begins; null: there is none.")


class Task(Answer):
    """A task and how many memories it read and wrote, of those the reader may read."""

    task_id: str
    reads: int
    writes: int
    linked_at: datetime = Field(description="When the last of them was linked.")


class Tasks(Answer):
    """The tasks that are linked with anything the reader may read, by their ids."""

    tasks: list[Task]
    next_cursor: str | None = Field(default=None, description="Where the next page begins; null: there is none.")


# ── chains ─────────────────────────────────────────────────────────────────────────────────────────


class ChainGovernance(Closed):
    """Who may see a chain itself and change it; who may read its memories, each of them says."""

    visibility: Literal["project", "private"] = Field(
        default="project",
        description="project: every MEMBER and AGENT. private: its maker. OWNER, ADMIN and SERVICE always.",
    )
    write_roles: Annotated[list[ChainRole], Field(max_length=2)] = Field(
        default=["AGENT"], description="Who may change it, beside its maker and OWNER, ADMIN and SERVICE."
    )


Description = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(storable)]


class NewChain(Closed):
    """An ordered sequence of memories."""

    name: Label = Field(description="1-200 characters.")
    description: Description | None = Field(default=None, description="1-2,000 characters.")
    memory_ids: MemoryOrder = Field(default_factory=list, description="At most 1,000 memories, each once, in order.")
    governance: ChainGovernance = ChainGovernance()


class ChainChanges(Closed):
    """What is to be different about a chain; what is not said stays."""

    name: Label | None = None
    description: Description | None = Field(default=None, description="null takes it away.")
    governance: ChainGovernance | None = Field(
        default=None, description="The whole of it; by its maker, OWNER, ADMIN and SERVICE."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("must change something")
        if empty := sorted(f for f in self.model_fields_set - {"description"} if getattr(self, f) is None):
            raise ValueError(f"{', '.join(empty)}: leave out what is to stay, null takes nothing away")
        return self


class ChainSpot(Closed):
    """Where in a chain: at a position, counted from 1 over what the caller sees, or beside another of its memories."""

    position: Position | None = Field(default=None, description="From 1; beyond the end is the end.")
    before: UUID | None = Field(default=None, description="Directly before this memory of the chain.")
    after: UUID | None = Field(default=None, description="Directly behind this memory of the chain.")


class ChainAddition(ChainSpot):
    """A memory for a chain; at its end where nothing else is said."""

    memory_id: UUID

    @model_validator(mode="after")
    def _at_most_one_spot(self) -> Self:
        if (self.position, self.before, self.after).count(None) < 2:
            raise ValueError("must have at most one of position, before and after")
        return self


class ChainMove(ChainSpot):
    """Where a memory of a chain goes."""

    @model_validator(mode="after")
    def _one_spot(self) -> Self:
        if (self.position, self.before, self.after).count(None) != 2:
            raise ValueError("must have one of position, before and after")
        return self


class ChainOrder(Closed):
    """The whole chain in another order, as the caller sees it: the same memories, none more and none less."""

    memory_ids: MemoryOrder


class Chain(Answer):
    """An ordered sequence of memories."""

    id: UUID
    project_id: str
    name: str
    description: str | None
    governance: ChainGovernance
    version: int = Field(description="Counts its changes, from 1; for `If-Match`.")
    length: int = Field(description="How many of its memories the reader may read.")
    created_by: str
    created_at: datetime
    updated_at: datetime


class OrderedChain(Chain):
    """A chain with the ids of its memories, in order: those that the reader may read."""

    memory_ids: list[UUID]


class Chains(Answer):
    """Chains, newest first."""

    chains: list[Chain]
    next_cursor: str | None = Field(default=None, description="Where the next page begins; null: there is none.")


class ChainItem(Answer):
    """A memory at its place in a chain, as the reader counts."""

    position: int
    added_by: str
    added_at: datetime
    memory: Memory


class ChainReading(Chain):
    """A chain read in order, as far as the token budget and the limit reach. Nothing is skipped."""

    items: list[ChainItem]
    token_count: int = Field(description="o200k tokens of the contents shown.")
    left_out: int = Field(description="How many items follow the last one shown.")
    next_position: int | None = Field(default=None, description="Where to read on; null: all is shown.")


class PartialChainItem(ChainItem):
    """The same, where `fields` was given."""

    memory: PartialMemory  # pyright: ignore[reportIncompatibleVariableOverride]  (fewer fields, the same keys)


class PartialChainReading(ChainReading):
    """The same, where `fields` was given."""

    items: list[PartialChainItem]  # pyright: ignore[reportIncompatibleVariableOverride]  (fewer fields, the same keys)


# ── synthesis ──────────────────────────────────────────────────────────────────────────────────────


class SynthesisRequest(Closed):
    """Several memories to be put into one."""

    memory_ids: Annotated[
        list[UUID], Field(min_length=SOURCES_LEAST, max_length=SOURCES_MAX), AfterValidator(_each_once)
    ] = Field(description="2-50 memories of text, each once, in the order in which they are told.")
    method: Literal["auto", "extractive", "llm"] = Field(
        default="auto",
        description="extractive: whole sentences of the sources. llm: by the language model of the house, 422 where"
        " there is none. auto: by the model if there is one and it answers, else extractive.",
    )
    instructions: Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(storable)] | None = (
        Field(default=None, description="What matters, for the language model: 1-2,000 characters.")
    )
    max_tokens: Annotated[int, Field(ge=50, le=8000)] = Field(
        default=SYNTHESIS_TOKENS, description="o200k tokens that the new memory may have at most: 50-8,000."
    )
    label: Label | None = Field(default=None, description="Made from the text if absent.")
    tags: Tags = Field(default_factory=list)
    metadata: FreeJson = Field(default_factory=dict, description="`synthesis` in it is written by MemCube.")
    governance: Governance | None = Field(
        default=None, description="At least as strict as that of every source; the defaults if absent."
    )

    @field_validator("metadata")
    @classmethod
    def _ours(cls, metadata: FreeJson) -> FreeJson:
        if "synthesis" in metadata:
            raise ValueError("must not have 'synthesis': it says how the memory was made")
        return metadata
