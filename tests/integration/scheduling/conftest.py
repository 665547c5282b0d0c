"""The scheduling room as its process builds it, asked over the real bus."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import pytest_asyncio
from pydantic import BaseModel, SecretStr, TypeAdapter
from tests.fakes.house_work import HouseWork
from tests.rooms import admin

from memcube_common.bus import Bus, Subscribers
from memcube_common.contracts import subjects
from memcube_common.contracts.api import InsightSubmission
from memcube_common.contracts.asks import Refused
from memcube_common.contracts.fields import Role
from memcube_common.contracts.scheduling import MakeSchedule, Replay, Schedule, ScheduleRequest
from memcube_common.insights.domain import from_submission
from memcube_common.insights.store import accept_insights
from memcube_common.links.store import link_memories
from memcube_common.memories.domain import NewMemory, Revision, pack
from memcube_common.memories.revisions import update_memory
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase
from memcube_scheduling.handlers import on_make_schedule
from memcube_scheduling.room import Room, open_room
from memcube_scheduling.settings import SchedulingSettings

A = TypeVar("A", bound=BaseModel)


@contextlib.asynccontextmanager
async def scheduling_room(house: HouseDatabase, **more: Any) -> AsyncGenerator[Room]:
    """The room, answering."""
    settings = SchedulingSettings(
        postgres_dsn=SecretStr(house.dsn("scheduling")),
        nats_url=SecretStr(house.nats_url_of("scheduling")),
        embed_within=0.3,
        **more,
    )
    async with open_room(settings) as room:
        subscribers = Subscribers(settings.nats_url.get_secret_value(), "scheduling")
        subscribers.on_ask(
            functools.partial(on_make_schedule, room=room), subject=subjects.MAKE_SCHEDULE, queue="scheduling"
        )
        await subscribers.open()
        try:
            yield room
        finally:
            await subscribers.close()


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a gateway stands: it asks the room on behalf of readers of one project."""

    house: HouseDatabase
    bus: Bus
    work: HouseWork
    room: Room
    project: str

    async def ask(self, wanted: type[A], reader: str = "bob", role: Role = "AGENT", **asked: Any) -> A:
        """The answer, which must be what is wanted."""
        ask = MakeSchedule(project=self.project, reader=reader, role=role, source="test", wait=5, **asked)
        body = await self.bus.ask(subjects.MAKE_SCHEDULE, ask.model_dump_json().encode(), timeout=6)
        answer = TypeAdapter(Schedule | Replay | Refused).validate_json(body)
        assert isinstance(answer, wanted), answer
        return answer

    async def schedule(self, reader: str = "bob", role: Role = "AGENT", **request: Any) -> Schedule:
        """A schedule for `reader`, with its explanation."""
        asked = ScheduleRequest.model_validate({"agent_id": reader, "explain": True, **request})
        return await self.ask(Schedule, reader, role, request=asked)

    async def replay(self, schedule_id: UUID, reader: str = "bob", role: Role = "AGENT") -> Replay:
        """A recorded schedule, chosen again."""
        return await self.ask(Replay, reader, role, question="replay", schedule_id=schedule_id)

    async def keep(self, *memories: NewMemory, vectors: bool = True) -> None:
        """Keep memories, and give them vectors."""
        await self.work.keep(self.project, memories)
        if vectors:
            await self.work.embed(self.project, [memory.id for memory in memories])

    async def link(self, task: str, memory_id: UUID) -> None:
        """Link a memory to a task, as bob."""
        async with self.room.db.transaction(Principal.user(self.project, "bob", "AGENT")) as tx:
            await link_memories(tx, task=task, role="READ", ids=[memory_id])

    async def revise(self, memory_id: UUID, content: str) -> None:
        """Give a memory another text, as who made it."""
        async with self.room.db.transaction(Principal.user(self.project, "test", "AGENT")) as tx:
            revision = Revision(payload=pack(content), words=content)
            await update_memory(tx, project=self.project, memory_id=memory_id, revision=revision)

    async def accept_insight(self, insight: UUID, agent: str, text: str) -> None:
        """An agent's insight is accepted, and waits to become a memory."""
        submitted = from_submission(InsightSubmission(id=insight, insight=text), agent)
        async with self.room.db.transaction(Principal.user(self.project, agent, "AGENT")) as tx:
            await accept_insights(tx, project=self.project, via="http", insights=[submitted])

    async def run(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        """What the database says to its administrator, as the operator of the test's project."""
        async with admin(self.house) as connection, connection.transaction():
            await connection.execute("select set_config('app.project_id', $1, true)", self.project)
            return [dict(row) for row in await connection.fetch(sql, *args)]


@pytest_asyncio.fixture(scope="module")
async def room(database: HouseDatabase) -> AsyncGenerator[Room]:
    """The room of the module's own database."""
    async with scheduling_room(database) as room:
        yield room


@pytest_asyncio.fixture(scope="module")
async def gateway_bus(database: HouseDatabase) -> AsyncGenerator[Bus]:
    """The bus as gateways have it."""
    bus = await Bus.open(database.nats_url_of("gateway"), name="gateway")
    try:
        yield bus
    finally:
        await bus.close()


@pytest_asyncio.fixture
async def desk(database: HouseDatabase, gateway_bus: Bus, house_work: HouseWork, room: Room) -> Desk:
    """A desk in a fresh project."""
    return Desk(database, gateway_bus, house_work, room, (await database.project()).slug)
