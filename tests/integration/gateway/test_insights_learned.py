"""What was learned, over HTTP: listed, supported, linked and weighed, each as far as one may read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
import pytest_asyncio
from pydantic import SecretStr
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.house_people import a_key
from tests.rooms import admin, ingestion_room

from memcube_common.ids import new_id
from memcube_common.insights.store import note_recalled
from memcube_common.language.protocol import Extracted, Said
from memcube_common.security.principal import Principal
from memcube_common.testing.openai_server import Completion, OpenAIServer
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_ingestion.jobs import keep_due
from memcube_ingestion.room import Room


@pytest_asyncio.fixture(scope="module")
async def ingestion(database: HouseDatabase) -> AsyncGenerator[Room]:
    async with ingestion_room(database) as room:
        yield room


@pytest_asyncio.fixture
async def ada(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject
) -> AsyncGenerator[httpx.AsyncClient]:
    async with an_agent(gateway, database, project, "ada") as ada:
        yield ada


@pytest_asyncio.fixture
async def bob(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject
) -> AsyncGenerator[httpx.AsyncClient]:
    async with an_agent(gateway, database, project, "bob") as bob:
        yield bob


@contextlib.asynccontextmanager
async def an_agent(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject, name: str
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client with a key of its own."""
    key = await a_key(database, project.slug, name, "AGENT")
    async with httpx.AsyncClient(
        base_url=f"{gateway.url}/v1/projects/{project.slug}/", headers={"authorization": f"Bearer {key}"}, timeout=15
    ) as client:
        yield client


async def learned(who: httpx.AsyncClient, ingestion: Room, text: str, **more: Any) -> dict[str, Any]:
    """An insight that is stored: its receipt."""
    answer = await who.post("insights", json={"insight": text, **more})
    assert answer.status_code == 202, answer.text
    while await keep_due(ingestion):
        pass
    receipt: dict[str, Any] = (await who.get(f"receipts/{answer.json()['id']}")).json()
    assert receipt["state"] == "stored"
    return receipt


async def texts(who: httpx.AsyncClient, params: Mapping[str, str | int] | None = None) -> list[str]:
    return [one["insight"] for one in (await who.get("insights", params=params)).json()["insights"]]


PRIVATE = {"governance": {"visibility": "private"}}


async def test_one_reads_ones_own_and_those_whose_memory_one_may_read(
    http: httpx.AsyncClient, ada: httpx.AsyncClient, bob: httpx.AsyncClient, ingestion: Room
) -> None:
    secret = await learned(ada, ingestion, "ada: secret", **PRIVATE)
    open_ = await learned(ada, ingestion, "ada: open")
    waiting = (await bob.post("insights", json={"insight": "bob: waiting"})).json()
    assert await texts(bob) == ["bob: waiting", "ada: open"]
    assert await texts(ada) == ["ada: open", "ada: secret"]
    assert await texts(http) == ["bob: waiting", "ada: open", "ada: secret"]
    for id, allowed in ((secret["id"], False), (open_["id"], True), (waiting["id"], True), (str(new_id()), False)):
        answer = await bob.get(f"insights/{id}")
        assert answer.status_code == (200 if allowed else 404)
    one = (await bob.get(f"insights/{open_['id']}")).json()
    assert (one["memory_id"], one["decision"], one["support_count"], one["agent_id"]) == (
        open_["memory_id"], "new", 1, "ada",
    )  # fmt: skip
    hidden = await bob.post(f"insights/{secret['id']}/support", json={})
    absent = await bob.post(f"insights/{new_id()}/support", json={})
    assert hidden.status_code == absent.status_code == 404
    # closed since: only its sender and the privileged still see it
    governed = await ada.put(f"memories/{open_['memory_id']}/governance", json={"visibility": "private"})
    assert governed.status_code == 200, governed.text
    assert await texts(bob) == ["bob: waiting"]


