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
    counting_interval: float = Field(
        default=0.5, ge=0.05, le=3600, description="Seconds between two looks for texts whose terms are not counted."
    )
    graph_interval: float = Field(
        default=300.0, ge=1, le=86_400, description="Seconds between two looks at which projects need a graph."
    )
    graph_threshold: int = Field(
        default=20_000,
        ge=100,
        le=100_000_000,
        description="With more vectors a project gets a graph of its own; with half of them or fewer it loses it.",
    )
    graph_memory_mb: int = Field(
        default=512,
        ge=16,
        le=1_048_576,
        description="MiB that Postgres builds a graph in; one that does not fit takes several times as long.",
    )
    graph_workers: int = Field(
        default=0, ge=0, le=64, description="Processes of Postgres that help building a graph; 0 leaves it to one core."
    )
    changes_kept_days: int = Field(
        default=30, ge=1, le=3650, description="Days a change stays readable for subscribers that resume."
    )
