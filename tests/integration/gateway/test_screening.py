"""Road by road: with `redact` no table of the database holds what was found, with `tag` it is marked and left."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from nats.aio.client import Client
from tests.eventually import eventually
from tests.fakes.house_work import HouseWork
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import a_key
from tests.rooms import admin, bus_client, hearing, ingestion_room, submitted

from memcube_common.contracts.events import InsightSubmitted
from memcube_common.db.pool import Row
from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseDatabase, HouseProject

if TYPE_CHECKING:
    Psql = asyncpg.Connection[Row]
Road = Callable[[httpx.AsyncClient, str, str], Awaitable[str | None]]
"""Takes a needle into the house by one road, in text and beside it; the id of the memory that holds it, if any."""


@pytest_asyncio.fixture(scope="module")
async def psql(database: HouseDatabase) -> AsyncGenerator[Psql]:
    """Somebody who looks at everything."""
    async with admin(database) as connection:
        yield connection


async def decide(psql: Psql, gateway: RunningGateway, project: HouseProject, screening: str) -> None:
    """What the project's owner decides."""
    await psql.execute("update memcube.projects set screening = $2 where id = $1", project.slug, screening)
    gateway.room.decisions.forget(project.slug)


async def tables_with(psql: Psql, needle: str) -> list[str]:
    """Every table in one of whose columns the needle stands, as text or as bytes."""
    names = await psql.fetch(
        "select c.relname from pg_class c where c.relnamespace = 'memcube'::regnamespace and c.relkind = 'r'"
    )
    found: list[str] = []
    for row in names:
        name = row["relname"]
        if await psql.fetchval(
            f"select exists (select from memcube.{name} t"
            " where t::text like '%' || $1 || '%' or t::text like '%' || $2 || '%')",
            needle,
            needle.encode().hex(),
        ):
            found.append(name)
    return found


def fields(needle: str) -> dict[str, Any]:
    """The needle wherever a sender may write something beside the content."""
    return {"label": f"From {needle}", "tags": [needle], "metadata": {"who": [{needle: needle}], "n": 1}}


async def sent(answer: Awaitable[httpx.Response]) -> Any:
    said = await answer
    assert said.is_success, said.text
    return said.json()


def once() -> dict[str, str]:
    """An Idempotency-Key, so that the answer is kept too."""
    return {"idempotency-key": str(uuid4())}


