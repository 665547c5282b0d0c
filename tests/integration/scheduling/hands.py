"""Schedules without the room that makes them: what was told to whom, put down as the room puts it down."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import orjson
from prometheus_client import CollectorRegistry
from tests.fakes.house_work import memory
from tests.rooms import admin

from memcube_common.contracts.fields import DEFAULT_GOVERNANCE, Role
from memcube_common.contracts.scheduling import Outcome
from memcube_common.db import Database, Transaction
from memcube_common.db.pool import Row
from memcube_common.feedback import store
from memcube_common.ids import new_id
from memcube_common.memories.store import insert_memories
from memcube_common.schedules.domain import NewSchedule, Weighing
from memcube_common.schedules.store import insert_schedule
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase
from memcube_scheduling.cache import Deliveries
from memcube_scheduling.settling import Settling, SettlingMeters, recall_project, settle_project

NOTHING_WEIGHED = Weighing(candidates=[], pinned=frozenset(), similar={}, terms={})


@dataclass(frozen=True, slots=True)
class Hands:
    """Hands of the scheduling room in one project."""

    house: HouseDatabase
    db: Database
    psql: asyncpg.Connection[Row]
    project: str
    settling: Settling

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, house: HouseDatabase) -> AsyncGenerator[Hands]:
        """Signed in as the scheduling room while the block lasts; in no project yet."""
        db = await Database.open(house.dsn("scheduling"), room="test", size=4)
        try:
            meters = SettlingMeters.fresh(CollectorRegistry())
            async with admin(house) as psql:
                yield cls(house, db, psql, "nowhere", Settling(db, Deliveries(), meters, every=30.0))
        finally:
            await db.close()

    def into(self, project: str) -> Hands:
        """The same hands in a project."""
        return replace(self, project=project)

    def reader(self, name: str = "bob", role: Role = "AGENT") -> Principal:
        """Somebody of the project."""
        return Principal.user(self.project, name, role)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncGenerator[Transaction]:
        """A transaction of the room's own."""
        async with self.db.transaction(Principal.worker("scheduling", self.project)) as tx:
            yield tx

    async def remember(self, *texts: str, by: str = "mia", **governance: object) -> list[UUID]:
        """Memories of `by` with these texts and this governance."""
        stated = orjson.dumps({**orjson.loads(DEFAULT_GOVERNANCE), **governance}).decode()
        made = [replace(memory(text), governance=stated, created_by=by) for text in texts]
        async with self.working() as tx:
            await insert_memories(tx, project=self.project, memories=made)
        return [one.id for one in made]

    async def told(
        self, *memories: UUID, by: str = "bob", role: Role = "AGENT", agent: str = "", at: datetime | None = None
    ) -> UUID:
        """A schedule of these memories, made by `by` for `agent`."""
        schedule = NewSchedule(
            id=new_id(),
            agent_id=agent or by,
            task_id=None,
            made_by=by,
            made_at=at or datetime.now(UTC),
            asked="{}",
            weights={},
            token_budget=100,
            tokens_used=1,
            generation=None,
            chosen=list(memories),
            weighing=NOTHING_WEIGHED,
        )
        async with self.db.transaction(self.reader(by, role)) as tx:
            await insert_schedule(tx, project=self.project, schedule=schedule)
        return schedule.id

    async def say(
        self, schedule: UUID, outcomes: Mapping[UUID, Outcome], *, by: str = "bob", role: Role = "AGENT"
    ) -> int | None:
        """What came of it."""
        async with self.db.transaction(self.reader(by, role)) as tx:
            return await store.say_outcomes(tx, schedule_id=schedule, outcomes=outcomes)

    async def settle(self) -> int:
        """Count what waits."""
        return await settle_project(self.settling, self.project)

    async def recall(self) -> int:
        """Note what was told."""
        return await recall_project(self.settling, self.project)

    async def row(self, memory_id: UUID) -> Row:
        """What is known of a memory's use."""
        (row,) = await self.rows(
            "select usage_hits, last_used, feedback, version, updated_at from memcube.memories where id = $1", memory_id
        )
        return row

    async def rows(self, sql: str, *args: object) -> Sequence[Row]:
        """Rows of the module's database, as its administrator sees them."""
        return await self.psql.fetch(sql, *args)
