"""What the lifecycle room is told by its environment."""

from __future__ import annotations

from pydantic import Field

from memcube_common.objects.settings import ObjectSettings


class LifecycleSettings(ObjectSettings):
    """Settings of the lifecycle room."""

    housekeeping_interval: float = Field(
        default=600.0, ge=1, le=86_400, description="Seconds between two rounds of housekeeping."
    )
    sweep_interval: float = Field(
        default=60.0, ge=0.1, le=86_400, description="Seconds between two sweeps of objects that must leave the store."
    )
    arriving_at_most: float = Field(
        default=3600.0,
        ge=3600,
        le=7 * 86_400,
        description="Seconds after which an object whose upload never ended is swept; no upload may take that long.",
    )
    changes_kept_days: int = Field(
        default=30, ge=1, le=3650, description="Days a change stays readable for subscribers that resume."
    )
