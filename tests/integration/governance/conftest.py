"""A project, hands that write into it, and eyes that read it under any name and role."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest_asyncio

from memcube_common.contracts.api import Memory
from memcube_common.contracts.fields import Governance
from memcube_common.db import Database
from memcube_common.errors import NotAllowed, NotFound
from memcube_common.ids import new_id
from memcube_common.memories.domain import NewMemory, Revision
from memcube_common.memories.revisions import update_memory
from memcube_common.memories.store import insert_memories, read_memories
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject


@dataclass(frozen=True, slots=True)
class Ruled:
    """One project under governance."""

    project: str
    gateway: Database
    room: Database
    psql: asyncpg.Connection[Any]

    def principal(self, name: str, role: str) -> Principal:
        """A request of `name` in `role`."""
        if role == "PUBLIC":
            return Principal.public(self.project, name)
        return Principal.user(self.project, name, role, source="key:test 127.0.0.1")  # pyright: ignore[reportArgumentType]

    async def write(
        self,
        *,
        by: str = "ada",
        role: str | None = None,
        parents: Iterable[UUID] = (),
        text: str = "",
        **governance: Any,
    ) -> UUID:
        """A memory of `by`, kept by the ingestion room, or by themselves where a role is given."""
        memory = NewMemory(
            id=new_id(),
            label="a label",
            content=text or "some content",
            origin="test",
            provenance_id=new_id(),
            tags=(),
            governance=Governance.model_validate(governance).model_dump_json(),
            metadata="{}",
            priority="WARM",
            created_by=by,
            created_at=datetime.now(UTC),
            parents=tuple(parents),
        )
        if role is None:
            transaction = self.room.transaction(Principal.worker("ingestion", self.project))
        else:
            transaction = self.gateway.transaction(self.principal(by, role))
        async with transaction as tx:
            await insert_memories(tx, project=self.project, memories=[memory])
        return memory.id

    async def read(self, memory: UUID, *, by: str, role: str) -> Memory | None:
        """The memory as `by` sees it."""
        async with self.gateway.transaction(self.principal(by, role)) as tx:
            return (await read_memories(tx, project=self.project, ids=[memory])).get(memory)

    async def govern(self, memory: UUID, *, by: str, role: str, **governance: Any) -> bool:
        """State the governance of `memory` anew; False where the policies do not let `by`."""
        revision = Revision(governance=Governance.model_validate(governance).model_dump_json())
        try:
            async with self.gateway.transaction(self.principal(by, role)) as tx:
                await update_memory(tx, project=self.project, memory_id=memory, revision=revision)
        except NotFound:
            return False
        except NotAllowed as refused:
            if refused.__cause__ is not None:  # a rule of the database, not a policy that hid the row
                raise
            return False
        return True

    async def column(self, memory: UUID, name: str) -> Any:
        """A column of the memory's row, whoever may see it."""
        return await self.psql.fetchval(
            f"select {name} from memcube.memories where project_id = $1 and id = $2", self.project, memory
        )


@pytest_asyncio.fixture
async def ruled(database: HouseDatabase, project: HouseProject) -> AsyncGenerator[Ruled]:
    """A fresh project and its database."""
    async with contextlib.AsyncExitStack() as stack:
        gateway = await Database.open(database.dsn("gateway"), room="gateway", size=2)
        stack.push_async_callback(gateway.close)
        room = await Database.open(database.dsn("ingestion"), room="ingestion", size=2)
        stack.push_async_callback(room.close)
        psql = await asyncpg.connect(database.admin_dsn)
        stack.push_async_callback(psql.close)
        yield Ruled(project.slug, gateway, room, psql)
