"""Stacks to be broken: each module has its own, with a fast, scripted embedder on this machine."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from pathlib import Path
from typing import TypeAlias, cast

import pytest
import pytest_asyncio
from tests.e2e.load import Ledger
from tests.e2e.running_stack import RunningStack

from memcube_common.testing.openai_server import OpenAIServer

Say: TypeAlias = Callable[[str], None]
DIMENSIONS = 384


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a line at once, whatever pytest captures: a run of faults shows its seeds and counts."""

    def aloud(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n    {line}")
            sys.stdout.flush()

    return aloud


@pytest.fixture
def seed(request: pytest.FixtureRequest, say: Say) -> int:
    """What the chances of this run are drawn from; MEMCUBE_TEST_SEED in the environment repeats one."""
    chosen = int(os.environ.get("MEMCUBE_TEST_SEED") or random.SystemRandom().randrange(10**6))
    say(f"{request.node.name}: seed={chosen}")
    return chosen


@pytest_asyncio.fixture(scope="module")
async def embedder() -> AsyncGenerator[OpenAIServer]:
    """The endpoint that the module's stack asks for vectors."""
    async with OpenAIServer(dimensions=DIMENSIONS) as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, embedder: OpenAIServer
) -> AsyncGenerator[RunningStack]:
    """The module's own stack, with what the module's SETTINGS say, if it has any."""
    running = RunningStack(
        tmp_path_factory.mktemp("stack") / "home",
        {
            "MEMCUBE_EMBEDDER": "openai",
            "MEMCUBE_OPENAI_BASE_URL": embedder.url,
            "MEMCUBE_OPENAI_DIMENSIONS": str(DIMENSIONS),
            "OPENAI_API_KEY": "a-key-for-nothing",
            **cast("Mapping[str, str]", getattr(cast("object", request.module), "SETTINGS", {})),
        },
    )
    try:
        await running.up()
        yield running
    finally:
        await running.down()


@pytest.fixture
def ledger(tmp_path: Path) -> Generator[Ledger]:
    """The client's append-only log of what was acknowledged."""
    kept = Ledger(tmp_path / "acked.log")
    yield kept
    kept.close()
