"""Insights through the door: durable when answered, once per key, nothing half-written."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import httpx
import pytest
from tests.fakes.running_gateway import running_gateway

from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseDatabase, HouseProject


async def counted(admin_dsn: str, project: HouseProject) -> tuple[int, int]:
    """How many insights and how many waiting pieces of work the project has."""
    connection = await asyncpg.connect(admin_dsn)
    try:
        insights = await connection.fetchval(
            "select count(*) from memcube.insights where project_id = $1", project.slug
        )
        work = await connection.fetchval(
            "select count(*) from memcube.work_queue where project_id = $1 and kind = 'insight'", project.slug
        )
    finally:
        await connection.close()
    return insights, work


async def test_one_insight_is_accepted_with_its_receipt(
    http: httpx.AsyncClient, project: HouseProject, admin_dsn: str
) -> None:
    answer = await http.post("insights", json={"insight": "Staging is reset every night.", "tags": ["staging"]})

    assert answer.status_code == 202
    receipt = answer.json()
    assert receipt["state"] == "accepted"
    assert receipt["project"] == project.slug
    assert (await http.get(f"receipts/{receipt['id']}")).json() == receipt
    assert await counted(admin_dsn, project) == (1, 1)


async def test_a_batch_answers_in_the_order_sent(
    http: httpx.AsyncClient, project: HouseProject, admin_dsn: str
) -> None:
    ids = [str(new_id()) for _ in range(50)]

    answer = await http.post("insights", json={"insights": [{"insight": f"fact {i}", "id": i} for i in ids]})

    assert answer.status_code == 202
    assert [receipt["id"] for receipt in answer.json()["receipts"]] == ids
    assert await counted(admin_dsn, project) == (50, 50)


async def test_the_same_id_twice_is_one_insight(http: httpx.AsyncClient, project: HouseProject, admin_dsn: str) -> None:
    insight = {"insight": "once", "id": str(new_id())}

    first = await http.post("insights", json=insight)
    second = await http.post("insights", json={"insights": [insight, {"insight": "another"}, insight]})

    assert second.json()["receipts"][0] == first.json() == second.json()["receipts"][2]
    assert await counted(admin_dsn, project) == (2, 2)


async def test_a_batch_with_one_bad_insight_leaves_nothing(
    http: httpx.AsyncClient, project: HouseProject, admin_dsn: str
) -> None:
    batch = [{"insight": "good"}, {"insight": "bad", "tags": ["x" * 65]}, {"insight": "", "sentiment": 2}]

    answer = await http.post("insights", json={"insights": batch})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "invalid"
    assert [e["field"] for e in problem["errors"]] == [
        "insights.1.tags.0",
        "insights.2.insight",
        "insights.2.sentiment",
    ]
    assert await counted(admin_dsn, project) == (0, 0)


async def test_a_batch_is_recognised_wherever_its_list_stands(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "insights",
        content=b'{"bogus": 1, "insights": [{"insight": "a"}]}',
        headers={"content-type": "application/json"},
    )

    assert [e["field"] for e in answer.json()["errors"]] == ["bogus"]


async def test_two_hundred_at_once_with_one_key_are_one(database: HouseDatabase, project: HouseProject) -> None:
    key = {"idempotency-key": uuid4().hex, **project.authorization}

    async with (
        running_gateway(database, answer_within=30, connect_timeout=30) as patient,
        httpx.AsyncClient(base_url=f"{patient.url}/v1/projects/{project.slug}/", timeout=60, headers=key) as http,
    ):
        answers = await asyncio.gather(*(http.post("insights", json={"insight": "a"}) for _ in range(200)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert await counted(database.admin_dsn, project) == (1, 1)


async def test_the_same_key_with_another_body_is_refused(http: httpx.AsyncClient) -> None:
    key = {"idempotency-key": uuid4().hex}
    first = await http.post("insights", json={"insight": "a"}, headers=key)

    other = await http.post("insights", json={"insight": "b"}, headers=key)
    again = await http.post("insights", json={"insight": "a"}, headers=key)

    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_key_is_its_project_s_and_its_route_s_own(http: httpx.AsyncClient) -> None:
    key = {"idempotency-key": uuid4().hex}

    accepted = await http.post("insights", json={"insight": "a"}, headers=key)
    imported = await http.post("memories/import", json={"memories": [{"id": "1", "content": "a"}]}, headers=key)

    assert (accepted.status_code, imported.status_code) == (202, 200)


async def test_a_refused_request_does_not_use_its_key_up(http: httpx.AsyncClient) -> None:
    key = {"idempotency-key": uuid4().hex}

    refused = await http.post("insights", json={"insight": ""}, headers=key)
    accepted = await http.post("insights", json={"insight": "now well"}, headers=key)

    assert (refused.status_code, accepted.status_code) == (422, 202)


async def test_answers_older_than_a_day_are_forgotten(
    http: httpx.AsyncClient, project: HouseProject, admin_dsn: str, gateway: object
) -> None:
    key = {"idempotency-key": uuid4().hex}
    first = await http.post("insights", json={"insight": "a"}, headers=key)
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute(
            "update memcube.idempotency_keys set created_at = now() - interval '25 hours' where project_id = $1",
            project.slug,
        )
    finally:
        await connection.close()

    second = await http.post("insights", json={"insight": "b"}, headers=key)

    assert second.status_code == 202
    assert second.json()["id"] != first.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "with space"])
async def test_a_key_outside_its_alphabet_is_refused(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post("insights", json={"insight": "a"}, headers={"idempotency-key": key})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
