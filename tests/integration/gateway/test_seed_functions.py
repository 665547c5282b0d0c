"""The seed's endpoints take the bodies the seed shows, from clients that send what supabase clients send."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from tests.fakes.house_work import HouseWork
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.house_people import a_key, an_owner

from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseDatabase, HouseProject

CREATE = {  # the seed's first example
    "action": "create",
    "memory": {"label": "react-pattern", "type": "PLAINTEXT", "content": "Use hooks for state management"},
}
FLAT = {"label": "python-pattern", "content": "Always use type hints", "type": "PLAINTEXT"}  # its Python client's
QUERY = {"tags": ["python", "typing"], "limit": 10}


@pytest_asyncio.fixture
async def seed(gateway: RunningGateway, project: HouseProject) -> AsyncGenerator[httpx.AsyncClient]:
    """A client as supabase-js is: the key twice, and a header of its own."""
    headers = {**project.authorization, "apikey": project.key, "x-client-info": "supabase-js/2"}
    async with httpx.AsyncClient(base_url=f"{gateway.url}/functions/v1/", headers=headers, timeout=15) as client:
        yield client


async def test_the_bodies_of_the_seed_work_as_it_shows_them(seed: httpx.AsyncClient, project: HouseProject) -> None:
    created = await seed.post("memories-crud", json=CREATE)
    flat = await seed.post("memories-crud", json={**FLAT, "tags": ["python", "typing"]})
    found = await seed.post("memories-query", json=QUERY)

    assert (created.status_code, flat.status_code, found.status_code) == (201, 201, 200)
    memory = created.json()
    assert (memory["label"], memory["type"], memory["content"], memory["project_id"], memory["version"]) == (
        "react-pattern", "PLAINTEXT", "Use hooks for state management", project.slug, 1
    )  # fmt: skip
    assert [one["label"] for one in found.json()["memories"]] == ["python-pattern"]
    assert created.headers["cache-control"] == "no-store"


async def test_every_action_does_what_its_route_does(seed: httpx.AsyncClient) -> None:
    memory = (await seed.post("memories-crud", json={**FLAT, "tags": ["react"]})).json()

    async def asked(**body: Any) -> httpx.Response:
        return await seed.post("memories-crud", json=body)

    read = await asked(action="get", id=memory["id"])
    changed = await asked(action="update", memory={"id": memory["id"], "content": "Use hooks, not classes"})
    renamed = await asked(action="update", id=memory["id"], label="react-hooks")
    archived = await asked(action="archive", memory={"id": memory["id"]})
    restored = await asked(action="restore", id=memory["id"])
    listed = await asked(action="list", tags=["react"], limit=5)
    deleted = await asked(action="delete", id=memory["id"])
    gone = await asked(action="get", id=memory["id"])

    assert read.json()["content"] == "Always use type hints"
    assert (changed.json()["content"], changed.json()["version"]) == ("Use hooks, not classes", 2)
    assert (renamed.json()["label"], renamed.json()["version"]) == ("react-hooks", 3)
    assert archived.json()["lifecycle"] == "ARCHIVED"
    assert restored.json()["lifecycle"] == "ACTIVE"
    assert [one["id"] for one in listed.json()["memories"]] == [memory["id"]]
    assert deleted.json() == {"purged": [memory["id"]]}
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_insights_are_processed_into_memories(
    seed: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    one = await seed.post("insights-process", json={"insight": "Bo is away in May.", "tags": ["bo"]})
    other = await seed.post("insights-process", json={"action": "process", "content": "Ada is here.", "tags": ["bo"]})
    inner = await seed.post("insights-process", json={"insight": {"insight": "Cy writes.", "tags": ["bo"]}})
    many = await seed.post(
        "insights-process", json={"insights": [{"insight": "Dee sings.", "tags": ["bo"]}, {"content": "Eve reads."}]}
    )
    deep = await seed.post("insights-process", json={"insight": {"content": "Flo draws."}, "tags": ["bo"]})
    receipts = [one.json(), other.json(), inner.json(), *many.json()["receipts"], deep.json()]
    await house_work.store_insights(project.slug, [UUID(receipt["id"]) for receipt in receipts])

    found = await seed.post("memories-query", json={"tags": ["bo"]})

    assert [answer.status_code for answer in (one, other, inner, many, deep)] == [202] * 5
    assert one.json()["state"] == "accepted"
    assert len(many.json()["receipts"]) == 2
    assert {memory["content"] for memory in found.json()["memories"]} == {
        "Bo is away in May.", "Ada is here.", "Cy writes.", "Dee sings.", "Flo draws."
    }  # fmt: skip


async def test_a_dry_run_of_insights_stores_nothing(seed: httpx.AsyncClient) -> None:
    dry = {"dry_run": "true"}
    said = await seed.post("insights-process", params=dry, json={"content": "Bo is away in May."})
    again = await seed.post("insights-process", params=dry, json={"insight": {"insight": "Bo is away in May."}})
    unclear = await seed.post("insights-process", params={"dry_run": "perhaps"}, json={"insight": "Bo is away."})

    assert (said.status_code, again.status_code, unclear.status_code) == (200, 200, 422)
    assert [one["decision"] for one in said.json()["insights"]] == ["new"]
    assert again.json() == said.json()


async def test_the_same_key_and_body_have_one_effect(seed: httpx.AsyncClient) -> None:
    once = {"idempotency-key": str(uuid4())}
    first = await seed.post("memories-crud", json=CREATE, headers=once)
    again = await seed.post("memories-crud", json=CREATE, headers=once)
    other = await seed.post("memories-crud", json=FLAT, headers=once)

    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert other.json()["code"] == "idempotency_key_reused"


async def test_a_key_opens_its_own_project_in_either_header(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject
) -> None:
    foreign = await database.project()
    viewer = await a_key(database, project.slug, "vi", "VIEWER")
    async with httpx.AsyncClient(base_url=f"{gateway.url}/functions/v1/", timeout=15) as client:

        async def asked(body: dict[str, Any], **headers: str) -> tuple[int, Any]:
            answer = await client.post("memories-crud", json=body, headers=headers)
            return answer.status_code, answer.json().get("code")

        assert await asked(CREATE, apikey=project.key) == (201, None)
        assert await asked({**CREATE, "project_id": project.slug}, apikey=project.key) == (201, None)
        assert await asked({"action": "list"}, apikey=viewer) == (200, None)
        assert await asked(CREATE, apikey=viewer) == (403, "not_allowed")
        for slug in (foreign.slug, "there-is-no-such-project"):
            assert await asked({**CREATE, "project_id": slug}, apikey=project.key) == (404, "not_found")
        assert await asked(CREATE) == (401, "not_signed_in")
        assert await asked(CREATE, apikey="mc_sec_" + "A" * 49) == (401, "not_signed_in")
        assert await asked(CREATE, authorization="Bearer nothing", apikey=project.key) == (401, "not_signed_in")


async def test_an_account_names_its_project(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject
) -> None:
    gateway.room.desk.by_address.forget_all()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=15) as client:
        owner = await an_owner(database, client, project.slug)
        named = await client.post(
            "/functions/v1/memories-crud",
            json={"memory": {**FLAT, "project_id": project.slug}},
            headers=owner.authorization,
        )
        unnamed = await client.post("/functions/v1/memories-crud", json=CREATE, headers=owner.authorization)

    assert named.status_code == 201
    assert (unnamed.status_code, unnamed.json()["errors"][0]["field"]) == (422, "project_id")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "drop"}, "action"),
        ({"action": "get"}, "id"),
        ({"action": "get", "id": "x"}, "id"),
        ({"action": "update", "memory": {"id": 7}}, "memory.id"),
        ({"action": "archive", "id": str(uuid4()), "label": "x"}, "label"),
        ({"action": "create", "memory": {"content": "x"}, "tags": []}, "tags"),
        ({"action": "create", "memory": {"content": "x", "type": "plaintext"}}, "memory.type"),
        ({"action": "create", "memory": {"content": "x", "tags": ["a", 7]}}, "memory.tags.1"),
        ({"action": "create", "memory": {"label": "x"}}, "memory.content"),
        ({"action": "create", "id": str(uuid4()), "memory": {"id": str(new_id()), "content": "x"}}, "memory.id"),
        ({"action": "update", "id": str(uuid4()), "memory": {}}, "memory"),
        ({"action": "delete", "id": str(uuid4()), "memory": {"label": "x"}}, "memory.label"),
        ({"action": "list", "id": str(uuid4())}, "id"),
        ({"action": "list", "memory": {"id": str(uuid4())}}, "memory.id"),
        ({"action": "create", "content": "x", "colour": "red"}, "colour"),
        ({"action": "create", "content": "x", "project_id": "No Slug"}, "project_id"),
        ({"project_id": "a", "memory": {"project_id": "b", "content": "x"}}, "project_id"),
    ],
)
async def test_what_cannot_be_done_is_named(seed: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    refused = await seed.post("memories-crud", json=body)

    assert refused.status_code == 422, refused.text
    assert [error["field"] for error in refused.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("function", "body", "field"),
    [
        ("memories-query", {"query": ""}, "query"),
        ("memories-query", {"query": "x", "text": "y"}, "query"),
        ("memories-query", {"filters": {}}, "filters"),
        ("memories-schedule", {"agent_id": "a", "tags": [7]}, "tags.0"),
        ("memories-schedule", {"agent_id": "a", "query": ""}, "query"),
        ("insights-process", {"content": ""}, "content"),
        ("insights-process", {"insight": {"content": 7}}, "insight.content"),
        ("insights-process", {"insight": {"insight": "x", "tags": "y"}}, "insight.tags"),
        ("insights-process", {"insight": {"insight": "x"}, "sentiment": 2}, "sentiment"),
        ("insights-process", {"insights": [{"content": "x"}, {"content": ""}]}, "insights.1.content"),
        ("insights-process", {"insights": [{"content": "x", "insight": "y"}]}, "insights.0.content"),
    ],
)
async def test_what_is_refused_is_named_as_it_was_sent(
    seed: httpx.AsyncClient, function: str, body: dict[str, Any], field: str
) -> None:
    refused = await seed.post(function, json=body)

    assert refused.status_code == 422, refused.text
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_a_browser_may_send_what_supabase_clients_send(database: HouseDatabase) -> None:
    origin = "https://app.example.com"
    async with (
        running_gateway(database, cors_origins=origin) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        allowed = await client.options(
            "/functions/v1/memories-crud", headers={"origin": origin, "access-control-request-method": "POST"}
        )

    assert allowed.status_code == 204
    said = {name.strip().lower() for name in allowed.headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "apikey", "x-client-info", "content-type"} <= said
