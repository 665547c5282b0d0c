"""What is learned, as it is asked for and answered: insights, their support, conversations, and dry runs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue, StringConstraints

from memcube_common.contracts.api import Answer
from memcube_common.contracts.fields import (
    CONTENT_MAX_BYTES,
    Closed,
    Decision,
    FreeJson,
    Governance,
    Label,
    Moment,
    Priority,
    Reference,
    Tag,
    Tags,
    storable,
)
from memcube_common.ids import AgentName, Uuid7

MAX_MESSAGES = 200
CONVERSATION_MAX_BYTES = 1024 * 1024

InsightState = Literal["accepted", "stored", "parked"]
How = Literal["extracted", "as_they_are", "given"]


def _of_a_message(text: str) -> str:
    if (size := len(text.encode())) > CONTENT_MAX_BYTES:
        raise ValueError(f"must be at most {CONTENT_MAX_BYTES} bytes of UTF-8, got {size}")
    return text


def is_said(text: str) -> bool:
    """Whether a message says anything: some character that is printed and not a space."""
    return any(character.isprintable() and not character.isspace() for character in text)


class Message(Closed):
    """One message of a conversation."""

    role: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$")] = Field(
        description="Who speaks: user, assistant, system, tool, or a word of one's own."
    )
    content: Annotated[str, AfterValidator(storable), AfterValidator(_of_a_message)] = Field(
        description="What was said: at most 64 KiB of UTF-8; one that says nothing is left out."
    )
    name: Annotated[Label, StringConstraints(max_length=64)] | None = Field(
        default=None, description="The speaker's name, 1-64 characters."
    )
    at: Moment | None = Field(default=None, description="When it was said; what 'yesterday' counts from.")


def _within_a_conversation(messages: list[Message]) -> list[Message]:
    size = sum(len(message.content.encode()) for message in messages)
    if size > CONVERSATION_MAX_BYTES:
        raise ValueError(f"must be at most {CONVERSATION_MAX_BYTES} bytes together, got {size}")
    if not any(is_said(message.content) for message in messages):
        raise ValueError("at least one message must say something")
    return messages


class Conversation(Closed):
    """Messages to learn from. With a language model insights are made of them, without one each is kept as it is."""

    messages: Annotated[
        list[Message], Field(min_length=1, max_length=MAX_MESSAGES), AfterValidator(_within_a_conversation)
    ] = Field(description="At most 200 messages in the order they were said, together at most 1 MiB.")
    id: Uuid7 | None = Field(
        default=None, description="UUIDv7 of the conversation; the same id sent twice is one. Made if absent."
    )
    agent_id: AgentName | None = Field(default=None, description="Who learned it; the key's own name if absent.")
    tags: Tags = Field(default_factory=list, description="Carried by every insight that is made of it.")
    priority: Priority = "WARM"
    governance: Governance | None = Field(
        default=None, description="Of every insight. What is `confidential` is never shown to a language model."
    )
    metadata: FreeJson = Field(default_factory=dict, description="Carried by every insight.")


class Support(Closed):
    """Why one holds an insight for true."""

    evidence_refs: Annotated[list[Reference], Field(max_length=64)] = Field(
        default_factory=list, description="Where it was seen: at most 64 references of 1-512 characters."
    )
    sentiment: Annotated[float, Field(ge=-1, le=1)] | None = Field(default=None, description="-1 … 1.")


class InsightLink(Closed):
    """The memory that an insight is to belong to."""

    memory_id: UUID = Field(description="A memory that you may read and change.")


class InsightFilter(Closed):
    """Which insights to list; what is not said takes all."""

    agent_id: AgentName | None = Field(default=None, description="Those of one sender.")
    tag: Tag | None = Field(default=None, description="Those that carry this tag.")
    state: InsightState | None = None
    memory_id: UUID | None = Field(default=None, description="Those that belong to one memory.")
    min_support: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        default=None, description="Those with at least so much support."
    )


class Insight(Answer):
    """Something an agent learned, and what became of it."""

    id: UUID
    project_id: str
    agent_id: str
    insight: str = Field(description="What was learned; `(purged)` once its memory is.")
    label: str | None
    tags: list[str]
    evidence_refs: list[str]
    sentiment: float | None
    support_count: int = Field(description="How often it was learned or supported; 1 at first.")
    priority: Priority
    governance: Governance
    metadata: dict[str, JsonValue]
    memory_id: UUID
    state: InsightState
    reason: str | None
    decision: Decision | None
    decided_because: str | None
    supports: UUID | None
    accepted_at: datetime
    stored_at: datetime | None


class Insights(Answer):
    """A page of insights, newest first."""

    insights: list[Insight]
    next_cursor: str | None = Field(
        description="The cursor of the next page, None at the end; a page may hold fewer than asked and have one."
    )


class Weighed(Answer):
    """One insight that would be stored, and what would be decided about it."""

    insight: str
    label: str
    tags: list[str]
    decision: Decision
    decided_because: str | None = None
    memory_id: UUID | None = Field(default=None, description="The memory that is there already, if so.")
    kind: str | None = Field(default=None, description="What it is in a word, as a language model sees it.")
    confidence: float | None = Field(default=None, description="How sure a language model is, 0 … 1.")


class DryRun(Answer):
    """What would be stored; nothing was."""

    insights: list[Weighed]
    how: How = Field(description="Extracted by a language model, or the messages as they are, or insights as given.")
    reason: str | None = Field(default=None, description="Why messages would be kept as they are.")
