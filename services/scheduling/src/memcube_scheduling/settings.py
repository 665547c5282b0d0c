"""What the scheduling room is told by its environment."""

from __future__ import annotations

from memcube_common.settings import RoomSettings


class SchedulingSettings(RoomSettings):
    """Settings of the scheduling room."""
