"""Start the scheduling room: `python -m memcube_scheduling`."""

from __future__ import annotations

from memcube_common.frame import run_room
from memcube_common.settings import read_settings
from memcube_scheduling.app import main
from memcube_scheduling.settings import SchedulingSettings


def run() -> None:
    """Read the settings once and run."""
    settings = read_settings(SchedulingSettings)
    run_room("scheduling", settings, lambda: main(settings))


if __name__ == "__main__":
    run()
