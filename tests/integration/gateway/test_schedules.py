"""Schedules through every door: made, recorded, listed, read and replayed; one's own, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from tests.fakes.embedding_room import FakeEmbeddingRoom
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import a_key
from tests.integration.scheduling.conftest import scheduling_room

from memcube_common.errors import TryAgain
from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_common.tokens import count_tokens
from memcube_scheduling.room import Room

ASKED = {"agent_id": "bot-001", "task_id": "TASK-123", "text": "how do we deploy?", "token_budget": 400}
DEPLOYS = "Deploys to staging happen on Mondays."


@pytest_asyncio.fixture(scope="module")
async def room(database: HouseDatabase, embedding_room: FakeEmbeddingRoom) -> AsyncGenerator[Room]:
    """The scheduling room, answering."""
    async with scheduling_room(database) as room:
        yield room


@pytest_asyncio.fixture
async def mine(http: httpx.AsyncClient, room: Room) -> httpx.AsyncClient:
    """The service key's way, in a project that knows something."""
    for content, tags in ((DEPLOYS, ["deploy"]), ("Ada likes tea.", ["ada"]), ("We deploy with make ship.", [])):
        answer = await http.post("memories", json={"content": content, "tags": tags})
        assert answer.status_code == 201, answer.text
    return http


async def of(role: str, database: HouseDatabase, gateway: RunningGateway, project: HouseProject) -> httpx.AsyncClient:
    """The way of somebody else in the same project."""
    key = await a_key(database, project.slug, f"{role.lower()}-{uuid4().hex[:6]}", role)
    url = f"{gateway.url}/v1/projects/{project.slug}/"
    return httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=15)


def contents(schedule: dict[str, Any]) -> list[str]:
    return [one["content"] for one in schedule["memories"]]


async def test_a_schedule_is_made_recorded_listed_read_and_replayed(mine: httpx.AsyncClient) -> None:
    began = datetime.now(UTC).isoformat()
    made = await mine.post("memories/schedule", json={**ASKED, "explain": True})
    assert made.status_code == 200, made.text
    schedule = made.json()
    listed = (await mine.get("schedules", params={"agent_id": "bot-001", "task_id": "TASK-123"})).json()
    since = (await mine.get("schedules", params={"after": began})).json()["schedules"]
    before = (await mine.get("schedules", params={"before": began})).json()["schedules"]
    record = (await mine.get(f"schedules/{schedule['id']}")).json()
    replay = (await mine.post(f"schedules/{schedule['id']}/replay")).json()

    assert DEPLOYS in contents(schedule)
    assert schedule["tokens_used"] == count_tokens(schedule["prompt"]) <= 400
    assert {one["reason"] for one in schedule["candidates"]} <= {"chosen", "irrelevant", "budget", "redundant"}
    assert [one["id"] for one in listed["schedules"]] == [one["id"] for one in since] == [schedule["id"]]
    assert (before, listed["next_cursor"], listed["schedules"][0]["candidates"]) == ([], None, None)
    assert record["chosen"] == [one["id"] for one in schedule["memories"]]
    assert record["candidates"] == schedule["candidates"]
    assert "deploy" not in str(record["asked"]), "what was asked and what was told is not in the record"
    assert (replay["same"], replay["missing"]) == (True, [])
    assert replay["schedule"]["prompt"] == schedule["prompt"]


