"""Postgres is frozen and killed: nobody waits longer than two seconds for an answer, and nothing promised is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time

import pytest
from tests.e2e.audit import audit, settled
from tests.e2e.callers import Callers, slowest, statuses
from tests.e2e.load import Ledger, Load
from tests.e2e.running_stack import RunningStack, eventually
from tests.faults.conftest import Say
from tests.faults.test_nats import assert_the_doors_stayed_open

from memcube_common.embedded.process import ProcessId

RATE = 60
FROZEN = 30.0
WRITES_AGAIN = 5.0
RECOVERED = 60.0
KILLS = 3


def _family(pid: int) -> list[int]:
    """A process and its children, parent first."""
    table = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children = [int(child) for child, parent in (line.split() for line in table.splitlines()) if int(parent) == pid]
    return [pid, *children]


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


async def _first_write(callers: Callers, since: float) -> float:
    """Seconds from `since` until an insight posted after it was accepted."""

    async def looked() -> list[float]:
        return [a.asked_at + a.seconds for a in callers.since(since) if a.question == "submit" and a.status == 202]

    return min(await eventually(looked, within=30, what="an insight accepted again")) - since


@pytest.mark.timeout(200)
async def test_a_frozen_postgres_makes_nobody_wait_and_loses_nothing(
    stack: RunningStack, ledger: Ledger, say: Say
) -> None:
    project = "pg-frozen"
    key = await stack.key_of(project)
    async with (
        Load(stack.gateway, stack.nats, {project: key}, ledger, rate=RATE) as load,
        Callers(stack.gateway, project, key, ledger) as callers,
    ):
        await eventually(lambda: _acked(ledger, project, 40), within=30, what="load flows")
        postmaster = stack.pid_of("postgres")
        _send([postmaster], signal.SIGSTOP)
        family = _family(postmaster)
        _send(family, signal.SIGSTOP)
        froze = time.monotonic()
        try:
            await asyncio.sleep(FROZEN)  # the fault itself
        finally:
            _send(family, signal.SIGCONT)
        thawed = time.monotonic()
        during = callers.since(froze, thawed - 2)
        say(f"while frozen: {statuses(during)}")
        assert {answer.status for answer in during} == {503}
        again = await _first_write(callers, thawed)
        say(f"writes again {again:.2f} s after the thaw")
        await load.stop()
    await _reckon(stack, ledger, callers, say)
    assert again <= WRITES_AGAIN


@pytest.mark.timeout(200)
async def test_a_killed_postgres_comes_back_with_everything_it_had_promised(
    stack: RunningStack, ledger: Ledger, say: Say
) -> None:
    project = "pg-killed"
    key = await stack.key_of(project)
    again: list[float] = []
    async with (
        Load(stack.gateway, stack.nats, {project: key}, ledger, rate=RATE) as load,
        Callers(stack.gateway, project, key, ledger) as callers,
    ):
        for kill in range(1, KILLS + 1):
            await eventually(lambda kill=kill: _acked(ledger, project, 60 * kill), within=30, what="load flows")
            before = stack.send("postgres", signal.SIGKILL)

            async def accepts(before: ProcessId = before) -> bool:
                return stack.is_another("postgres", before) and stack.now.services["postgres"].state == "ready"

            await eventually(accepts, within=60, what="Postgres accepts connections again")
            again.append(await _first_write(callers, time.monotonic()))
        await load.stop()
    say("writes again after Postgres accepts connections: " + " ".join(f"{took:.2f}" for took in again) + " s")
    await _reckon(stack, ledger, callers, say)
    assert max(again) <= WRITES_AGAIN


async def _reckon(stack: RunningStack, ledger: Ledger, callers: Callers, say: Say) -> None:
    say(f"answers: {statuses(callers.answers)}")
    say(f"slowest answers in s: {slowest(callers.answers)}")
    ended = time.monotonic()
    await settled(stack, ledger.sent, within=RECOVERED)
    say(f"all searchable {time.monotonic() - ended:.1f} s after the last acknowledgement")
    found = await audit(stack, ledger, imported=1)
    say(str(found))
    assert found.mistakes == {}
    assert_the_doors_stayed_open(callers.answers)


async def _acked(ledger: Ledger, project: str, many: int) -> bool:
    return len(ledger.acked.get(project, ())) >= many
