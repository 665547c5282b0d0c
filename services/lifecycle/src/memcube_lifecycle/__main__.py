"""Start the lifecycle room: `python -m memcube_lifecycle`."""

from __future__ import annotations

from memcube_common.frame import run_room
from memcube_common.settings import read_settings
from memcube_lifecycle.app import main
from memcube_lifecycle.settings import LifecycleSettings


def run() -> None:
    """Read the settings once and run."""
    settings = read_settings(LifecycleSettings)
    run_room("lifecycle", settings, lambda: main(settings))


if __name__ == "__main__":
    run()