async def test_pages_are_newest_first_and_filters_narrow_them(
    http: httpx.AsyncClient, ada: httpx.AsyncClient, ingestion: Room
) -> None:
    for n in range(7):
        await ada.post("insights", json={"insight": f"fact {n}", "tags": ["odd" if n % 2 else "even"]})
    first = await learned(http, ingestion, "fact 3")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = (await http.get("insights", params={"limit": 3, **({"cursor": cursor} if cursor else {})})).json()
        seen += [one["insight"] for one in page["insights"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        refused = await ada.get("insights", params={"tag": "odd", "cursor": cursor})
        assert refused.status_code == 422
    assert seen == ["fact 3", *(f"fact {n}" for n in reversed(range(7)))]
    assert await texts(ada, {"tag": "odd", "limit": 2}) == ["fact 5", "fact 3"]
    assert await texts(http, {"min_support": 2}) == ["fact 3"]
    assert await texts(http, {"memory_id": first["memory_id"]}) == ["fact 3", "fact 3"]
    assert await texts(http, {"agent_id": "ada", "state": "stored", "limit": 1}) == ["fact 6"]
    assert await texts(http, {"state": "parked"}) == []
    refused = await http.get("insights", params={"cursor": "x" * 50, "limit": 0, "min_support": 0, "state": "?"})
    assert refused.status_code == 422
    assert {error["field"] for error in refused.json()["errors"]} == {"limit", "min_support", "state"}


async def test_a_page_that_looks_at_too_many_ends_there_and_goes_on(http: httpx.AsyncClient, monkeypatch: Any) -> None:
    monkeypatch.setattr("memcube_gateway.routes.insights.LOOKED_AT", 4)
    for n in range(10):
        await http.post("insights", json={"insight": f"fact {n}", "tags": ["rare"] if n == 0 else []})
    params: dict[str, str] = {"tag": "rare"}
    pages: list[list[str]] = []
    while True:
        page = (await http.get("insights", params=params)).json()
        pages.append([one["insight"] for one in page["insights"]])
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert pages == [[], [], ["fact 0"]]


async def test_what_was_answered_to_support_is_forgotten_with_the_memory(
    http: httpx.AsyncClient, bob: httpx.AsyncClient, database: HouseDatabase, project: HouseProject, ingestion: Room
) -> None:
    known = await learned(bob, ingestion, "A quokka to forget.")
    path, key = f"insights/{known['id']}/support", {"idempotency-key": "once"}
    first, again = [await http.post(path, json={}, headers=key) for _ in range(2)]
    assert (first.status_code, again.json()) == (200, first.json())
    assert (await http.delete(f"memories/{known['memory_id']}", params={"purge": "true"})).status_code == 200
    assert (await http.post(path, json={}, headers=key)).status_code == 404
    async with admin(database) as psql:
        kept = await psql.fetch(
            "select octet_length(body) as size from memcube.idempotency_keys where project_id = $1", project.slug
        )
    assert [row["size"] for row in kept] == [0]


async def test_support_is_counted_once_a_principal(
    http: httpx.AsyncClient, ada: httpx.AsyncClient, bob: httpx.AsyncClient, ingestion: Room
) -> None:
    known = await learned(ada, ingestion, "Tea is at four.")
    said = {"evidence_refs": ["ticket:1"], "sentiment": 0.5}
    path = f"insights/{known['id']}/support"
    answers = await asyncio.gather(*(who.post(path, json=said) for who in (bob, http, bob)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert max(answer.json()["support_count"] for answer in answers) == 3
    refused = await bob.post(f"insights/{known['id']}/support", json={"sentiment": 2, "evidence_refs": [""]})
    assert {error["field"] for error in refused.json()["errors"]} == {"sentiment", "evidence_refs.0"}


async def test_an_insight_is_linked_by_its_sender_to_a_memory_they_may_change(
    http: httpx.AsyncClient, ada: httpx.AsyncClient, bob: httpx.AsyncClient, ingestion: Room
) -> None:
    mine = await learned(ada, ingestion, "mine")
    other = await learned(ada, ingestion, "other")
    theirs = await learned(bob, ingestion, "theirs", **PRIVATE)
    link = f"insights/{mine['id']}/memory"
    assert (await bob.put(link, json={"memory_id": theirs["memory_id"]})).status_code == 403
    for absent in (theirs["memory_id"], str(new_id())):
        refused = await ada.put(link, json={"memory_id": absent})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "memory_id")
    linked = await ada.put(link, json={"memory_id": other["memory_id"]})
    assert (linked.status_code, linked.json()["memory_id"]) == (200, other["memory_id"])
    assert (await ada.get(f"receipts/{mine['id']}")).json()["memory_id"] == other["memory_id"]
    assert (await http.put(link, json={"memory_id": theirs["memory_id"]})).status_code == 200
    assert (await http.put(f"insights/{new_id()}/memory", json={"memory_id": str(new_id())})).status_code == 404
    early = (await ada.post("insights", json={"insight": "early"})).json()
    assert (await ada.put(f"insights/{early['id']}/memory", json={"memory_id": other["memory_id"]})).status_code == 409


async def test_a_dry_run_says_what_would_be_stored_and_stores_nothing(
    http: httpx.AsyncClient, ada: httpx.AsyncClient, bob: httpx.AsyncClient, ingestion: Room, project: HouseProject
) -> None:
    known = await learned(ada, ingestion, "The cat is called Mo.")
    await learned(ada, ingestion, "Only ada.", **PRIVATE)
    recalled = await learned(ada, ingestion, "Told today.")
    told = {UUID(recalled["memory_id"]): "Told today."}
    async with ingestion.db.transaction(Principal.worker("scheduling", project.slug)) as tx:
        await note_recalled(tx, project=project.slug, agent="ada", recalled=told)
    batch = {"insights": [
        {"insight": "the cat is called MO"}, {"insight": "New."}, {"insight": "new"}, {"insight": "told today"},
        {"insight": "Only ada.", **PRIVATE},
    ]}  # fmt: skip
    answer = await bob.post("insights", params={"dry_run": "true"}, json=batch)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["how"] == "given"
    assert [one["decision"] for one in said["insights"]] == ["duplicate", "new", "duplicate", "echo", "new"]
    assert said["insights"][0]["decided_because"] == f"same words as insight {known['id']}"
    assert said["insights"][0]["memory_id"] == known["memory_id"]
    assert said["insights"][2]["decided_because"] == "same words as another of these"
    hers = await ada.post("insights", params={"dry_run": "true"}, json=batch)
    assert hers.json()["insights"][-1]["decision"] == "duplicate"
    assert len(await texts(http)) == 3


async def test_a_conversation_is_durable_and_listed_as_what_was_said(
    http: httpx.AsyncClient, ada: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    messages = [{"role": "user", "content": "I like figs."}, {"role": "assistant", "content": ""}]
    talk = {"id": str(new_id()), "messages": messages}
    dry = (await ada.post("insights", params={"dry_run": "true"}, json=talk)).json()
    assert (dry["how"], dry["reason"]) == ("as_they_are", "no language model is set")
    assert [(one["insight"], one["label"], one["decision"]) for one in dry["insights"]] == [
        ("I like figs.", "user: I like figs.", "new")
    ]
    assert (await ada.get(f"receipts/{talk['id']}")).status_code == 404
    first, second = [await ada.post("insights", json=talk) for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json() == (await ada.get(f"receipts/{talk['id']}")).json()
    assert first.json()["state"] == "accepted"
    assert (await bob.get(f"receipts/{talk['id']}")).status_code == 404
    assert (await bob.post("insights", json=talk)).status_code == 409
    used = {one["resource"]: one["used"] for one in (await http.get("quota")).json()["quotas"]}
    assert (used["memories"], used["bytes"]) == (1, 12)


async def test_a_conversation_outside_its_limits_is_refused_by_its_fields(http: httpx.AsyncClient) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}] * 201}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 65_537}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x" * 65_536}] * 17}, "messages"),
        ({"messages": [{"role": "a b", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "x", "at": "yesterday"}]}, "messages.0.at"),
        ({"messages": [{"role": "user", "content": "x\x00"}]}, "messages.0.content"),
        ({"tags": ["a"], "messages": [{"role": "user", "content": "x", "surplus": 1}]}, "messages.0.surplus"),
    ]
    for body, field in cases:
        answer = await http.post("insights", json=body)
        assert answer.status_code == 422, (field, answer.text)
        assert field in {error["field"] for error in answer.json()["errors"]}
    refused = await http.post("insights", json={"messages": [{"role": "user", "content": "x"}], "agent_id": "a b"})
    assert refused.status_code == 422


