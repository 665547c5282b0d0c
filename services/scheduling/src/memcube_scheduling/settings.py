"""What the scheduling room is told by its environment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from memcube_common.settings import RoomSettings
from memcube_scheduling.domain.scores import Weights

Share = Annotated[float, Field(ge=0, le=1)]


class SchedulingSettings(RoomSettings):
    """What a candidate's parts count, and how the budget is filled."""

    schedule_weight_relevance: Share = Field(
        default=0.7, description="What fitting the text counts, where there is a text or an embedding."
    )
    schedule_weight_tags: Share = Field(default=0.1, description="What needed tags count beside a text.")
    schedule_weight_recency: Share = Field(default=0.05, description="What recency counts beside a text.")
    schedule_weight_frequency: Share = Field(default=0.03, description="What frequent use counts beside a text.")
    schedule_weight_priority: Share = Field(default=0.05, description="What priority counts beside a text.")
    schedule_weight_task: Share = Field(default=0.07, description="What a link to the task counts beside a text.")
    schedule_bare_weight_tags: Share = Field(default=0.4, description="What needed tags count without a text.")
    schedule_bare_weight_recency: Share = Field(default=0.2, description="What recency counts without a text.")
    schedule_bare_weight_frequency: Share = Field(default=0.2, description="What frequent use counts without a text.")
    schedule_bare_weight_priority: Share = Field(default=0.1, description="What priority counts without a text.")
    schedule_bare_weight_task: Share = Field(default=0.1, description="What a link to the task counts without a text.")
    schedule_feedback_share: float = Field(
        default=0.25, ge=0, le=0.5, description="By which share of itself a score is moved by feedback at most."
    )
    schedule_untrusted_factor: Share = Field(default=0.7, description="Factor of the score of untrusted memories.")
    schedule_half_life: float = Field(
        default=30.0, gt=0, le=36_500, description="Days after which recency is half, where governance says nothing."
    )
    schedule_similarity_floor: float = Field(
        default=0.1,
        ge=-1,
        le=1,
        description="Least cosine similarity of a memory without a word of the text, not to be irrelevant.",
    )
    schedule_redundancy: Share = Field(
        default=0.7, description="Share of its value that a memory loses which another says too."
    )
    schedule_sharpness: float = Field(
        default=2.0, ge=1, le=8, description="A memory of half the score is worth 1/2 to the power of this as much."
    )
    schedules_keep_days: int = Field(default=30, ge=1, le=3650, description="Days a recorded schedule is kept.")
    schedules_sweep_interval: float = Field(
        default=600.0, ge=0.1, le=86_400, description="Seconds between two sweeps of schedules that are over."
    )
    usage_interval: float = Field(
        default=30.0, ge=0.1, le=3600, description="Seconds for which use waits to be counted with others."
    )
    recommendations_interval: float = Field(
        default=600.0, ge=1, le=86_400, description="Seconds between two computations of a project's recommendations."
    )
    schedule_cache_entries: int = Field(
        default=5_000, ge=0, le=1_000_000, description="Most schedules kept to be given out again; 0 keeps none."
    )
    schedule_cache_bytes: int = Field(
        default=64 * 1024**2, ge=0, le=16 * 1024**3, description="Most bytes of schedules kept to be given out again."
    )
    embed_within: float = Field(
        default=1.0, gt=0, le=30, description="Seconds to wait for a question's vector before going by words only."
    )

    def weights(self, *, has_text: bool) -> Weights:
        """What each part counts, with a text and without one."""
        shared = {"feedback": self.schedule_feedback_share, "untrusted": self.schedule_untrusted_factor}
        if has_text:
            return Weights(
                tags=self.schedule_weight_tags,
                relevance=self.schedule_weight_relevance,
                recency=self.schedule_weight_recency,
                frequency=self.schedule_weight_frequency,
                priority=self.schedule_weight_priority,
                task=self.schedule_weight_task,
                **shared,
            )
        return Weights(
            tags=self.schedule_bare_weight_tags,
            relevance=0.0,
            recency=self.schedule_bare_weight_recency,
            frequency=self.schedule_bare_weight_frequency,
            priority=self.schedule_bare_weight_priority,
            task=self.schedule_bare_weight_task,
            **shared,
        )
