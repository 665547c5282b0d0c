"""One running stack for all end-to-end tests, started through the command line and stopped at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.running_stack import RunningStack


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the local model is prepared once for all stacks."""
    return tmp_path_factory.mktemp("models")


@pytest_asyncio.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory, models: Path) -> AsyncGenerator[RunningStack]:
    """A stack with the local model, shared: tests use projects of their own and leave it running."""
    running = RunningStack(tmp_path_factory.mktemp("stack") / "home", {"MEMCUBE_MODELS_DIR": str(models)})
    try:
        await running.up()
        yield running
    finally:
        await running.down()
