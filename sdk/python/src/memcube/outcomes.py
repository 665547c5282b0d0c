"""What came of schedules, and what agents alike found helpful, as typed values."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from memcube.models import Answer

Outcome = Literal["used", "ignored", "helpful", "harmful"]


class Recommendation(Answer):
    """A memory that agents with similar use found helpful: `score` 0 … 1, `because` of which agents."""

    memory_id: UUID
    label: str
    tags: list[str] = []
    score: float
    because: list[str] = []


class Recommendations(Answer):
    """What an agent might need, best first; `computed_at` is None where nothing was computed yet."""

    agent_id: str
    computed_at: datetime | None = None
    memories: list[Recommendation]


class FeedbackAnswer(Answer):
    """The wire form of what was taken."""

    taken: int