async def by_create(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    body = {"content": f"Ask {needle}.", "kv_hint": needle, **fields(needle)}
    return (await sent(http.post("memories", json=body, headers=once())))["id"]


async def by_form(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    memory = json.dumps({"type": "PLAINTEXT", **fields(needle)})
    parts = {
        "memory": (None, memory, "application/json"),
        "payload": ("x.txt", f"Ask {needle}.".encode(), "text/plain"),
    }
    return (await sent(http.post("memories", files=parts, headers=once())))["id"]


async def by_batch(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    body = {"atomic": False, "memories": [{"content": ""}, {"content": f"Ask {needle}.", **fields(needle)}]}
    return (await sent(http.post("memories/batch", json=body, headers=once())))["results"][1]["id"]


async def by_change(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    memory = (await sent(http.post("memories", json={"content": "Nobody."})))["id"]
    await sent(http.patch(f"memories/{memory}", json={"content": f"Ask {needle}.", **fields(needle)}, headers=once()))
    return memory


async def by_payload(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    memory = (await sent(http.post("memories", json={"content": "Nobody."})))["id"]
    await sent(http.put(f"memories/{memory}/payload", content=f"Ask {needle}.".encode()))
    return memory


async def by_import(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    body = {"memories": [{"id": str(uuid4()), "content": f"Ask {needle}.", **fields(needle)}]}
    return (await sent(http.post("memories/import", json=body, headers=once())))["results"][0]["memory_id"]


async def by_insight(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    body = {"insights": [{"insight": f"Ask {needle}.", "evidence_refs": [f"mail:{needle}"], **fields(needle)}]}
    return (await sent(http.post("insights", json=body, headers=once())))["receipts"][0]["id"]


async def by_conversation(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    message = {"role": "user", "name": "Ada", "content": f"Ask {needle}."}
    body = {"messages": [message], "tags": [needle], "metadata": {"who": needle}}
    await sent(http.post("insights", json=body, headers=once()))
    return None


async def by_support(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    insight = (await sent(http.post("insights", json={"insight": f"Said once {uuid4()}."})))["id"]
    answer = await http.post(f"insights/{insight}/support", json={"evidence_refs": [needle]}, headers=once())
    assert answer.status_code in {200, 404}, answer.text  # it may not be stored yet; nothing may be kept either way
    return None


async def by_synthesis(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    sources = [(await sent(http.post("memories", json={"content": f"Nobody is here, {n}."})))["id"] for n in "ab"]
    body = {"memory_ids": sources, "method": "extractive", **fields(needle)}
    await sent(http.post("memories/synthesize", json=body, headers=once()))
    return None


async def by_chain(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    chain = await sent(http.post("chains", json={"name": f"of {needle}", "description": needle}, headers=once()))
    await sent(http.patch(f"chains/{chain['id']}", json={"description": f"by {needle}"}))
    return None


async def by_the_seeds_endpoint(http: httpx.AsyncClient, slug: str, needle: str) -> str | None:
    root = str(http.base_url).partition("/v1/")[0]
    body = {"action": "create", "memory": {"content": f"Ask {needle}.", **fields(needle)}}
    return (await sent(http.post(f"{root}/functions/v1/memories-crud", json=body, headers=once())))["id"]


MARKING: list[Road] = [
    by_create,
    by_form,
    by_batch,
    by_change,
    by_payload,
    by_import,
    by_insight,
    by_the_seeds_endpoint,
]
OTHERS: list[Road] = [by_conversation, by_support, by_synthesis, by_chain]


def named(road: Road) -> str:
    return road.__name__.removeprefix("by_")  # type: ignore[attr-defined]


@pytest.mark.parametrize("road", [*MARKING, *OTHERS], ids=named)
async def test_what_is_redacted_stands_in_no_table(
    http: httpx.AsyncClient,
    gateway: RunningGateway,
    psql: Psql,
    project: HouseProject,
    house_work: HouseWork,
    road: Road,
) -> None:
    before, after = (f"{word}-{uuid4().hex[:12]}@example.org" for word in ("before", "after"))
    await road(http, project.slug, before)
    assert await tables_with(psql, before) != [], "a search that finds nothing proves nothing"

    await decide(psql, gateway, project, "redact")
    memory = await road(http, project.slug, after)
    if road is by_insight:
        await house_work.store_insights(project.slug, [UUID(memory)])

    assert await tables_with(psql, after) == []


@pytest.mark.parametrize("road", MARKING, ids=named)
async def test_what_is_tagged_is_marked_and_left_as_it_is(
    http: httpx.AsyncClient,
    gateway: RunningGateway,
    psql: Psql,
    project: HouseProject,
    house_work: HouseWork,
    road: Road,
) -> None:
    needle = f"{uuid4().hex[:12]}@example.org"
    await decide(psql, gateway, project, "tag")

    memory_id = await road(http, project.slug, needle)
    if road is by_insight:
        await house_work.store_insights(project.slug, [UUID(memory_id)])
        memory_id = (await sent(http.get(f"receipts/{memory_id}")))["memory_id"]
    memory = await sent(http.get(f"memories/{memory_id}"))

    assert memory["content"] == f"Ask {needle}."
    assert (memory["governance"]["pii_tagged"], memory["governance"]["pii_kinds"]) == (True, ["email"])
    if road is not by_payload:
        assert memory["metadata"] == fields(needle)["metadata"]


async def test_who_may_not_mark_is_marked_all_the_same(
    http: httpx.AsyncClient, gateway: RunningGateway, psql: Psql, database: HouseDatabase, project: HouseProject
) -> None:
    """Marks are for the privileged to take away, and an agent may change a memory that is not its own."""
    await decide(psql, gateway, project, "redact")
    parent = (await sent(http.post("memories", json={"content": "Before.", "governance": {"pii_kinds": ["name"]}})))[
        "id"
    ]
    child = (await sent(http.post("memories", json={"content": "Derived.", "parents": [parent]})))["id"]
    agent = {"authorization": f"Bearer {await a_key(database, project.slug, 'bot', 'AGENT')}"}

    changed = await sent(http.patch(f"memories/{parent}", json={"content": "At 52.95.110.1"}, headers=agent))
    refused = await http.patch(
        f"memories/{parent}", json={"content": "x", "governance": {"pii_kinds": []}}, headers=agent
    )
    derived = await sent(http.get(f"memories/{child}"))

    assert (changed["content"], changed["version"]) == ("At [redacted:ip_address]", 2)
    assert changed["governance"]["pii_kinds"] == ["ip_address", "name"]
    assert refused.status_code == 403
    assert set(derived["governance"]["pii_kinds"]) == {"ip_address", "name"}


async def test_only_what_this_transaction_wrote_is_marked(
    http: httpx.AsyncClient, psql: Psql, project: HouseProject
) -> None:
    memory = (await sent(http.post("memories", json={"content": "Old."})))["id"]
    async with psql.transaction():
        await psql.execute("select set_config('app.project_id', $1, true)", project.slug)
        await psql.execute("select memcube.mark_personal($1, '{email}')", UUID(memory))

    assert (await sent(http.get(f"memories/{memory}")))["governance"]["pii_tagged"] is False


async def test_an_insight_over_nats_is_screened_and_so_is_what_is_set_aside(
    database: HouseDatabase, psql: Psql, project: HouseProject
) -> None:
    needle = f"{uuid4().hex[:12]}@example.org"
    await psql.execute("update memcube.projects set screening = 'redact' where id = $1", project.slug)
    subject = InsightSubmitted.subject(project.slug, "bot")
    event = submitted(f"Ask {needle}.", **fields(needle), evidence_refs=[needle])
    async with (
        ingestion_room(database) as room,
        bus_client(database.nats_url) as agent,
        hearing(room, subject=subject),
    ):
        await _published(agent, subject, event.model_dump_json())
        await _published(
            agent, subject, json.dumps({"id": str(new_id()), "insight": f"{needle}", "colour": needle, "tags": 7})
        )
        await _published(agent, subject, f"not even JSON, {needle}")

        async def both() -> bool:
            kept = await psql.fetchval("select count(*) from memcube.memories where project_id = $1", project.slug)
            parked = await psql.fetchval("select count(*) from memcube.parked where project_id = $1", project.slug)
            return (kept, parked) == (1, 2)

        await eventually(both)

    governance = await psql.fetchval("select governance from memcube.memories where project_id = $1", project.slug)
    assert json.loads(governance)["pii_kinds"] == ["email"]
    assert await tables_with(psql, needle) == []


async def test_who_screens_takes_less_in_one_request_and_who_does_not_takes_what_comes(
    http: httpx.AsyncClient, gateway: RunningGateway, psql: Psql, project: HouseProject
) -> None:
    full = {"memories": [{"content": "x" * 65_536}] * 18}
    over = {"memories": [*full["memories"], {"content": "x"}]}
    for how in ("tag", "redact"):
        await decide(psql, gateway, project, how)
        refused = await http.post("memories/batch", json=over)
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        assert "1179648 characters" in refused.json()["detail"]
    assert not await psql.fetchval("select count(*) from memcube.memories where project_id = $1", project.slug)
    assert len((await sent(http.post("memories/batch", json=full)))["results"]) == 18

    await decide(psql, gateway, project, "off")
    assert len((await sent(http.post("memories/batch", json=over)))["results"]) == 19


async def test_who_waits_too_long_to_be_screened_comes_again_and_nobody_else_waits(
    http: httpx.AsyncClient, gateway: RunningGateway, psql: Psql, project: HouseProject
) -> None:
    await decide(psql, gateway, project, "redact")
    long = {"content": "plain words " * 420}
    held = threading.Event()
    holding = asyncio.create_task(gateway.room.screening.each([held.wait], within=30))
    try:
        late, short, other = await asyncio.gather(
            http.post("memories", json=long),
            http.post("memories", json={"content": "At 52.95.110.1"}),
            asyncio.to_thread(threading.get_ident),
        )
    finally:
        held.set()
        await holding

    assert (late.status_code, late.json()["code"]) == (503, "unavailable")
    assert "looked through" in late.json()["detail"]
    assert short.json()["content"] == "At [redacted:ip_address]"
    assert other != threading.get_ident()
    assert (await http.post("memories", json=long)).status_code == 201


async def _published(agent: Client, subject: str, text: str) -> None:
    await agent.jetstream().publish(subject, text.encode())
