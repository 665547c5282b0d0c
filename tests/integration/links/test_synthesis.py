"""Several memories put into one: by their own sentences or the language model, governed as strictly as each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
import pytest_asyncio
from pydantic import SecretStr
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.integration.links.conftest import Keep, People

from memcube_common.db.pool import Row
from memcube_common.ids import new_id
from memcube_common.testing.openai_server import Completion, OpenAIServer, Status
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_common.tokens import count_tokens

DEPLOYS = "Deploys on Fridays fail more often. The on-call engineer leaves at four."
CACHE = "Warm the cache before the first deploy. A cold cache doubles the latency of the checkout."


def said(text: str) -> Completion:
    return Completion(orjson.dumps({"text": text}).decode())


@pytest_asyncio.fixture(scope="module")
async def model() -> AsyncGenerator[OpenAIServer]:
    """The language model's endpoint."""
    async with OpenAIServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def talking(database: HouseDatabase, model: OpenAIServer) -> AsyncGenerator[RunningGateway]:
    """A gateway that has a language model."""
    settings = {"openai_api_key": SecretStr("sk-test"), "llm_base_url": model.url, "llm_timeout": 5.0}
    async with running_gateway(database, **settings) as gateway:
        yield gateway


@pytest_asyncio.fixture
async def ada(
    people: People, talking: RunningGateway, project: HouseProject, model: OpenAIServer
) -> AsyncGenerator[httpx.AsyncClient]:
    """'ada' at the gateway that has a language model."""
    model.conversed.clear()
    base = f"{talking.url}/v1/projects/{project.slug}/"
    headers = {"authorization": people["ada"].headers["authorization"]}
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=15) as client:
        yield client


async def ask(client: httpx.AsyncClient, sources: Sequence[object], key: str = "", **more: Any) -> httpx.Response:
    headers = {"idempotency-key": key} if key else {}
    body = {"memory_ids": [str(one) for one in sources], **more}
    return await client.post("memories/synthesize", json=body, headers=headers)


def made(answer: httpx.Response) -> Any:
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_without_a_model_it_is_the_sources_own_sentences_in_their_order(people: People, keep: Keep) -> None:
    first, second = await keep(CACHE), await keep(DEPLOYS)
    answer = await ask(people["bo"], [second, first], label="shipping", tags=["ship"], metadata={"a": 1}, max_tokens=50)
    memory = made(answer)
    assert memory["content"] == f"{DEPLOYS}\n{CACHE}"
    assert (memory["label"], memory["tags"], memory["created_by"]) == ("shipping", ["ship"], "bo")
    assert memory["parents"] == [str(second), str(first)]
    assert (memory["origin"], memory["provenance_id"]) == ("synthesis:extractive", str(second))
    how = {"method": "extractive", "sources": 2, "why": "no language model"}
    assert memory["metadata"] == {"a": 1, "synthesis": how}
    assert answer.headers["location"].endswith(memory["id"])
    read = (await people["mo"].get(f"memories/{memory['id']}")).json()
    assert read["content"] == memory["content"]
    again = made(await ask(people["bo"], [second, first], method="extractive", max_tokens=50))
    assert again["content"] == memory["content"]
    assert again["metadata"]["synthesis"] == {"method": "extractive", "sources": 2}


async def test_it_is_governed_as_strictly_as_every_source(people: People, keep: Keep) -> None:
    members, agents = await keep(read_roles=["MEMBER", "AGENT"]), await keep(DEPLOYS, read_roles=["AGENT"])
    memory = made(await ask(people["bo"], [members, agents], governance={"read_roles": ["MEMBER", "AGENT", "VIEWER"]}))
    assert memory["governance"]["read_roles"] == ["AGENT"]
    assert (await people["mo"].get(f"memories/{memory['id']}")).status_code == 404
    narrowed = await people["ada"].put(f"memories/{agents}/governance", json={"visibility": "private"})
    assert narrowed.status_code == 200
    assert (await people["bo"].get(f"memories/{memory['id']}")).status_code == 404


async def test_sources_that_are_hidden_absent_or_bytes_are_named_by_their_places(
    people: People, keep: Keep, psql: asyncpg.Connection[Row], project: HouseProject
) -> None:
    open_one, hidden, odd = await keep(), await keep(visibility="private"), await keep()
    await psql.execute(
        "update memcube.memories set type = 'ACTIVATION' where project_id = $1 and id = $2", project.slug, odd
    )
    await psql.execute(
        "update memcube.memory_payloads set content = null, content_bytes = 'x'"
        " where project_id = $1 and memory_id = $2",
        project.slug, odd,
    )  # fmt: skip
    answers = [await ask(people["bo"], [open_one, one]) for one in (hidden, new_id())]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].content == answers[1].content
    assert [one["field"] for one in answers[0].json()["errors"]] == ["memory_ids.1"]
    refused = await ask(people["bo"], [odd, open_one])
    assert [one["field"] for one in refused.json()["errors"]] == ["memory_ids.0"]
    for wrong in (
        {"sources": [open_one]},
        {"sources": [open_one, open_one]},
        {"sources": [new_id()] * 51},
        {"sources": [open_one, odd], "max_tokens": 49},
        {"sources": [open_one, odd], "instructions": "x" * 2001},
        {"sources": [open_one, odd], "metadata": {"synthesis": 1}},
        {"sources": [open_one, await keep()], "method": "llm"},
        {"sources": [open_one, await keep()], "metadata": {"a": "x" * (16 * 1024 - 10)}},
    ):
        assert (await ask(people["bo"], **wrong)).status_code == 422, wrong  # pyright: ignore[reportArgumentType]
    assert (await ask(people["vi"], [open_one, odd])).status_code == 403
    held = await ask(people["bo"], [open_one, await keep()], governance={"legal_hold": True})
    assert held.status_code == 403


