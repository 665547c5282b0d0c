"""Ingestion, embedding and the gateway die by SIGKILL, ten times each, under load: nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from tests.e2e.audit import audit, settled
from tests.e2e.killing import PROBE, Killer
from tests.e2e.load import Ledger, Load
from tests.e2e.running_stack import RunningStack
from tests.faults.conftest import Say

KILLS = 10
RATE = 200
ROOMS = ("ingestion", "embedding", "gateway")
FIRST_SUCCESS = 5.0  # seconds; of nine in ten, because the machine may be busy with other things than ours
AT_WORST = 15.0
DRAINED = 60.0


@pytest.mark.timeout(400)
async def test_rooms_killed_under_load_lose_nothing_and_double_nothing(
    stack: RunningStack, ledger: Ledger, seed: int, say: Say
) -> None:
    chance = random.Random(seed)
    keys = {f"kill-{number}": await stack.key_of(f"kill-{number}") for number in range(4)}
    killer = Killer(stack, ledger, await stack.key_of(PROBE))
    order = [room for room in ROOMS for _ in range(KILLS)]
    chance.shuffle(order)
    began = time.monotonic()
    async with Load(stack.gateway, stack.nats, keys, ledger, rate=RATE) as load:
        for room in order:
            await asyncio.sleep(chance.uniform(0.1, 1.5))  # the moment of the kill is the fault's own chance
            await killer.kill(room)
        await load.stop()
    loaded = time.monotonic() - began
    say(f"{len(order)} kills in {loaded:.0f} s, {ledger.count} acked ({ledger.count / loaded:.0f}/s)")
    for room, seconds in sorted(killer.seconds.items()):
        say(f"first success after SIGKILL of {room} in s: " + " ".join(f"{took:.2f}" for took in seconds))
    ended = time.monotonic()
    await settled(stack, ledger.sent, within=DRAINED)
    say(f"all searchable {time.monotonic() - ended:.1f} s after the last acknowledgement")
    found = await audit(stack, ledger)
    say(str(found))
    assert found.mistakes == {}
    assert {room: len(seconds) for room, seconds in killer.seconds.items()} == dict.fromkeys(ROOMS, KILLS)
    every = sorted(took for seconds in killer.seconds.values() for took in seconds)
    assert every[len(every) * 9 // 10 - 1] <= FIRST_SUCCESS
    assert every[-1] <= AT_WORST
