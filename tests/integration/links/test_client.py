"""The client's ways to tasks, chains and synthesis, against the real gateway."""

from __future__ import annotations

import pytest
from tests.fakes.running_gateway import RunningGateway
from tests.integration.links.conftest import Keep

from memcube import Conflict, MemCubeClient, NotFound, Patience, VersionMismatch
from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseProject


async def test_a_client_links_chains_and_synthesizes(
    gateway: RunningGateway, project: HouseProject, keep: Keep
) -> None:
    memories = [await keep(f"Step {number} warms the cache.") for number in range(3)]
    first, second, third = memories
    async with MemCubeClient(gateway.url, project.key, project.slug, patience=Patience(total=5.0)) as client:
        linked = await client.tasks.link("TASK-123", [first, second])
        assert [(one.memory_id, one.created) for one in linked] == [(first, True), (second, True)]
        await client.tasks.link("TASK-123", first, "WRITE")
        assert [one.memory.id async for one in client.tasks.memories("TASK-123", "WRITE")] == [first]
        assert [(one.task_id, len(one.links)) async for one in client.tasks.of(first)] == [("TASK-123", 2)]
        await client.tasks.unlink("TASK-123", first, "READ")
        assert [(one.reads, one.writes) async for one in client.tasks.all()] == [(1, 1)]
        with pytest.raises(NotFound):
            await client.tasks.link("TASK-123", new_id())

        chain = await client.chains.make("steps", [first, second], governance={"visibility": "private"})
        chain = await client.chains.add(chain.id, third, position=1, version=chain.version)
        assert chain.memory_ids == [third, first, second]
        with pytest.raises(VersionMismatch):
            await client.chains.remove(chain.id, third, version=1)
        with pytest.raises(Conflict):
            await client.chains.reorder(chain.id, [first])
        chain = await client.chains.move(chain.id, third, after=second)
        chain = await client.chains.reorder(chain.id, list(reversed(chain.memory_ids)))
        assert (await client.chains.change(chain.id, name="reversed", description="")).name == "reversed"
        read = await client.chains.read(chain.id, token_budget=10, fields=["content"])
        assert [item.memory["content"] for item in read.items] == ["Step 2 warms the cache."]
        assert (read.left_out, read.next_position) == (2, 2)
        assert (await client.chains.remove(chain.id, third)).length == 2
        assert [one.name async for one in client.chains.all()] == ["reversed"]
        await client.chains.delete(chain.id)
        assert [one async for one in client.chains.all()] == []

        made = await client.memories.synthesize([first, second], method="extractive", label="both", max_tokens=50)
        assert (made.content, made.parents) == ("Step 0 warms the cache.\nStep 1 warms the cache.", [first, second])
