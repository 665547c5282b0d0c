"""`ask.v1.schedule`: an agent has memories chosen for itself over NATS, under its own name and rights."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from tests.fakes.house_work import HouseWork
from tests.integration.nats_accounts.conftest import House
from tests.integration.scheduling.conftest import scheduling_room

from memcube import Invalid, TooLarge, Unavailable
from memcube_common.contracts.fields import DEFAULT_GOVERNANCE
from memcube_common.contracts.scheduling import ScheduleRequest
from memcube_common.ids import new_id
from memcube_common.memories.domain import NewMemory
from memcube_common.security.principal import Principal
from memcube_gateway.patience import Patience
from memcube_scheduling.room import Room


@pytest_asyncio.fixture
async def room(house: House) -> AsyncGenerator[Room]:
    """The scheduling room, signed in to NATS as itself."""
    async with scheduling_room(house.database) as room:
        yield room


async def keep(house: House, project: str, *contents: str) -> None:
    memories = [
        NewMemory(
            id=new_id(), label=content[:20], content=content, origin="test", provenance_id=new_id(), tags=("deploy",),
            governance=DEFAULT_GOVERNANCE, metadata="{}", priority="WARM", created_by="test",
            created_at=datetime.now(UTC),
        )
        for content in contents
    ]  # fmt: skip
    async with HouseWork.open(house.database) as work:
        await work.keep(project, memories)


async def test_an_agent_has_memories_chosen_for_itself(house: House, room: Room) -> None:
    ours, theirs = await house.member("builder"), await house.member("builder")
    await keep(house, ours.project, "Our deploys happen on Mondays.")
    await keep(house, theirs.project, "Their deploys happen on Sundays.")
    async with ours.connection() as agent:
        made = await agent.schedule(text="when do deploys happen?", token_budget=300)
        with pytest.raises(Invalid, match="agent_id"):
            await agent.schedule({"agent_id": "another"})
        with pytest.raises(Invalid, match="token_budget"):
            await agent.schedule(token_budget=0)

    assert [one.content for one in made.memories] == ["Our deploys happen on Mondays."]
    assert made.agent_id == ours.name
    assert made.tokens_used <= 300
    reader = Principal.user(ours.project, ours.name, "AGENT")
    asked = ScheduleRequest(agent_id=ours.name)
    assert await house.gateway.room.scheduling.schedule(asked, reader, Patience(5))


async def test_without_a_scheduling_room_it_says_so(house: House) -> None:
    member = await house.member("builder")
    async with member.connection() as agent:
        with pytest.raises(Unavailable):
            await agent.schedule(token_budget=300)


async def test_an_answer_larger_than_a_message_is_refused_and_does_not_stay_away(house: House) -> None:
    member = await house.member("builder")
    await keep(house, member.project, *(f"{n} " + "x" * 60_000 for n in range(20)))
    async with member.connection() as agent:
        with pytest.raises(TooLarge, match="over HTTP"):
            await agent.query(tags=["deploy"], limit=20)
        assert len(await agent.query(tags=["deploy"], limit=3)) == 3
