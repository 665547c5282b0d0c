"""What was learned, through the client, at the real gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from tests.fakes.running_gateway import RunningGateway

from memcube import Invalid, MemCubeClient, NotFound
from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseProject


@pytest_asyncio.fixture
async def client(gateway: RunningGateway, project: HouseProject) -> AsyncGenerator[MemCubeClient]:
    async with MemCubeClient(gateway.url, project.key, project=project.slug) as client:
        yield client


async def test_insights_are_listed_supported_linked_and_weighed(client: MemCubeClient) -> None:
    receipts = await client.insights.submit_many([{"insight": f"Fact {n}.", "tags": ["f"]} for n in range(5)])
    page = await client.insights.list(tag="f", limit=2)
    assert [one.insight for one in page.insights] == ["Fact 4.", "Fact 3."]
    assert page.next_cursor is not None
    rest = await client.insights.list(tag="f", limit=2, cursor=page.next_cursor)
    assert [one.insight for one in rest.insights] == ["Fact 2.", "Fact 1."]
    assert [one.insight async for one in client.insights.all()] == [f"Fact {n}." for n in (4, 3, 2, 1, 0)]
    supported = await client.insights.support(receipts[0].id, evidence_refs=["ticket:1"], sentiment=0.5)
    assert supported.support_count == (await client.insights.get(receipts[0].id)).support_count == 2
    with pytest.raises(NotFound):
        await client.insights.support(new_id())
    with pytest.raises(Invalid):
        await client.insights.link(receipts[0].id, new_id())
    would = await client.insights.weigh(["Fact.", "fact"])
    assert [one.decision for one in would.insights] == ["new", "duplicate"]


async def test_a_conversation_is_submitted_once_and_weighed(client: MemCubeClient) -> None:
    messages = [{"role": "user", "content": "I like figs.", "name": "Ada"}]
    would = await client.insights.weigh_messages(messages, tags=["taste"])
    assert (would.how, would.insights[0].label, would.insights[0].tags) == (
        "as_they_are",
        "Ada: I like figs.",
        ["taste"],
    )
    receipt = await client.insights.submit_messages(messages, id=new_id(), tags=["taste"])
    again = await client.insights.submit_messages(messages, id=receipt.id)
    assert (again.id, again.state, again.insights) == (receipt.id, "accepted", None)
