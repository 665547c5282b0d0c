"""`memcube up`, `status` and `down`: twice, in two homes at once, and after somebody shot the supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from tests.e2e.running_stack import EVERYTHING, RunningStack, eventually

from memcube import MemCubeClient
from memcube_cli.stack import Stack
from memcube_common.embedded.process import ProcessId

# Nothing here asks for a vector, so that no model has to be prepared; the endpoint is never reached.
WITHOUT_A_MODEL = {
    "MEMCUBE_EMBEDDER": "openai",
    "MEMCUBE_OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    "OPENAI_API_KEY": "a-key-for-nothing",
}


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncGenerator[tuple[RunningStack, RunningStack]]:
    """Two stacks in two homes, started at the same moment."""
    stacks = (RunningStack(tmp_path / "one", WITHOUT_A_MODEL), RunningStack(tmp_path / "two", WITHOUT_A_MODEL))
    try:
        await asyncio.gather(*(stack.up() for stack in stacks))
        yield stacks
    finally:
        await asyncio.gather(*(stack.down() for stack in stacks))


@pytest.mark.timeout(240)
async def test_two_homes_have_two_stacks_that_know_nothing_of_each_other(
    pair: tuple[RunningStack, RunningStack],
) -> None:
    one, two = pair
    assert set(one.now.ports.values()).isdisjoint(two.now.ports.values())
    assert {process.pid for process in _processes(one.now)}.isdisjoint(process.pid for process in _processes(two.now))
    async with MemCubeClient(one.gateway, one.key) as client:
        sent = await client.insights.submit("Only the first house knows of the marmalade.")
        await client.receipts.wait(sent.id, until="stored")
        assert len(await client.memories.query(text="marmalade", mode="keyword")) == 1
    async with MemCubeClient(two.gateway, two.key) as client:
        assert len(await client.memories.query(text="marmalade", mode="keyword")) == 0
    async with httpx.AsyncClient(timeout=10) as http:
        foreign = await http.get(
            f"{two.gateway}/v1/projects/{two.project}/receipts/{sent.id}",
            headers={"authorization": f"Bearer {one.key}"},
        )
    assert foreign.status_code == 401

    again = await one.memcube("up", "--detach")
    assert (again.code, "already running" in again.out) == (0, True), again

    before = _processes(two.now)
    stopped = await two.down()
    assert stopped.code == 0, stopped
    assert not any(process.is_alive() for process in before)
    assert set((await _status(two))["services"].values()) == {"stopped"}
    assert set((await _status(one))["services"].values()) == {"ready"}, "the other stack was left alone"


@pytest.mark.timeout(240)
async def test_a_stack_whose_supervisor_was_shot_says_so_and_starts_again_with_its_data(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path / "home", WITHOUT_A_MODEL)
    try:
        await stack.up()
        assert set(stack.now.services) == set(EVERYTHING)
        async with MemCubeClient(stack.gateway, stack.key) as client:
            sent = await client.insights.submit("The spare key hangs behind the clock.")
            await client.receipts.wait(sent.id, until="stored")
        processes = _processes(stack.now)
        supervisor = stack.now.supervisor
        assert supervisor is not None
        os.kill(supervisor.pid, signal.SIGKILL)

        async def all_gone() -> bool:
            return not any(process.is_alive() for process in processes)

        await eventually(all_gone, within=30, what="no process outlives its supervisor")
        assert set((await _status(stack))["services"].values()) == {"stopped"}
        said = await stack.memcube("status")
        assert "MemCube is stopped" in said.out

        await stack.up()
        async with MemCubeClient(stack.gateway, stack.key) as client:
            found = await client.memories.query(text="spare key", mode="keyword")
        assert [memory.content for memory in found] == ["The spare key hangs behind the clock."]
    finally:
        await stack.down()


async def _status(stack: RunningStack) -> dict[str, dict[str, str]]:
    said = await stack.memcube("status", "--json")
    assert said.code == 0, said
    return json.loads(said.out)


def _processes(stack: Stack) -> list[ProcessId]:
    """Every process of a stack that runs, its supervisor among them."""
    records = [record.process for record in stack.services.values()]
    return [process for process in (stack.supervisor, *records) if process is not None]
