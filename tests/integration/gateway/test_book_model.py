"""Random operations over HTTP leave the memory book as a plain Python model says, step by step."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import a_key
from tests.integration.gateway.book_around_model import WholeBook

from memcube_common.testing.servers import HouseDatabase, HouseProject

STEPS = int(os.environ.get("MEMCUBE_MODEL_STEPS", "300"))
"""How many requests are made at least; `make conformance` makes 2,000."""


async def test_random_operations_never_diverge_from_the_model(
    database: HouseDatabase, gateway: RunningGateway, project: HouseProject, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = await drive(database, gateway, project, STEPS)
    with capsys.disabled():
        sys.stdout.write(f"\n{steps} steps against the model, no divergence\n")
    assert steps >= STEPS


async def drive(database: HouseDatabase, gateway: RunningGateway, project: HouseProject, at_least: int) -> int:
    """Run the machine until at least so many requests were made; how many."""
    keys = {"root": project.key, **{who: await a_key(database, project.slug, who, "AGENT") for who in ("ada", "bo")}}
    with ExitStack() as stack:
        clients = {
            who: stack.enter_context(
                httpx.Client(
                    base_url=f"{gateway.url}/v1/projects/{project.slug}/",
                    headers={"authorization": f"Bearer {key}"},
                    timeout=15,
                )
            )
            for who, key in keys.items()
        }
        machine = type("Driven", (WholeBook,), {"clients": clients, "steps": 0})
        some = settings(
            max_examples=4,
            stateful_step_count=40,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # ids are new each time: what failed once is told as it was, not made smaller
            suppress_health_check=[HealthCheck.too_slow],
        )
        while machine.steps < at_least:
            await asyncio.to_thread(run_state_machine_as_test, machine, settings=some)
        return int(machine.steps)
