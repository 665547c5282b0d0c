"""What the ingestion room is told by its environment."""

from __future__ import annotations

from pydantic import Field

from memcube_common.settings import RoomSettings


class IngestionSettings(RoomSettings):
    """Settings of the ingestion room."""

    batch_size: int = Field(default=500, ge=1, le=2000, description="Most insights taken from the bus at a time.")
    linger: float = Field(default=0.05, gt=0, le=5, description="Seconds a batch from the bus waits to fill.")
    writers: int = Field(default=2, ge=1, le=16, description="Transactions that write one batch from the bus at once.")
    portion: int = Field(default=250, ge=1, le=2000, description="Most insights in one of them.")
