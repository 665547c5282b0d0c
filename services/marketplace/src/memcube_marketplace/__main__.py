"""Start the marketplace room: `python -m memcube_marketplace`."""

from __future__ import annotations

from memcube_common.frame import run_room
from memcube_common.settings import read_settings
from memcube_marketplace.app import main
from memcube_marketplace.settings import MarketplaceSettings


def run() -> None:
    """Read the settings once and run."""
    settings = read_settings(MarketplaceSettings)
    run_room("marketplace", settings, lambda: main(settings))


if __name__ == "__main__":
    run()