class Model:
    """A language model that remembers how often it was asked; mute, it never answers."""

    name = "fake"

    def __init__(self) -> None:
        self.asked = 0
        self.mute = False

    async def extract(self, messages: Sequence[Said]) -> list[Extracted]:
        self.asked += 1
        if self.mute:
            await asyncio.Event().wait()
        return [Extracted("Ada likes figs.", None, (), "fact", 0.9)]

    async def summarise(self, texts: Sequence[str], instructions: str) -> str:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


async def test_a_dry_run_that_asks_the_model_counts_and_ends(
    http: httpx.AsyncClient, database: HouseDatabase, project: HouseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model()

    def built(_: object) -> Model:
        return model

    monkeypatch.setattr("memcube_gateway.room.build_language_model", built)
    talk = {"messages": [{"role": "user", "content": "I like figs."}]}
    secret = {**talk, "governance": {"sensitivity": "confidential"}}
    async with (
        admin(database) as psql,
        running_gateway(database, llm_timeout=0.3) as gateway,
        an_agent(gateway, database, project, "ada") as ada,
    ):

        async def dry(body: Mapping[str, Any]) -> httpx.Response:
            return await ada.post("insights", params={"dry_run": "true"}, json=body)

        async def used() -> int:
            quotas = (await http.get("quota")).json()["quotas"]
            return next(one["used"] for one in quotas if one["resource"] == "insights_per_day")

        first = await dry(talk)
        assert (first.status_code, first.json()["how"], model.asked, await used()) == (200, "extracted", 1, 1)
        assert ((await dry(secret)).json()["how"], model.asked, await used()) == ("as_they_are", 1, 1)

        model.mute = True
        late = await dry(talk)
        assert (late.status_code, late.json()["code"], model.asked) == (503, "unavailable", 2)
        assert "did not answer in time" in late.json()["detail"]

        async with psql.transaction():
            await psql.execute("select set_config('app.project_id', $1, true)", project.slug)
            await psql.execute("select memcube.set_quota('insights_per_day', 2)")
        refused = await dry(talk)
        assert (refused.status_code, refused.json()["code"], model.asked) == (403, "quota_exceeded", 2)
        assert (await dry(secret)).status_code == 200


async def test_a_dry_run_shows_what_a_language_model_says_as_it_would_be_stored(
    database: HouseDatabase, project: HouseProject
) -> None:
    """It may join what stood apart in the conversation, and was nothing there."""
    async with admin(database) as psql:
        await psql.execute("update memcube.projects set screening = 'redact' where id = $1", project.slug)
    said = {"text": "It is 4111 1111 1111 1111.", "label": "4111 1111 1111 1111", "tags": ["a@example.org"]}
    answered = orjson.dumps({"insights": [{**said, "kind": "b@example.org", "confidence": 0.8}]}).decode()
    messages = [{"role": "user", "content": half} for half in ("It begins with 4111 1111.", "It ends with 1111 1111.")]
    async with OpenAIServer() as model:
        model.converse(Completion(answered))
        settings = {"openai_api_key": SecretStr("sk-test"), "llm_base_url": model.url, "llm_timeout": 5.0}
        async with running_gateway(database, **settings) as gateway, an_agent(gateway, database, project, "ada") as ada:
            answer = await ada.post("insights", params={"dry_run": "true"}, json={"messages": messages})
    assert answer.status_code == 200, answer.text
    [one] = answer.json()["insights"]
    assert (one["insight"], one["label"], one["tags"], one["kind"]) == (
        "It is [redacted:credit_card].", "[redacted:credit_card]", ["[redacted:email]"], "[redacted:email]",
    )  # fmt: skip
