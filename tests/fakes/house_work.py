"""What other rooms do to a memory, done directly, so that a test of one room needs no other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from memcube_common.bus import Bus
from memcube_common.contracts import subjects
from memcube_common.contracts.fields import DEFAULT_GOVERNANCE
from memcube_common.db import Database
from memcube_common.frame import task
from memcube_common.ids import derive_external, new_id
from memcube_common.insights import domain as insights
from memcube_common.insights import store as insight_store
from memcube_common.mailbox.relay import Relay
from memcube_common.memories import store
from memcube_common.memories.domain import NewMemory
from memcube_common.security.principal import Principal
from memcube_common.testing.openai_server import hashed_vector
from memcube_common.testing.servers import HouseDatabase


@dataclass(frozen=True, slots=True)
class HouseWork:
    """Ingestion's and embedding's hands, on one database."""

    db: Database
    dimensions: int = 64

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, database: HouseDatabase) -> AsyncGenerator[HouseWork]:
        """Signed in as ingestion while the block lasts."""
        db = await Database.open(database.dsn("ingestion"), room="test", size=2)
        try:
            yield cls(db)
        finally:
            await db.close()

    async def store_insights(self, project: str, ids: Sequence[UUID]) -> None:
        """Accepted insights become memories."""
        async with self.db.transaction(Principal.worker("embedding", project)) as tx:
            accepted = await insight_store.read_accepted(tx, project=project, ids=ids)
            memories = [insights.distil(insight, now=at) for insight, at in accepted]
            await store.insert_memories(tx, project=project, memories=memories)
            await insight_store.mark_stored(tx, project=project, ids=ids)

    async def keep(self, project: str, memories: Sequence[NewMemory]) -> None:
        """Keep memories as they are."""
        async with self.db.transaction(Principal.worker("embedding", project)) as tx:
            await store.insert_memories(tx, project=project, memories=memories)

    async def embed(self, project: str, ids: Sequence[UUID]) -> int:
        """Give memories vectors of their hashed words; returns the model's generation."""
        async with self.db.transaction(Principal.worker("embedding", project)) as tx:
            generation = await store.register_model(tx, name="fake", dimensions=self.dimensions, fingerprint="fake")
            texts = await store.read_texts(tx, project=project, ids=ids)
            vectors = [
                store.NewVector(text.memory_id, text.content_hash, vector_of(text.text, self.dimensions))
                for text in texts
            ]
            await store.save_vectors(tx, project=project, generation=generation, model="fake", vectors=vectors)
        return generation


def vector_of(text: str, dimensions: int) -> NDArray[np.float32]:
    """The vector of hashed words."""
    return np.asarray(hashed_vector(text, dimensions), dtype=np.float32)


def memory(
    content: str, *, at: datetime | None = None, tags: Sequence[str] = (), number: int | None = None
) -> NewMemory:
    """A memory to keep; with `number` its id is known beforehand."""
    at = at or datetime.now(UTC)
    memory_id = new_id() if number is None else derive_external("test", str(number))
    return NewMemory(
        id=memory_id,
        label=content[:60],
        content=content,
        origin="test",
        provenance_id=memory_id,
        tags=tuple(tags),
        governance=DEFAULT_GOVERNANCE,
        metadata="{}",
        priority="WARM",
        created_by="test",
        created_at=at,
    )


@contextlib.asynccontextmanager
async def relaying(database: HouseDatabase, name: str = "test") -> AsyncGenerator[None]:
    """The real relay, carrying the database's changes to NATS while the block lasts."""
    db = await Database.open(database.dsn("ingestion"), room="relay", size=2)
    bus = await Bus.open(database.nats_url, name="relay")
    relay = Relay(db, bus, await bus.bell(subjects.BELL_CHANGES), name=name)
    try:
        async with task(relay.run(), "relay"):
            yield
    finally:
        await bus.close()
        await db.close()
