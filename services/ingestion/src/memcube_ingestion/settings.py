"""What the ingestion room is told by its environment."""

from __future__ import annotations

from pydantic import Field

from memcube_common.insights.settings import LearningSettings


class IngestionSettings(LearningSettings):
    """Settings of the ingestion room."""

    batch_size: int = Field(default=500, ge=1, le=2000, description="Most insights taken from the bus at a time.")
    linger: float = Field(default=0.05, gt=0, le=5, description="Seconds a batch from the bus waits to fill.")
    writers: int = Field(default=2, ge=1, le=16, description="Transactions that write one batch from the bus at once.")
    portion: int = Field(default=250, ge=1, le=2000, description="Most insights in one of them.")
    screening_share: float = Field(
        default=0.5,
        gt=0,
        le=60,
        description="Processor seconds for screening one project's part of a batch; the rest of it comes later.",
    )
    conversation_attempts: int = Field(
        default=5, ge=1, le=20, description="Tries of the language model before messages are kept as they are."
    )
    conversations_at_once: int = Field(
        default=4, ge=1, le=64, description="Most conversations one process reads at a time."
    )
