"""Each room dies once by SIGKILL while insights come in: the small sister of `make faults`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.audit import audit, settled
from tests.e2e.killing import PROBE, Killer
from tests.e2e.load import Ledger, Load
from tests.e2e.running_stack import RunningStack

RATE = 20


@pytest.mark.timeout(120)
async def test_a_room_killed_under_load_loses_nothing_and_doubles_nothing(stack: RunningStack, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "acked.log")
    keys = {"kill-once": await stack.key_of("kill-once")}
    killer = Killer(stack, ledger, await stack.key_of(PROBE))
    async with Load(stack.gateway, stack.nats, keys, ledger, rate=RATE) as load:
        for room in ("gateway", "ingestion", "embedding"):
            await killer.kill(room)
        await load.stop()
    ledger.close()
    await settled(stack, ledger.sent, within=60)
    found = await audit(stack, ledger)
    assert found.mistakes == {}, str(found)
    assert found.acked > 0
