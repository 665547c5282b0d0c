"""What the gateway is told by its environment."""

from __future__ import annotations

from pydantic import Field

from memcube_common.settings import RoomSettings


class GatewaySettings(RoomSettings):
    """The settings of the HTTP door."""

    pool_size: int = Field(default=10, ge=1, le=64, description="Most Postgres connections this process holds.")
    answer_within: float = Field(
        default=1.8, gt=0, le=60, description="Seconds a request may spend on Postgres before it is answered 503."
    )
    embed_within: float = Field(
        default=1.0, gt=0, le=30, description="Seconds to wait for a question's vector before searching by words only."
    )
    body_limit: int = Field(
        default=8 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest request body in bytes."
    )
    body_within: float = Field(
        default=30.0, gt=0, le=600, description="Seconds a request's body may take to arrive before it is answered 408."
    )
    subscribers_max: int = Field(
        default=2_000, ge=1, le=100_000, description="Most change streams one process keeps open at a time."
    )
    heartbeat: float = Field(
        default=15.0, gt=0, le=300, description="Seconds of silence after which a change stream says it is alive."
    )
    slow_after: float = Field(
        default=20.0, gt=0, le=300, description="Seconds a subscriber may take to accept data before it is closed."
    )
