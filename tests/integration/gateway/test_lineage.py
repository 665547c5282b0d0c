"""What was derived, when it is much and when several change it at once: judged once each, and who meets only waits."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from tests.eventually import eventually
from tests.fakes.house_work import HouseWork
from tests.rooms import admin

from memcube_common.memories.revisions import purge_memories
from memcube_common.memories.store import hold_sources
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject

WIDE, DEEP = 6, 4


async def made(http: httpx.AsyncClient, *parents: str, many: int = 1, **fields: Any) -> list[str]:
    """Ids of memories that were just derived from `parents`."""
    given = [{"content": f"The kettle sings, verse {n}.", "parents": parents, **fields} for n in range(many)]
    answer = await http.post("memories/batch", json={"memories": given})
    assert answer.status_code == 200, answer.text
    return [result["id"] for result in answer.json()["results"]]


async def read(http: httpx.AsyncClient, memory: str) -> dict[str, Any]:
    """A memory that is there."""
    answer = await http.get(f"memories/{memory}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def somebody_waits(database: HouseDatabase) -> bool:
    """Whether a transaction of this database waits for another."""
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        return await connection.fetchval(
            "select exists (select from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock')"
        )
    finally:
        await connection.close()


async def test_every_descendant_is_judged_once(
    http: httpx.AsyncClient, database: HouseDatabase, project: HouseProject
) -> None:
    (root,) = layer = await made(http)
    for _ in range(DEEP):
        layer = await made(http, *layer, many=WIDE)
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        async with connection.transaction():
            await connection.execute("select set_config('app.project_id', $1, true)", project.slug)
            await connection.execute(
                """update memcube.memories set governance = governance || '{"read_roles": ["AGENT"]}' where id = $1""",
                UUID(root),
            )
            judged = await connection.fetchval(
                "select sum(pg_stat_get_xact_tuples_updated(inhrelid)) from pg_inherits"
                " where inhparent = 'memcube.memories'::regclass"
            )
    finally:
        await connection.close()
    assert judged == 1 + WIDE * DEEP
    assert {tuple((await read(http, one))["governance"]["read_roles"]) for one in layer} == {("AGENT",)}


async def test_what_is_left_of_a_lineage_is_derived_from_what_is_left_and_bound_by_what_went(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    (first,) = await made(http)
    (beside,) = await made(http)
    (second,) = await made(http, first, governance={"write_roles": []})
    (third,) = await made(http, second, governance={"read_roles": ["MEMBER"]})
    (heir,) = await made(http, third, beside)
    (other,) = await made(http, second)
    async with house_work.db.transaction(Principal.worker("lifecycle", project.slug)) as tx:
        await purge_memories(tx, project=project.slug, ids=[UUID(second), UUID(third)])
    assert (await read(http, heir))["parents"] == [beside, first]
    assert (await read(http, other))["parents"] == [first]
    below = (await http.get(f"memories/{first}/lineage")).json()["descendants"]
    assert {(one["id"], one["distance"]) for one in below} == {(heir, 1), (other, 1)}
    await http.patch(f"memories/{first}", json={"governance": {"sensitivity": "confidential"}})
    for memory, readers in ((heir, ["MEMBER"]), (other, ["MEMBER", "AGENT"])):
        freed = (await http.patch(f"memories/{memory}", json={"governance": {}})).json()["governance"]
        assert (freed["read_roles"], freed["write_roles"], freed["sensitivity"]) == (readers, [], "confidential")


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("DELETE", None),
        ("PATCH", {"governance": {"write_roles": []}}),
        ("PATCH", {"content": "Ask ada@example.org."}),  # which marks it
    ],
    ids=["ended", "governed", "marked"],
)
async def test_who_derives_from_a_lineage_that_is_being_changed_only_waits(
    http: httpx.AsyncClient,
    database: HouseDatabase,
    house_work: HouseWork,
    project: HouseProject,
    method: str,
    change: dict[str, Any] | None,
) -> None:
    async with admin(database) as psql:
        await psql.execute("update memcube.projects set screening = 'tag' where id = $1", project.slug)
    (source,) = await made(http)
    (child,) = await made(http, source)
    async with house_work.db.transaction(Principal.worker("ingestion", project.slug)) as tx:
        await hold_sources(tx, ids=[UUID(child)])
        changing = asyncio.create_task(http.request(method, f"memories/{source}", json=change))
        await eventually(lambda: somebody_waits(database))
        await hold_sources(tx, ids=[UUID(source)])
    assert (await changing).status_code == 200


async def test_putting_away_and_taking_back_at_once_is_never_refused(http: httpx.AsyncClient) -> None:
    (memory,) = await made(http)
    answers = await asyncio.gather(
        *(http.post(f"memories/{memory}/{verb}") for _ in range(20) for verb in ("archive", "restore"))
    )
    assert {answer.status_code for answer in answers} == {200}


async def test_the_last_page_of_a_trail_says_that_it_is_the_last(http: httpx.AsyncClient) -> None:
    (memory,) = await made(http)
    await http.patch(f"memories/{memory}", json={"tags": ["t"]})
    page = (await http.get(f"memories/{memory}/events", params={"limit": 2})).json()
    assert ([event["kind"] for event in page["events"]], page["next_before"]) == (["UPDATED", "CREATED"], None)