async def test_pages_of_records_lead_on_and_only_in_their_listing(mine: httpx.AsyncClient) -> None:
    made = [
        (await mine.post("memories/schedule", json={"agent_id": agent, "token_budget": budget})).json()["id"]
        for budget, agent in enumerate(("a", "b", "a"), 100)
    ]
    first = (await mine.get("schedules", params={"limit": 2})).json()
    second = (await mine.get("schedules", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    foreign = await mine.get("schedules", params={"agent_id": "a", "cursor": first["next_cursor"]})

    assert [one["id"] for one in (*first["schedules"], *second["schedules"])] == made[::-1]
    assert second["next_cursor"] is None
    assert (foreign.status_code, foreign.json()["errors"][0]["field"]) == (422, "cursor")


async def test_a_schedule_is_its_askers_own_and_the_privileged_see_all(
    mine: httpx.AsyncClient, database: HouseDatabase, gateway: RunningGateway, project: HouseProject
) -> None:
    async with (
        await of("AGENT", database, gateway, project) as one,
        await of("VIEWER", database, gateway, project) as other,
    ):
        schedule = (await one.post("memories/schedule", json=ASKED)).json()["id"]
        ways = (("GET", "schedules/{}"), ("POST", "schedules/{}/replay"))
        for method, path in ways:
            foreign = await other.request(method, path.format(schedule))
            absent = await other.request(method, path.format(uuid4()))
            assert (foreign.status_code, absent.status_code) == (404, 404), path
            assert {**foreign.json(), "instance": ""} == {**absent.json(), "instance": ""}
        assert [(await way.request(*ways[0][:1], ways[0][1].format(schedule))).status_code for way in (one, mine)] == [
            200, 200
        ]  # fmt: skip
        assert (await other.get("schedules")).json()["schedules"] == []
        assert [found["id"] for found in (await mine.get("schedules")).json()["schedules"]] == [schedule]


async def test_the_same_key_is_one_schedule_and_keeps_nothing_a_purge_must_find(mine: httpx.AsyncClient) -> None:
    key = {"idempotency-key": uuid4().hex}
    first = await mine.post("memories/schedule", json=ASKED, headers=key)
    again = await mine.post("memories/schedule", json=ASKED, headers=key)
    other = await mine.post("memories/schedule", json={**ASKED, "token_budget": 401}, headers=key)
    schedule = first.json()

    assert (first.status_code, again.status_code, other.status_code) == (200, 200, 422)
    assert {**again.json(), "took_ms": schedule["took_ms"]} == schedule
    assert (again.headers["idempotency-replayed"], "idempotency-replayed" in first.headers) == ("true", False)
    assert len((await mine.get("schedules")).json()["schedules"]) == 1

    (gone,) = [one["id"] for one in schedule["memories"] if one["content"] == DEPLOYS]
    assert (await mine.delete(f"memories/{gone}")).status_code == 200
    assert "Mondays" not in (await mine.post("memories/schedule", json=ASKED, headers=key)).text
    assert (await mine.post(f"schedules/{schedule['id']}/replay")).json()["missing"] == [gone]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"token_budget": 0, "agent_id": "a"}, "token_budget"),
        ({"token_budget": 200_001, "agent_id": "a"}, "token_budget"),
        ({}, "agent_id"),
        ({"agent_id": "a b"}, "agent_id"),
        ({"agent_id": "a", "text": "x" * 8001}, "text"),
        ({"agent_id": "a", "embedding": [0.0, 0.0]}, "embedding"),
        ({"agent_id": "a", "embedding": [0.5, 0.5, 0.5]}, "embedding"),
        ({"agent_id": "a", "format": "yaml"}, "format"),
        ({"agent_id": "a", "tags": ["x"]}, "tags"),
    ],
)
async def test_what_is_outside_its_limits_is_named(mine: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await mine.post("memories/schedule", json=body)
    assert answer.status_code == 422, answer.text
    assert field in {one["field"].split(".")[0] for one in answer.json()["errors"]}, answer.text
    assert (await mine.get("schedules")).json()["schedules"] == []


async def test_a_schedule_larger_than_a_message_on_the_bus_arrives(mine: httpx.AsyncClient) -> None:
    # Runs of spaces are few tokens and many bytes.
    batch = [{"content": f"Number {n} is {n * n}.{' ' * 50_000}{new_id()}", "tags": ["long"]} for n in range(30)]
    assert (await mine.post("memories/batch", json={"memories": batch})).status_code == 200

    answer = await mine.post(
        "memories/schedule", json={"agent_id": "bot-001", "need_tags": ["long"], "token_budget": 200_000}
    )

    assert answer.status_code == 200, answer.text[:500]
    assert len(answer.content) > 1_048_576
    assert answer.json()["tokens_used"] <= 200_000


async def test_a_publishable_key_schedules_nothing(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject, room: Room
) -> None:
    async with await of("PUBLIC", database, gateway, project) as public:
        answers = [
            await public.post("memories/schedule", json=ASKED),
            await public.get("schedules"),
            await public.post(f"{gateway.url}/functions/v1/memories-schedule", json=ASKED),
        ]
    assert [answer.status_code for answer in answers] == [403] * 3


async def test_the_seeds_body_is_taken(mine: httpx.AsyncClient, gateway: RunningGateway) -> None:
    seed = {"agent_id": "bot-001", "task_id": "TASK-123", "tags": ["deploy", "hooks"], "token_budget": 4000}
    url = f"{gateway.url}/functions/v1/memories-schedule"
    answer = await mine.post(url, json=seed)
    asked = await mine.post(url, json={"agent_id": "bot-001", "query": "When do deploys to staging happen?"})
    twice = await mine.post(url, json={**seed, "need_tags": ["x"]})

    assert (answer.status_code, asked.status_code, twice.status_code) == (200, 200, 422)
    assert contents(answer.json())[0] == contents(asked.json())[0] == DEPLOYS
    assert twice.json()["errors"][0]["field"] == "tags"


async def test_a_room_that_is_away_is_answered_for(
    mine: httpx.AsyncClient, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> bytes:
        raise TryAgain("nobody answered on the bus")

    key = {"idempotency-key": uuid4().hex}
    with monkeypatch.context() as patch:
        patch.setattr(gateway.room.bus, "ask", away)
        refused = [await mine.post("memories/schedule", json=ASKED, headers=headers) for headers in ({}, key)]
    assert [answer.status_code for answer in refused] == [503, 503]
    assert refused[0].headers["retry-after"] == "1"
    assert (await mine.post("memories/schedule", json=ASKED, headers=key)).status_code == 200


async def test_a_room_that_hangs_keeps_nobody_else_from_the_database(
    mine: httpx.AsyncClient, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keyed requests wait without a connection: else as many of them as there are connections stop the house."""
    asked, release, ask = asyncio.Semaphore(0), asyncio.Event(), gateway.room.bus.ask

    async def hang(*args: Any, **more: Any) -> bytes:
        asked.release()
        await release.wait()
        return await ask(*args, **more)

    many = gateway.room.settings.pool_size + 1
    with monkeypatch.context() as patch:
        patch.setattr(gateway.room.bus, "ask", hang)
        waiting = [
            asyncio.create_task(mine.post("memories/schedule", json=ASKED, headers={"idempotency-key": uuid4().hex}))
            for _ in range(many)
        ]
        try:
            async with asyncio.timeout(5):
                for _ in range(many):
                    await asked.acquire()
            assert (await mine.get("schedules")).status_code == 200
        finally:
            release.set()
            answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {200}