async def test_the_model_is_asked_once_for_a_key_and_told_what_is_wanted(
    ada: httpx.AsyncClient, model: OpenAIServer, keep: Keep
) -> None:
    sources = [await keep(DEPLOYS), await keep(CACHE)]
    model.converse(said("Warm the cache, and never ship on Fridays."))
    first = await ask(ada, sources, "one", instructions="For a new colleague.", max_tokens=60)
    memory = made(first)
    assert memory["content"] == "Warm the cache, and never ship on Fridays."
    assert memory["metadata"]["synthesis"] == {"method": "llm", "sources": 2, "model": "gpt-4o-mini"}
    assert memory["origin"] == "synthesis:llm"
    (asked,) = model.conversed
    assert orjson.loads(asked.data) == [DEPLOYS, CACHE]
    assert "For a new colleague." in asked.instructions
    assert "60 tokens" in asked.instructions
    again = await ask(ada, sources, "one", instructions="For a new colleague.", max_tokens=60)
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert (await ask(ada, sources, "one")).json()["code"] == "idempotency_key_reused"
    assert len(model.conversed) == 1


async def test_what_is_confidential_never_leaves_the_house(
    ada: httpx.AsyncClient, model: OpenAIServer, keep: Keep
) -> None:
    sources = [await keep(DEPLOYS), await keep(CACHE, sensitivity="confidential")]
    memory = made(await ask(ada, sources))
    assert memory["metadata"]["synthesis"] == {"method": "extractive", "sources": 2, "why": "a source is confidential"}
    assert memory["governance"]["sensitivity"] == "confidential"
    refused = await ask(ada, sources, method="llm")
    assert (refused.status_code, [one["field"] for one in refused.json()["errors"]]) == (422, ["memory_ids.1"])
    assert model.conversed == []


async def test_a_model_that_fails_is_done_without_or_said(
    ada: httpx.AsyncClient, model: OpenAIServer, keep: Keep
) -> None:
    sources = [await keep(DEPLOYS), await keep(CACHE)]
    refusal = Completion(refusal="I would rather not.")
    model.converse(Status(500), Status(500), refusal, refusal)
    memory = made(await ask(ada, sources))
    assert memory["metadata"]["synthesis"]["why"] == "the language model did not answer"
    assert (memory["content"], memory["origin"]) == (f"{DEPLOYS}\n{CACHE}", "synthesis:extractive")
    away = await ask(ada, sources, method="llm")
    assert (away.status_code, away.json()["code"]) == (503, "unavailable")
    assert int(away.headers["retry-after"]) >= 1
    assert made(await ask(ada, sources))["metadata"]["synthesis"]["why"] == "it refused"
    never = await ask(ada, sources, method="llm")
    assert (never.status_code, never.json()["code"]) == (422, "unprocessable")


async def test_what_the_model_says_too_much_is_cut_at_a_sentence(
    ada: httpx.AsyncClient, model: OpenAIServer, keep: Keep
) -> None:
    model.converse(said("A sentence that is said again and again. " * 40))
    memory = made(await ask(ada, [await keep(DEPLOYS), await keep(CACHE)], method="llm", max_tokens=50))
    assert count_tokens(memory["content"]) <= 50
    assert memory["content"].endswith("again.")


async def test_the_same_key_at_the_same_time_makes_one_memory(
    ada: httpx.AsyncClient, model: OpenAIServer, keep: Keep, psql: asyncpg.Connection[Row], project: HouseProject
) -> None:
    sources = [await keep(DEPLOYS), await keep(CACHE)]
    model.converse(*(said(f"Number {number}.") for number in range(4)))
    answers = await asyncio.gather(*(ask(ada, sources, "at-once") for _ in range(4)))
    assert len({answer.content for answer in answers}) == 1
    count = "select count(*) from memcube.memories where project_id = $1 and origin like 'synthesis:%'"
    assert await psql.fetchval(count, project.slug) == 1


async def test_a_source_that_changes_meanwhile_is_read_again_once(
    ada: httpx.AsyncClient,
    talking: RunningGateway,
    keep: Keep,
    psql: asyncpg.Connection[Row],
    project: HouseProject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = [await keep(DEPLOYS), await keep(CACHE)]
    asked: list[int] = []
    changes = 0

    async def summarise(texts: Sequence[str], instructions: str) -> str:
        asked.append(len(texts))
        if len(asked) <= changes:
            await psql.execute(
                "update memcube.memories set version = version + 1, label = label || '!'"
                " where project_id = $1 and id = $2",
                project.slug, sources[1],
            )  # fmt: skip
        return f"Try {len(asked)} of {instructions[:3]}"

    monkeypatch.setattr(talking.room.language, "summarise", summarise)
    changes = 1
    assert made(await ask(ada, sources, method="llm"))["content"] == "Try 2 of One"
    asked.clear()
    changes = 2
    late = await ask(ada, sources, method="llm")
    assert (late.status_code, late.json()["code"], len(asked)) == (409, "conflict", 2)
