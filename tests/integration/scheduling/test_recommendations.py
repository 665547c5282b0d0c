"""Recommendations in Postgres and over HTTP, and outcomes said over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import a_key
from tests.integration.scheduling.hands import Hands

from memcube_common.contracts.scheduling import Outcome
from memcube_common.feedback import store
from memcube_common.ids import new_id
from memcube_common.memories.revisions import purge_memories
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_scheduling.recommending import Recommending, recommend_due, recommend_project


@pytest_asyncio.fixture(scope="module")
async def crew(database: HouseDatabase) -> AsyncGenerator[Hands]:
    async with Hands.open(database) as hands:
        yield hands


@pytest.fixture
def hands(crew: Hands, project: HouseProject) -> Hands:
    return crew.into(project.slug)


def recommending(hands: Hands, *, every: float = 0, later: timedelta = timedelta()) -> Recommending:
    return Recommending(hands.db, every, lambda: datetime.now(UTC) + later)


async def used(hands: Hands, agent: str, memories: Sequence[UUID], *, helpful: Sequence[UUID] = ()) -> None:
    """What an agent was given and used, and what of it helped."""
    schedule = await hands.told(*memories, *helpful, by=agent)
    came_of_it: dict[UUID, Outcome] = {}
    came_of_it.update(dict.fromkeys(memories, "used"))
    came_of_it.update(dict.fromkeys(helpful, "helpful"))
    await hands.say(schedule, came_of_it, by=agent)


async def recommended(hands: Hands, agent: str = "bob", *, by: str = "", role: Any = "AGENT") -> list[UUID]:
    async with hands.db.transaction(hands.reader(by or agent, role)) as tx:
        found = await store.read_recommendations(tx, project=hands.project, agent=agent, at_most=10)
    return [one.memory_id for one in found.memories]


async def a_helped_neighbour(hands: Hands, **governance: Any) -> tuple[UUID, list[UUID]]:
    """A memory that helped ada, who is like bob; and what they share."""
    shared = await hands.remember(*(f"shared {n}" for n in range(4)))
    (trick,) = await hands.remember("trick", **governance)
    await used(hands, "bob", shared)
    await used(hands, "ada", shared, helpful=[trick])
    await hands.settle()
    await recommend_project(recommending(hands), hands.project)
    return trick, shared


async def test_what_helped_an_agent_alike_is_recommended(hands: Hands) -> None:
    trick, _ = await a_helped_neighbour(hands)
    async with hands.db.transaction(hands.reader("bob")) as tx:
        found = await store.read_recommendations(tx, project=hands.project, agent="bob", at_most=10)
    (one,) = found.memories
    assert (one.memory_id, one.label, one.because) == (trick, "trick", ["ada"])
    assert 0 < one.score <= 1
    assert found.computed_at is not None
    assert await recommended(hands, "ada") == []


async def test_nobody_is_recommended_what_they_may_not_read(hands: Hands) -> None:
    trick, _ = await a_helped_neighbour(hands, visibility="private", principals={"allow": ["ada"], "deny": []})
    assert await recommended(hands, "bob") == []
    assert await recommended(hands, "bob", by="olga", role="OWNER") == [trick]


async def test_anothers_agent_is_as_unknown_as_one_that_is_not_there(hands: Hands) -> None:
    trick, _ = await a_helped_neighbour(hands)
    assert await recommended(hands, "bob", by="eve") == []
    assert await recommended(hands, "bob", by="backend", role="SERVICE") == [trick]
    assert await recommended(hands, "nobody") == []


async def test_old_ones_are_replaced_whole_and_only_where_something_was_settled(hands: Hands) -> None:
    trick, shared = await a_helped_neighbour(hands)
    assert await recommend_project(recommending(hands), hands.project) == 0, "nothing is known since"
    (better,) = await hands.remember("better")
    await used(hands, "ada", shared, helpful=[better])
    await hands.told(trick, by="bob")
    await hands.settle()
    assert await recommend_due(recommending(hands, every=3600)) is False, "too soon"
    assert await recommend_due(recommending(hands)) is True
    assert await recommended(hands, "bob") == [better], "it was given the other meanwhile"
    await recommend_project(recommending(hands, later=timedelta(days=99)), hands.project)
    assert await recommended(hands, "bob") == [better]
    await hands.told(trick, by="bob")
    await hands.settle()
    await recommend_project(recommending(hands, later=timedelta(days=99)), hands.project)
    assert await recommended(hands, "bob") == [], "what was used long ago says nothing of now"


async def test_a_purged_or_archived_memory_is_not_recommended(hands: Hands) -> None:
    trick, _ = await a_helped_neighbour(hands)
    await hands.rows("update memcube.memories set lifecycle = 'ARCHIVED', version = version + 1 where id = $1", trick)
    assert await recommended(hands, "bob") == []
    async with hands.working() as tx:
        await purge_memories(tx, project=hands.project, ids=[trick])
    assert await hands.rows("select from memcube.recommendations where memory_id = $1", trick) == []


@contextlib.asynccontextmanager
async def calling(
    gateway: RunningGateway, hands: Hands, name: str, role: str = "AGENT"
) -> AsyncGenerator[httpx.AsyncClient]:
    key = await a_key(hands.house, hands.project, name, role)
    async with httpx.AsyncClient(
        base_url=f"{gateway.url}/v1/projects/{hands.project}/", headers={"authorization": f"Bearer {key}"}, timeout=15
    ) as client:
        yield client


def said(**outcomes: str) -> dict[str, Any]:
    return {"outcomes": [{"memory_id": memory, "outcome": outcome} for memory, outcome in outcomes.items()]}


async def test_outcomes_over_http(gateway: RunningGateway, hands: Hands) -> None:
    one, other, strange = await hands.remember("one", "other", "strange")
    schedule = await hands.told(one, other)
    path = f"schedules/{schedule}/feedback"
    async with calling(gateway, hands, "bob") as bob, calling(gateway, hands, "eve") as eve:
        key = {"idempotency-key": "one"}
        taken = await bob.post(path, json=said(**{str(one): "helpful", str(other): "ignored"}), headers=key)
        assert (taken.status_code, taken.json()) == (200, {"taken": 2})
        again = await bob.post(path, json=said(**{str(one): "helpful", str(other): "ignored"}), headers=key)
        assert (again.json(), again.headers["idempotency-replayed"]) == ({"taken": 2}, "true")

        refused = await bob.post(path, json=said(**{str(one): "used", str(strange): "used"}))
        assert refused.status_code == 422
        assert [error["field"] for error in refused.json()["errors"]] == ["outcomes.1.memory_id"]
        wrong = await bob.post(path, json=said(**{str(one): "great"}))
        assert wrong.json()["errors"][0]["field"] == "outcomes.0.outcome"

        foreign = await eve.post(path, json=said(**{str(one): "harmful"}))
        absent = await eve.post(f"schedules/{new_id()}/feedback", json=said(**{str(one): "harmful"}))
        assert (foreign.status_code, absent.status_code) == (404, 404)
        assert {**foreign.json(), "request_id": "", "instance": ""} == {
            **absent.json(), "request_id": "", "instance": "",
        }  # fmt: skip
    async with calling(gateway, hands, "vic", "VIEWER") as vic:
        assert (await vic.post(path, json=said(**{str(one): "used"}))).status_code == 403
    words = await hands.rows(
        "select memory_id, outcome from memcube.schedule_outcomes where schedule_id = $1", schedule
    )
    assert {row["memory_id"]: row["outcome"] for row in words} == {one: "helpful", other: "ignored"}


async def test_recommendations_over_http(gateway: RunningGateway, hands: Hands) -> None:
    trick, _ = await a_helped_neighbour(hands)
    async with calling(gateway, hands, "bob") as bob, calling(gateway, hands, "eve") as eve:
        answer = (await bob.get("agents/bob/recommendations")).json()
        assert answer["agent_id"] == "bob"
        assert [(one["memory_id"], one["because"]) for one in answer["memories"]] == [(str(trick), ["ada"])]
        assert datetime.fromisoformat(answer["computed_at"]) <= datetime.now(UTC)
        theirs = (await eve.get("agents/bob/recommendations")).json()
        nobodys = (await eve.get("agents/nil/recommendations")).json()
        assert theirs["memories"] == nobodys["memories"] == []
        assert (await bob.get("agents/bob/recommendations", params={"limit": 51})).status_code == 422
