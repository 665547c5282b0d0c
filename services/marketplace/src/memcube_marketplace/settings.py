"""What the marketplace room is told by its environment."""

from __future__ import annotations

from memcube_common.settings import RoomSettings


class MarketplaceSettings(RoomSettings):
    """Settings of the marketplace room."""
