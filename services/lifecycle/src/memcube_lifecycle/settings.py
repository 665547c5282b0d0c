"""What the lifecycle room is told by its environment."""

from __future__ import annotations

from pydantic import Field

from memcube_common.settings import RoomSettings


class LifecycleSettings(RoomSettings):
    """Settings of the lifecycle room."""

    housekeeping_interval: float = Field(
        default=600.0, ge=1, le=86_400, description="Seconds between two rounds of housekeeping."
    )
    changes_kept_days: int = Field(
        default=30, ge=1, le=3650, description="Days a change stays readable for subscribers that resume."
    )
