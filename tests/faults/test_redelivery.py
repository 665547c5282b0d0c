"""Everything comes three times, in any order, through either door, and is kept once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from uuid import UUID

import nats
import orjson
import pytest
from tests.e2e.audit import audit, settled
from tests.e2e.load import Ledger, text_of
from tests.e2e.running_stack import RunningStack
from tests.faults.conftest import Say

from memcube import MemCubeClient
from memcube_common.ids import new_id

INSIGHTS = 1_000
TIMES = 3
BATCH = 25


@pytest.mark.timeout(180)
async def test_insights_delivered_three_times_in_any_order_are_kept_once(
    stack: RunningStack, ledger: Ledger, seed: int, say: Say
) -> None:
    project = "thrice"
    key = await stack.key_of(project)
    chance = random.Random(seed)
    ids = [new_id() for _ in range(INSIGHTS)]
    ledger.send(project, ids)
    deliveries = ids * TIMES
    chance.shuffle(deliveries)
    batches = [deliveries[start : start + BATCH] for start in range(0, len(deliveries), BATCH)]
    doors = [chance.choice(("http", "nats")) for _ in batches]
    bus = await nats.connect(stack.nats)
    jetstream = bus.jetstream(timeout=10)
    gate = asyncio.Semaphore(8)

    async def publish(ids: Sequence[UUID]) -> None:
        for id in ids:
            body = orjson.dumps({"id": str(id), "insight": text_of(id)})
            # A name of its own for each delivery: the server's memory of duplicates must not do our work.
            await jetstream.publish(
                f"memcube.{project}.insight.v1.submitted.loader",
                body,
                stream="INSIGHTS",
                headers={"Nats-Msg-Id": str(new_id())},
            )

    async with MemCubeClient(stack.gateway, key, project) as client:

        async def deliver(door: str, ids: Sequence[UUID]) -> None:
            async with gate:
                if door == "nats":
                    await publish(ids)
                else:
                    await client.insights.submit_many([{"id": str(id), "insight": text_of(id)} for id in ids])
                ledger.ack(project, ids, door)

        await asyncio.gather(*(deliver(door, ids) for door, ids in zip(doors, batches, strict=True)))
    await bus.close()
    await settled(stack, [project], within=60)
    found = await audit(stack, ledger)
    say(f"{len(deliveries)} deliveries, {doors.count('nats') * BATCH} of them over NATS")
    say(str(found))
    assert found.mistakes == {}
    assert found.stored == INSIGHTS
