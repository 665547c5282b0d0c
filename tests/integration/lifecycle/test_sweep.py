"""The sweep: what nothing names leaves the store first and Postgres second, each once, whoever else sweeps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from tests.eventually import eventually
from tests.rooms import admin, opened

from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.frame import task
from memcube_common.memories.domain import Payload
from memcube_common.memories.store import keep_objects
from memcube_common.objects import Incoming, ObjectStore, new_key
from memcube_common.objects.ledger import abandon_object, announce_object
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_lifecycle.sweep import Sweep, SweepMeters, keep_sweeping, sweep_objects


class Deleting:
    """A store that is only swept: it remembers what it was asked to remove, and may refuse."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.refuses = False

    def receive(self, path: str, *, expected: int) -> contextlib.AbstractAsyncContextManager[Incoming]:
        raise NotImplementedError

    async def read(self, path: str, *, start: int, length: int) -> memoryview | None:
        raise NotImplementedError

    async def delete(self, path: str) -> None:
        await asyncio.sleep(0)
        if self.refuses:
            raise TryAgain
        self.deleted.append(path)

    async def sign(self, path: str, *, expires_in: timedelta) -> str | None:
        raise NotImplementedError

    async def look(self) -> None:
        raise NotImplementedError


@pytest_asyncio.fixture(scope="module")
async def db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """The lifecycle room's pool."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "lifecycle", stack)


@pytest.fixture
def store() -> Deleting:
    return Deleting()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def sweep(db: Database, store: Deleting, registry: CollectorRegistry) -> Sweep:
    return Sweep(db, ObjectStore(store), SweepMeters.fresh(registry), 3600.0)


async def add(
    database: HouseDatabase, project: HouseProject, state: str, count: int = 1, *, hours: float = 0
) -> list[str]:
    """Objects of a project, known for so many hours; returns their paths."""
    keys = [new_key(uuid4()) for _ in range(count)]
    async with admin(database) as connection:
        await connection.executemany(
            "insert into memcube.objects (project_id, key, state, size_bytes, since)"
            " values ($1, $2, $3, 1, clock_timestamp() - $4::interval)",
            [(project.slug, key, state, timedelta(hours=hours)) for key in keys],
        )
    return [f"{project.slug}/{key}" for key in keys]


async def left(database: HouseDatabase, project: HouseProject) -> dict[str, int]:
    """How many objects of a project are known, by state."""
    async with admin(database) as connection:
        rows = await connection.fetch(
            "select state, count(*) as many from memcube.objects where project_id = $1 group by 1", project.slug
        )
    return {row["state"]: row["many"] for row in rows}


async def test_two_sweeps_at_once_remove_everything_that_must_leave_and_nothing_else(
    database: HouseDatabase, sweep: Sweep, store: Deleting
) -> None:
    one, other = await database.project(), await database.project()
    leaving = await add(database, one, "leaving", 150) + await add(database, other, "leaving", 80)
    over = await add(database, other, "arriving", 3, hours=1.1)
    await add(database, one, "arriving", 2, hours=0.9)
    await add(database, one, "kept", 2, hours=99)
    swept = await asyncio.gather(sweep_objects(sweep), sweep_objects(sweep))
    assert sum(swept) == 233
    assert set(store.deleted) == set(leaving + over)
    assert await left(database, one) == {"arriving": 2, "kept": 2}
    assert await left(database, other) == {}


async def test_what_the_store_does_not_let_go_stays_known_and_is_tried_again(
    database: HouseDatabase, project: HouseProject, sweep: Sweep, store: Deleting, registry: CollectorRegistry
) -> None:
    paths = await add(database, project, "leaving", 5)
    store.refuses = True
    assert await sweep_objects(sweep) == 0
    assert await left(database, project) == {"leaving": 5}
    assert registry.get_sample_value("memcube_objects_sweep_put_off_total") == 5
    store.refuses = False
    async with task(keep_sweeping(sweep, every=0.05), "sweep"):
        await eventually(lambda: sorted(store.deleted) == sorted(paths))
    assert await left(database, project) == {}
    assert registry.get_sample_value("memcube_objects_swept_total") == 5


async def test_a_memory_that_comes_for_an_object_handed_out_is_refused(
    database: HouseDatabase, project: HouseProject, db: Database, sweep: Sweep
) -> None:
    key = new_key(uuid4())
    me = Principal.worker("ingestion", project.slug)
    async with db.transaction(me) as tx:
        await announce_object(tx, project=project.slug, key=key, size=1)
    payload = Payload("COLD", 1, 0, bytes(32), object_key=key, blocks=bytes(32))
    async with admin(database) as connection:
        await connection.execute("update memcube.objects set since = now() - interval '2 hours' where key = $1", key)
    async with db.transaction(me) as tx:  # it comes at the very moment: the sweep leaves what somebody holds
        await keep_objects(tx, project=project.slug, payloads=[payload])
        assert await sweep_objects(sweep) == 0
    assert await left(database, project) == {"kept": 1}
    async with admin(database) as connection:
        await connection.execute("update memcube.objects set state = 'leaving', since = now() where key = $1", key)
    assert await sweep_objects(sweep) == 1

    async def late() -> None:
        async with db.transaction(me) as tx:
            await keep_objects(tx, project=project.slug, payloads=[payload])

    with pytest.raises(TryAgain):
        await late()
    async with db.transaction(me) as tx:
        assert not await abandon_object(tx, project=project.slug, key=key)
