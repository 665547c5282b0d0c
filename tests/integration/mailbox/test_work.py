"""Work that waits: handed out fairly, given back when a worker dies, finished exactly once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from uuid import UUID

import pytest
import pytest_asyncio
from tests.eventually import eventually
from tests.rooms import admin, opened

from memcube_common.db import Database
from memcube_common.ids import new_id
from memcube_common.mailbox import work
from memcube_common.mailbox.parked import park
from memcube_common.mailbox.work import Claim, Kind
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase

WORKER = Principal.worker("ingestion")


@pytest_asyncio.fixture(scope="module")
async def db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """The ingestion room's pool."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "ingestion", stack)


@pytest_asyncio.fixture(autouse=True)
async def nothing_waits(database: HouseDatabase) -> None:
    """An empty queue."""
    async with admin(database) as psql:
        await psql.execute("truncate memcube.work_queue")


async def queue(database: HouseDatabase, project: str, many: int, *, due_in: float = 0, kind: Kind = "insight") -> None:
    async with admin(database) as psql:
        await psql.execute(
            "insert into memcube.work_queue (kind, project_id, item_id, due_at)"
            " select $4, $1, gen_random_uuid(), now() + make_interval(secs => $3) from generate_series(1, $2)",
            project,
            many,
            due_in,
            kind,
        )


async def claimed(db: Database, *, limit: int, lease: float = 60.0, kind: Kind = "insight") -> dict[str, list[UUID]]:
    async with db.transaction(WORKER) as tx:
        claims = await work.claim(tx, kind=kind, limit=limit, lease=lease)
    return {project: [claim.item_id for claim in those] for project, those in claims.items()}


async def test_a_project_with_5000_rows_does_not_starve_one_with_a_single_row(
    database: HouseDatabase, db: Database
) -> None:
    await queue(database, "aaa", 5000)
    await queue(database, "zzz", 1)
    claims = await claimed(db, limit=100)
    assert len(claims["zzz"]) == 1
    assert len(claims["aaa"]) == 50


async def test_more_busy_projects_than_a_claim_is_large_are_all_served_in_turn(
    database: HouseDatabase, db: Database
) -> None:
    """Those whose names come first in the alphabet must not be first for ever."""
    for name in "abcdefgh":
        await queue(database, f"{name}-busy", 50)
    await queue(database, "zzz", 1)
    served: set[str] = set()
    for _ in range(40):
        served |= set(await claimed(db, limit=4))
    assert "zzz" in served
    assert len(served) == 9


async def test_projects_whose_work_is_not_due_take_no_share(database: HouseDatabase, db: Database) -> None:
    for number in range(50):
        await queue(database, f"later-{number}", 1, due_in=600)
    await queue(database, "now", 200)
    assert len((await claimed(db, limit=100))["now"]) == 100


async def test_work_is_handed_to_one_worker_at_a_time(database: HouseDatabase, db: Database) -> None:
    await queue(database, "one", 100)
    await queue(database, "two", 100)
    given = await asyncio.gather(*(claimed(db, limit=50) for _ in range(8)))
    ids = [item for claims in given for those in claims.values() for item in those]
    assert len(ids) == len(set(ids))
    rest = await claimed(db, limit=500)
    ids += [item for those in rest.values() for item in those]
    ids += [item for those in (await claimed(db, limit=500)).values() for item in those]
    assert len(ids) == len(set(ids)) == 200


async def test_a_dead_workers_work_comes_back_when_its_lease_ends(database: HouseDatabase, db: Database) -> None:
    await queue(database, "one", 3)
    first = await claimed(db, limit=10, lease=0.3)
    assert await claimed(db, limit=10) == {}
    async with db.transaction(WORKER) as tx:

        async def second_time() -> list[Claim]:
            return (await work.claim(tx, kind="insight", limit=10, lease=60)).get("one", [])

        again = await eventually(second_time, within=2)
    assert {claim.item_id for claim in again} == set(first["one"])
    assert {claim.attempts for claim in again} == {2}


async def test_work_is_finished_exactly_once_by_racing_workers(database: HouseDatabase, db: Database) -> None:
    await queue(database, "one", 200)
    ids = (await claimed(db, limit=200))["one"]
    start = asyncio.Barrier(4)

    async def finish() -> set[UUID]:
        async with db.transaction(Principal.worker("ingestion", "one")) as tx:
            await start.wait()
            return await work.finish(tx, kind="insight", project="one", ids=ids)

    finished = await asyncio.gather(*(finish() for _ in range(4)))
    assert sum(map(len, finished)) == 200
    assert set().union(*finished) == set(ids)


async def test_work_whose_effect_is_rolled_back_is_still_to_be_done(database: HouseDatabase, db: Database) -> None:
    await queue(database, "one", 1)
    ids = (await claimed(db, limit=1, lease=0.1))["one"]

    async def finishes_and_fails() -> None:
        async with db.transaction(Principal.worker("ingestion", "one")) as tx:
            assert await work.finish(tx, kind="insight", project="one", ids=ids) == set(ids)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await finishes_and_fails()
    assert await eventually(lambda: claimed(db, limit=1), within=2) == {"one": ids}


async def test_postponed_work_waits(database: HouseDatabase, db: Database) -> None:
    await queue(database, "one", 1)
    ids = (await claimed(db, limit=1))["one"]
    async with db.transaction(Principal.worker("ingestion", "one")) as tx:
        await work.postpone(tx, kind="insight", project="one", ids=ids, seconds=0.3)
    assert await claimed(db, limit=1) == {}
    assert await eventually(lambda: claimed(db, limit=1), within=2) == {"one": ids}


async def test_one_kind_of_work_is_not_given_to_workers_of_another(database: HouseDatabase, db: Database) -> None:
    await queue(database, "one", 1, kind="embedding")
    assert await claimed(db, limit=10) == {}
    assert len((await claimed(db, limit=10, kind="embedding"))["one"]) == 1


def test_pauses_grow_to_a_minute() -> None:
    assert [work.pause_after(n) for n in (1, 2, 3, 6, 7, 100)] == [1, 2, 4, 32, 60, 60]


async def test_the_same_message_parked_twice_is_one_row(database: HouseDatabase, db: Database) -> None:
    parked_id = new_id()
    for _ in range(2):
        async with db.transaction(Principal.worker("ingestion", "one")) as tx:
            await park(
                tx,
                parked_id=parked_id,
                source="INSIGHTS",
                subject="s" * 1000,
                headers={"a": "b"},
                payload=b"\x00\xff",
                reason="r" * 5000,
                attempts=1,
            )
    async with admin(database) as psql:
        [row] = await psql.fetch(
            "select subject, headers, payload, reason from memcube.parked where id = $1", parked_id
        )
    assert (len(row["subject"]), row["headers"], row["payload"], len(row["reason"])) == (
        512,
        '{"a": "b"}',
        b"\x00\xff",
        2000,
    )


@pytest.mark.parametrize("header", ["\x00", "\ud800", "a\nb", "x" * 5000])
async def test_a_message_is_parked_whatever_its_headers_hold(
    database: HouseDatabase, db: Database, header: str
) -> None:
    parked_id = new_id()
    async with db.transaction(Principal.worker("ingestion", "one")) as tx:
        await park(
            tx,
            parked_id=parked_id,
            source="INSIGHTS",
            subject="s",
            headers={"key": header, header: "value"},
            payload=b"",
            reason=f"reason {header}",
            attempts=1,
        )
    async with admin(database) as psql:
        assert await psql.fetchval("select true from memcube.parked where id = $1", parked_id)
