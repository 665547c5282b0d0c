"""Start the ingestion room: `python -m memcube_ingestion`."""

from __future__ import annotations

from memcube_common.frame import run_room
from memcube_common.settings import read_settings
from memcube_ingestion.app import main
from memcube_ingestion.settings import IngestionSettings


def run() -> None:
    """Read the settings once and run."""
    settings = read_settings(IngestionSettings)
    run_room("ingestion", settings, lambda: main(settings))


if __name__ == "__main__":
    run()
