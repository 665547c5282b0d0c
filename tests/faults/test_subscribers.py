"""Twenty subscribers follow a project while the gateway is killed: each hears everything once, in order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal

import pytest
from tests.e2e.audit import audit, settled
from tests.e2e.load import Ledger, Load
from tests.e2e.running_stack import RunningStack, eventually
from tests.faults.conftest import Say

from memcube import MemCubeClient
from memcube.models import Change, Reset

SUBSCRIBERS = 20
KILLS = 5
RATE = 100


class Subscriber:
    """One reader of the feed from its beginning, and every position it was given."""

    def __init__(self, client: MemCubeClient) -> None:
        self.positions: list[int] = []
        self.resets = 0
        self._client = client

    async def follow(self) -> None:
        """Read for ever."""
        async with contextlib.aclosing(self._client.changes(after=0)) as changes:
            async for change in changes:
                match change:
                    case Change():
                        self.positions.append(change.position)
                    case Reset():
                        self.resets += 1


@pytest.mark.timeout(200)
async def test_subscribers_miss_nothing_and_hear_nothing_twice_while_the_gateway_dies(
    stack: RunningStack, ledger: Ledger, seed: int, say: Say
) -> None:
    project = "followed"
    key = await stack.key_of(project)
    chance = random.Random(seed)
    async with contextlib.AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(MemCubeClient(stack.gateway, key, project)) for _ in range(SUBSCRIBERS)
        ]
        subscribers = [Subscriber(client) for client in clients]
        following = [asyncio.create_task(subscriber.follow()) for subscriber in subscribers]
        async with Load(stack.gateway, stack.nats, {project: key}, ledger, rate=RATE) as load:
            for _ in range(KILLS):
                heard = max(len(subscriber.positions) for subscriber in subscribers)
                more = chance.randint(20, 400)

                async def all_hear(least: int = heard + more) -> bool:
                    return min(len(subscriber.positions) for subscriber in subscribers) >= least

                await eventually(all_hear, within=60, what="every subscriber hears more")
                stack.send("gateway", signal.SIGKILL)
            await load.stop()
        await settled(stack, [project], within=60)
        head = (await audit(stack, ledger)).changes

        async def heard_all() -> bool:
            return all(subscriber.positions and subscriber.positions[-1] >= head for subscriber in subscribers)

        await eventually(heard_all, within=30, what="every subscriber heard the last change")
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    perfect = [subscriber.positions == list(range(1, head + 1)) for subscriber in subscribers]
    resets = sum(subscriber.resets for subscriber in subscribers)
    say(f"{KILLS} kills: {sum(perfect)} of {SUBSCRIBERS} subscribers heard 1…{head} exactly once, {resets} resets")
    found = await audit(stack, ledger)
    say(str(found))
    assert all(perfect)
    assert resets == 0
    assert found.mistakes == {}
