"""Schedules: what is asked for, what was chosen and why, what came of it."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from memcube_common.contracts.fields import Closed, MemoryType, Moment, Priority, Role, Tags, Trust, storable
from memcube_common.ids import TaskName

BUDGET_MAX = 200_000
CONSIDERED_MAX = 400
"""How many candidates one schedule weighs at most."""

AgentId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
Format = Literal["memcube", "xml", "markdown", "json"]
Reason = Literal["chosen", "pinned", "budget", "redundant", "stale", "governance", "quarantined", "irrelevant"]
Outcome = Literal["used", "ignored", "helpful", "harmful"]
Kind = Literal["memory", "insight"]
"""An insight is told as such until it is a memory."""


class ScheduleRequest(Closed):
    """For whom, for what and within which budget memories are chosen."""

    agent_id: AgentId = Field(
        description="The agent that will read them; what it is told is remembered under this name."
    )
    task_id: TaskName | None = Field(default=None, description="The task; memories linked to it count for more.")
    text: Annotated[str, Field(min_length=1, max_length=8000), AfterValidator(storable)] | None = Field(
        default=None, description="What the agent is about to do, or is asked."
    )
    need_tags: Tags = Field(
        default_factory=list, description="Tags that a memory should carry; more of them is better."
    )
    embedding: Annotated[list[float], Field(min_length=1, max_length=4000)] | None = Field(
        default=None, description="A vector in place of the one made of `text`, by the model of the memories' own."
    )
    token_budget: Annotated[int, Field(ge=1, le=BUDGET_MAX)] = Field(
        default=4000, description="Most tokens (o200k) of the whole rendering, marks around memories included."
    )
    prefer_hot: bool = Field(default=False, description="Let priority count twice.")
    include_insights: bool = Field(
        default=False, description="Also weigh insights that have not become searchable memories yet."
    )
    format: Format = Field(default="memcube", description="How the memories are rendered into `prompt`.")
    explain: bool = Field(default=False, description="Also tell what was left out, and why: `candidates`.")
    as_of: Moment | None = Field(default=None, description="The reader's now; memories created later are left out.")
    limit: Annotated[int, Field(ge=1, le=200)] = Field(default=100, description="Most memories, whatever the budget.")

    @field_validator("embedding")
    @classmethod
    def _points_somewhere(cls, embedding: list[float] | None) -> list[float] | None:
        if embedding is not None and not any(embedding):
            raise ValueError("must not be all zero")
        return embedding


class ScoreParts(BaseModel):
    """What a candidate's score is made of, each part between 0 and 1 (feedback: −1 … 1) before its weight."""

    model_config = ConfigDict(frozen=True)

    tags: float = Field(description="Share of `need_tags` that it carries.")
    relevance: float = Field(description="How well words and meaning fit `text`; 0 without one.")
    recency: float = Field(description="Half after each half-life since it was made or last used.")
    frequency: float = Field(description="How often it was scheduled, logarithmically.")
    priority: float = Field(description="HOT 1, WARM 0.5, COLD 0.")
    task: float = Field(description="1 where it is linked to the task.")
    feedback: float = Field(description="What agents said came of it.")
    trust: float = Field(description="The factor all of it is multiplied by: 1 where trusted.")


class Candidate(BaseModel):
    """A memory that was weighed, and what became of it."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    kind: Kind = "memory"
    version: int = Field(description="The version that was weighed; 0 for an insight.")
    score: float = Field(description="What the choice went by: Σ weight × part, moved by feedback, × trust.")
    parts: ScoreParts
    tokens: int = Field(description="What it costs of the budget, its marks included.")
    reason: Reason = Field(description="`chosen` or `pinned`, else why it was left.")
    redundant_with: UUID | None = Field(default=None, description="The chosen one that already says it.")


class ScheduledMemory(BaseModel):
    """A memory of a schedule, in the place where it stands."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    kind: Kind = "memory"
    version: int
    label: str
    type: MemoryType
    tags: list[str]
    priority: Priority
    trust: Trust
    created_at: Moment
    content: str | None = Field(description="Its text; none for binary memories.")
    kv_hint: str | None = Field(description="Where a binary memory's bytes are found: `memcube://…` if it has no hint.")
    score: float
    tokens: int
    reason: Reason


class Schedule(BaseModel):
    """The memories that were chosen, best first behind the pinned ones; never more tokens than the budget."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    agent_id: str
    task_id: str | None
    made_at: Moment
    token_budget: int
    tokens_used: int = Field(description="Tokens (o200k) of `prompt`.")
    memories: list[ScheduledMemory]
    prompt: str = Field(description="The memories in the format asked for, to be put before the agent's own prompt.")
    candidates: list[Candidate] | None = Field(default=None, description="With `explain`: everything that was weighed.")
    considered: int
    degraded: str | None = Field(default=None, description="What the choice had to do without, if anything.")
    cached: bool = False
    took_ms: float


class ScheduleRecord(BaseModel):
    """A schedule as it was recorded: what was asked, what was weighed and why. Without what was written."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    agent_id: str
    task_id: str | None
    made_by: str
    made_at: Moment
    asked: dict[str, object] = Field(description="The request, without text and embedding but with their digests.")
    weights: dict[str, float]
    token_budget: int
    tokens_used: int
    chosen: list[UUID] = Field(description="In the order in which they were told.")
    candidates: list[Candidate] | None = Field(
        default=None, description="Everything that was weighed, best first; null in a listing."
    )
    embedding_model: str | None = Field(
        default=None, description="The model whose vectors were searched; null where the search was by words, or none."
    )


class ScheduleRecords(BaseModel):
    """A page of recorded schedules, newest first."""

    model_config = ConfigDict(frozen=True)

    schedules: list[ScheduleRecord]
    next_cursor: str | None


class Replay(BaseModel):
    """A recorded schedule chosen again out of what was recorded, with each memory's text as it was then."""

    model_config = ConfigDict(frozen=True)

    schedule: Schedule
    same: bool = Field(description="Whether the same memories came out in the same order.")
    missing: list[UUID] = Field(description="Memories that are gone, or that the reader may not read (any more).")


class MemoryOutcome(Closed):
    """What came of one memory of a schedule."""

    memory_id: UUID
    outcome: Outcome


class ScheduleFeedback(Closed):
    """What came of the memories of a schedule, said by who asked for it."""

    outcomes: Annotated[list[MemoryOutcome], Field(min_length=1, max_length=400)]


class FeedbackTaken(BaseModel):
    """How many outcomes are now known of the schedule; one said again replaces the one before."""

    model_config = ConfigDict(frozen=True)

    taken: int


class Recommendation(BaseModel):
    """A memory that agents with similar use found helpful."""

    model_config = ConfigDict(frozen=True)

    memory_id: UUID
    label: str
    tags: list[str]
    score: float = Field(description="0 … 1: how much of it comes from agents alike.")
    because: list[str] = Field(description="Agents with similar use that found it helpful, the most alike first.")


class Recommendations(BaseModel):
    """What an agent might need, computed in batches."""

    model_config = ConfigDict(frozen=True)

    agent_id: str
    computed_at: Moment | None
    memories: list[Recommendation]


class MakeSchedule(BaseModel):
    """The gateway's ask of the scheduling room, for a reader whom the gateway has let in."""

    model_config = ConfigDict(frozen=True)

    project: str
    reader: str = Field(description="The principal's handle.")
    role: Role
    source: str = ""
    question: Literal["schedule", "replay"] = "schedule"
    request: ScheduleRequest | None = None
    schedule_id: UUID | None = None
    wait: float = Field(description="Seconds the gateway will wait for the answer.")
