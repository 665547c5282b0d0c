"""Start the embedding room: `python -m memcube_embedding`."""

from __future__ import annotations

from memcube_common.frame import run_room
from memcube_common.settings import read_settings
from memcube_embedding.app import main
from memcube_embedding.settings import EmbeddingSettings


def run() -> None:
    """Read the settings once and run."""
    settings = read_settings(EmbeddingSettings)
    run_room("embedding", settings, lambda: main(settings))


if __name__ == "__main__":
    run()
