"""Quotas: never overshot, never undershot, announced once, given back by rollbacks and deletions."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
import pytest_asyncio
from tests.eventually import stopped
from tests.fakes.house_work import relaying
from tests.fakes.running_gateway import RunningGateway
from tests.rooms import admin, an_insight, opened

from memcube_common.contracts.catalog import EVENTS
from memcube_common.contracts.events import QuotaFact
from memcube_common.db import Database
from memcube_common.errors import QuotaExceeded
from memcube_common.insights.store import accept_insights
from memcube_common.quotas import store
from memcube_common.quotas.domain import Quota, Resource
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject

WRITERS = 64


@pytest_asyncio.fixture(scope="module")
async def db(database: HouseDatabase) -> AsyncGenerator[Database]:
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "gateway", stack, size=WRITERS, statement_timeout=60.0, connect_timeout=30.0)


@pytest_asyncio.fixture(scope="module")
async def operator(database: HouseDatabase) -> AsyncGenerator[Database]:
    db = await Database.open(database.admin_dsn, room="operator", size=1)
    try:
        yield db
    finally:
        await db.close()


@pytest_asyncio.fixture(scope="module")
async def psql(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    async with admin(database) as connection:
        yield connection


def user(project: HouseProject) -> Principal:
    return Principal.user(project.slug, "tester", "SERVICE")


async def allow(operator: Database, project: HouseProject, **maxima: int | None) -> None:
    async with operator.transaction(replace(Principal.operator(), project=project.slug)) as tx:
        for resource, maximum in maxima.items():
            await store.set_quota(tx, resource=resource, maximum=maximum)  # pyright: ignore[reportArgumentType]


async def take(db: Database, project: HouseProject, **need: int) -> bool:
    """Take and commit; False where it was refused, which is announced as every caller does."""
    try:
        async with db.transaction(user(project)) as tx:
            await store.take(tx, need=need)  # pyright: ignore[reportArgumentType]
    except QuotaExceeded as refused:
        await store.announce_refusal(db, principal=user(project), refused=refused)
        return False
    return True


async def give_back(admins: asyncpg.Pool[asyncpg.Record], project: HouseProject, **given: int) -> None:
    """What deletions do: nobody else may give back."""
    async with admins.acquire() as connection, connection.transaction():
        await connection.execute(f"set local role memcube_quota; set local app.project_id = '{project.slug}'")
        for resource, amount in given.items():
            await connection.fetchval("select memcube.take_quota($1, $2)", resource, -amount)


async def state(db: Database, project: HouseProject) -> Mapping[Resource, Quota]:
    async with db.transaction(user(project)) as tx:
        return {quota.resource: quota for quota in await store.read_quotas(tx)}


async def used(db: Database, project: HouseProject, resource: Resource = "memories") -> int:
    return (await state(db, project))[resource].used


async def announced(
    psql: asyncpg.Connection[asyncpg.Record], project: HouseProject, resource: Resource = "memories"
) -> list[tuple[str, int, int]]:
    rows = await psql.fetch(
        "select type, body::text as body from memcube.changes where project_id = $1 and type ~ '^quota' order by seq",
        project.slug,
    )
    found: list[tuple[str, dict[str, Any]]] = [(row["type"], orjson.loads(row["body"])) for row in rows]
    return [
        (kind.rpartition(".")[2], body["used"], body["max"]) for kind, body in found if body["resource"] == resource
    ]


async def test_a_project_starts_with_the_defaults_and_nothing_used(db: Database, project: HouseProject) -> None:
    found = await state(db, project)

    assert {name: (quota.used, quota.max) for name, quota in found.items()} == {
        "memories": (0, 1_000_000),
        "bytes": (0, 10 * 1024**3),
        "insights_per_day": (0, 1_000_000),
        "packs": (0, 1_000),
    }


async def test_of_a_thousand_exactly_a_thousand_are_taken_by_sixty_four_writers_at_once(
    db: Database, operator: Database, psql: asyncpg.Connection[asyncpg.Record], project: HouseProject
) -> None:
    await allow(operator, project, memories=1_000)

    async def write() -> int:
        return sum([await take(db, project, memories=1) for _ in range(25)])

    taken = sum(await asyncio.gather(*(write() for _ in range(WRITERS))))

    assert taken == 1_000
    assert await used(db, project) == 1_000
    assert [(kind, used) for kind, used, _ in await announced(psql, project)] == [("warned", 800), ("exhausted", 1_000)]


@pytest.mark.parametrize("maximum", [1, 5, 7, 16, 17, 33, 100])
async def test_small_maxima_are_exact_and_announced_too(
    db: Database, operator: Database, psql: asyncpg.Connection[asyncpg.Record], project: HouseProject, maximum: int
) -> None:
    await allow(operator, project, memories=maximum)

    async def write() -> int:
        return sum([await take(db, project, memories=1) for _ in range(maximum // 8 + 2)])

    assert sum(await asyncio.gather(*(write() for _ in range(16)))) == maximum
    assert [kind for kind, *_ in await announced(psql, project)] == ["warned", "exhausted"]


async def test_batches_that_do_not_fit_are_refused_whole_and_smaller_ones_still_fit(
    db: Database, operator: Database, psql: asyncpg.Connection[asyncpg.Record], project: HouseProject
) -> None:
    await allow(operator, project, memories=100)

    taken = await asyncio.gather(*(take(db, project, memories=7) for _ in range(WRITERS)))

    assert sum(taken) == 14
    assert await used(db, project) == 98
    assert not await take(db, project, memories=3)
    assert await take(db, project, memories=2)
    assert Counter(kind for kind, *_ in await announced(psql, project)) == {"warned": 1, "exhausted": 1}


async def test_what_is_undone_or_cancelled_was_never_taken(
    db: Database, operator: Database, project: HouseProject
) -> None:
    await allow(operator, project, memories=1_000)
    entered = asyncio.Event()

    async def undone() -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with db.transaction(user(project)) as tx:
                await store.take(tx, need={"memories": 9})
                raise ZeroDivisionError

    async def cancelled() -> None:
        async with db.transaction(user(project)) as tx:
            await store.take(tx, need={"memories": 9})
            entered.set()
            await asyncio.Event().wait()

    async def committed() -> int:
        return sum([await take(db, project, memories=1) for _ in range(10)])

    hanging = asyncio.create_task(cancelled())
    await entered.wait()
    others = asyncio.gather(*(undone() for _ in range(30)), committed())
    await stopped(hanging)  # meanwhile some of the others wait for its slot
    *_, taken = await others

    assert taken == 10
    assert await take(db, project, memories=990)
    assert await used(db, project) == 1_000
    assert not await take(db, project, memories=1)


async def test_several_resources_are_taken_together_or_not_at_all(
    db: Database, operator: Database, project: HouseProject
) -> None:
    await allow(operator, project, bytes=100)

    assert await take(db, project, memories=1, bytes=60)
    assert not await take(db, project, memories=1, bytes=60)

    found = await state(db, project)
    assert (found["memories"].used, found["bytes"].used) == (1, 60)


@pytest_asyncio.fixture
async def admins(database: HouseDatabase) -> AsyncGenerator[asyncpg.Pool[asyncpg.Record]]:
    """Administrators, a few at once."""
    async with asyncpg.create_pool(database.admin_dsn, min_size=1, max_size=8) as pool:
        yield pool


@pytest.mark.parametrize("amount", [-1, -(10**9)])
async def test_nothing_is_taken_in_the_negative(db: Database, project: HouseProject, amount: int) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await take(db, project, memories=amount)


async def test_what_is_given_back_can_be_taken_again_and_a_warning_is_repeated_after_it_fell_far_enough(
    db: Database,
    operator: Database,
    psql: asyncpg.Connection[asyncpg.Record],
    admins: asyncpg.Pool[asyncpg.Record],
    project: HouseProject,
) -> None:
    await allow(operator, project, memories=100)

    for amount in (100, -25, 10, -40, 55):  # 100, 75: not forgotten yet, 85, 45: forgotten, 100
        if amount > 0:
            assert await take(db, project, memories=amount)
        else:
            await give_back(admins, project, memories=-amount)

    assert [(kind, used) for kind, used, _ in await announced(psql, project)] == [
        ("warned", 100),
        ("exhausted", 100),
        ("warned", 100),
        ("exhausted", 100),
    ]


async def test_giving_back_while_others_take_stays_exact(
    db: Database, operator: Database, admins: asyncpg.Pool[asyncpg.Record], project: HouseProject
) -> None:
    await allow(operator, project, memories=200)

    async def churn() -> int:
        balance = 0
        for _ in range(10):
            balance += 3 * await take(db, project, memories=3)
            if balance:
                await give_back(admins, project, memories=2)
                balance -= 2
        return balance

    balances = await asyncio.gather(*(churn() for _ in range(32)))

    assert await used(db, project) == sum(balances) <= 200
    assert await take(db, project, memories=200 - sum(balances))
    assert not await take(db, project, memories=1)


async def test_a_daily_resource_is_free_again_on_the_next_day(
    db: Database, operator: Database, psql: asyncpg.Connection[asyncpg.Record], project: HouseProject
) -> None:
    await allow(operator, project, insights_per_day=10)
    assert await take(db, project, insights_per_day=10)
    assert not await take(db, project, insights_per_day=1)

    for table in ("quotas", "quota_slots"):
        await psql.execute(
            f"update memcube.{table} set day = day - 1 where project_id = $1 and resource = 'insights_per_day'",
            project.slug,
        )

    assert await used(db, project, "insights_per_day") == 0
    assert sum(await asyncio.gather(*(take(db, project, insights_per_day=1) for _ in range(30)))) == 10
    kinds = [kind for kind, *_ in await announced(psql, project, "insights_per_day")]
    assert kinds == ["warned", "exhausted", "warned", "exhausted"]


async def test_the_operator_can_raise_lower_and_lift_a_maximum(
    db: Database, operator: Database, admins: asyncpg.Pool[asyncpg.Record], project: HouseProject
) -> None:
    await allow(operator, project, packs=1)
    assert await take(db, project, packs=1)
    assert not await take(db, project, packs=1)
    await allow(operator, project, packs=3)
    assert await take(db, project, packs=2)
    await allow(operator, project, packs=None)
    assert await take(db, project, packs=10**9)
    await allow(operator, project, packs=5)
    assert not await take(db, project, packs=1)
    await give_back(admins, project, packs=10**9)
    assert await take(db, project, packs=2)
    assert not await take(db, project, packs=1)


async def test_what_a_project_held_before_it_was_counted_is_counted_once(
    db: Database, psql: asyncpg.Connection[asyncpg.Record], project: HouseProject, http: httpx.AsyncClient
) -> None:
    """Projects of the time before quotas have memories and no row."""
    memories = [{"id": str(n), "content": "x" * 10} for n in range(5)]
    assert (await http.post("memories/import", json={"memories": memories})).status_code == 200
    for table in ("quota_slots", "quotas"):
        await psql.execute(f"delete from memcube.{table} where project_id = $1", project.slug)

    more = [{"id": str(n), "content": "x" * 10} for n in range(5, 8)]
    assert (await http.post("memories/import", json={"memories": more})).status_code == 200

    found = await state(db, project)
    assert (found["memories"].used, found["bytes"].used) == (8, 80)


async def test_deleting_memories_gives_back_whoever_deletes(
    db: Database, psql: asyncpg.Connection[asyncpg.Record], project: HouseProject, http: httpx.AsyncClient
) -> None:
    memories = [{"id": str(n), "content": "x" * 10} for n in range(5)]
    answer = await http.post("memories/import", json={"memories": memories})
    ids = [one["memory_id"] for one in answer.json()["results"]]

    await psql.execute("delete from memcube.memories where project_id = $1 and id = any($2)", project.slug, ids[:2])
    await psql.execute(
        "delete from memcube.memory_payloads where project_id = $1 and memory_id = any($2)", project.slug, ids[:2]
    )

    found = await state(db, project)
    assert (found["memories"].used, found["bytes"].used) == (3, 30)


async def test_one_project_takes_nothing_of_anothers(
    db: Database, database: HouseDatabase, operator: Database, project: HouseProject
) -> None:
    other = await database.project()
    await allow(operator, project, memories=5)

    assert not await take(db, project, memories=6)
    assert await take(db, other, memories=6)

    assert (await used(db, project), await used(db, other)) == (0, 6)


async def test_writers_of_one_project_do_not_wait_for_each_other(
    db: Database, operator: Database, project: HouseProject
) -> None:
    """One that has taken and not committed holds a slot, not the project: most others pass."""
    assert await take(db, project, memories=1)
    async with contextlib.AsyncExitStack() as stack:
        slots: set[int] = set()
        for _ in range(12):
            tx = await stack.enter_async_context(db.transaction(user(project)))
            slot = await tx._connection.fetchval("select pg_backend_pid() % 16")  # pyright: ignore[reportPrivateUsage]
            if slot not in slots:
                slots.add(slot)
                async with asyncio.timeout(2):
                    await store.take(tx, need={"memories": 1})
    assert len(slots) > 1


async def test_over_http_of_a_thousand_exactly_a_thousand_are_accepted(
    gateway: RunningGateway,
    db: Database,
    operator: Database,
    psql: asyncpg.Connection[asyncpg.Record],
    project: HouseProject,
) -> None:
    await allow(operator, project, memories=1_000)
    limits = httpx.Limits(max_connections=WRITERS)
    async with httpx.AsyncClient(headers=project.authorization, timeout=60, limits=limits) as client:
        answers = await asyncio.gather(
            *(
                client.post(
                    f"{gateway.url}/v1/projects/{project.slug}/insights",
                    json={"insights": [{"insight": f"{writer} {n}"} for n in range(19)]},
                )
                for writer in range(WRITERS)
            )
        )

    refused = [answer for answer in answers if answer.status_code != 202]
    assert Counter(answer.status_code for answer in answers) == {202: 1_000 // 19, 403: WRITERS - 1_000 // 19}
    assert {answer.json()["code"] for answer in refused} == {"quota_exceeded"}
    assert (refused[0].json()["resource"], refused[0].json()["maximum"]) == ("memories", 1_000)
    kept = await psql.fetchval("select count(*) from memcube.insights where project_id = $1", project.slug)
    found = await state(db, project)
    assert found["memories"].used == found["insights_per_day"].used == kept == 1_000 // 19 * 19
    assert Counter(kind for kind, *_ in await announced(psql, project)) == {"warned": 1, "exhausted": 1}


async def test_an_insight_sent_twice_is_counted_once(db: Database, project: HouseProject) -> None:
    insight = an_insight("twelve bytes")
    for _ in range(2):
        async with db.transaction(user(project)) as tx:
            await accept_insights(tx, project=project.slug, via="http", insights=[insight])

    found = await state(db, project)
    assert (found["memories"].used, found["bytes"].used, found["insights_per_day"].used) == (1, 12, 1)


async def test_an_import_beyond_the_quota_leaves_nothing_behind(
    db: Database, operator: Database, project: HouseProject, http: httpx.AsyncClient
) -> None:
    await allow(operator, project, bytes=25)
    memories = [{"id": str(n), "content": "x" * 10} for n in range(3)]

    refused = await http.post("memories/import", json={"memories": memories})
    kept = await http.post("memories/import", json={"memories": memories[:2]})
    again = await http.post("memories/import", json={"memories": memories[:2]})

    assert (refused.status_code, refused.json()["resource"]) == (403, "bytes")
    assert (kept.status_code, again.status_code) == (200, 200)
    found = await state(db, project)
    assert (found["memories"].used, found["bytes"].used) == (2, 20)


async def test_warnings_reach_subscribers_as_their_events(
    db: Database, operator: Database, database: HouseDatabase, project: HouseProject, http: httpx.AsyncClient
) -> None:
    await allow(operator, project, packs=10)
    assert await take(db, project, packs=9)
    assert not await take(db, project, packs=2)

    events: list[QuotaFact] = []
    async with asyncio.timeout(20), relaying(database), http.stream("GET", "changes", params={"after": 0}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                data = orjson.loads(line.removeprefix("data: "))
                read = EVENTS[data["type"]].model_validate(data)
                assert isinstance(read, QuotaFact)
                events.append(read)
            if len(events) == 2:
                break

    assert [(event.type, event.resource, event.used, event.max) for event in events] == [
        ("quota.v1.warned", "packs", 9, 10),
        ("quota.v1.exhausted", "packs", 9, 10),
    ]
