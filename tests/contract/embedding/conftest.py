"""The local model's files, prepared once per checkout and shared with the running stack."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def models_dir(pytestconfig: pytest.Config) -> Path:
    """Where the checkout keeps its models."""
    return pytestconfig.rootpath / ".memcube" / "models"
