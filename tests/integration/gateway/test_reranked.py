"""The reranker in the road of a query: its order on a first page, nothing confidential sent, and none of it needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import httpx
import pytest
import pytest_asyncio
from tests.fakes.embedding_room import FakeEmbeddingRoom
from tests.fakes.house_work import HouseWork, memory
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.fakes.scripted_http import Answered, Asked, ScriptedServer, scripted

from memcube_common.contracts.fields import Governance, governance_json
from memcube_common.memories.domain import NewMemory
from memcube_common.search.store import Found
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_gateway.patience import Patience
from memcube_gateway.reranking import TEXT_MAX, rerank

QUESTION = "which tea is it"
HELD = Answered(200, "", {"Content-Type": "text/event-stream"}, hold=True)


class Judge:
    """Likes best what it is sent last; `failure` is its answer instead."""

    failure: Answered | None = None

    def __call__(self, asked: Asked) -> Answered:
        results = [{"index": n, "relevance_score": n / 10} for n in range(len(asked.json["documents"]))]
        return self.failure or Answered(200, {"results": results})


@pytest.fixture(scope="module")
def judge() -> Judge:
    """Whom the endpoint asks."""
    return Judge()


@pytest_asyncio.fixture(scope="module")
async def endpoint(judge: Judge) -> AsyncGenerator[ScriptedServer]:
    """The house's reranker."""
    async with scripted(always=judge) as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def gateway(database: HouseDatabase, endpoint: ScriptedServer) -> AsyncGenerator[RunningGateway]:
    """A gateway that has it."""
    async with running_gateway(database, rerank_url=f"{endpoint.url}/rerank", rerank_within=0.3) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def _asked_nothing(endpoint: ScriptedServer, judge: Judge) -> None:
    endpoint.asked.clear()
    judge.failure = None


@pytest_asyncio.fixture
async def teas(house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom) -> list[NewMemory]:
    """40 memories about tea; every fifth is confidential."""
    hidden = governance_json(Governance(sensitivity="confidential"))
    made = [memory(f"tea {n} is it{' here' * (n % 7)}") for n in range(40)]
    teas = [replace(one, content=f"hush {one.content}", governance=hidden) if not n % 5 else one
            for n, one in enumerate(made)]  # fmt: skip
    await house_work.keep(project.slug, teas)
    embedding_room.generation = await house_work.embed(project.slug, [one.id for one in teas])
    return teas


async def ask(http: httpx.AsyncClient, **query: object) -> dict[str, Any]:
    answer = await http.post("memories/query", json={"text": QUESTION, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def texts(memories: Sequence[dict[str, Any]]) -> list[str]:
    return [one["content"] for one in memories]


def turned(plain: Sequence[str]) -> list[str]:
    """What may be sent the other way round, in its places."""
    sent = [text for text in plain if "hush" not in text]
    return [text if "hush" in text else sent.pop() for text in plain]


async def test_its_order_is_taken_for_what_it_may_read_and_confidential_texts_keep_their_places_unsent(
    http: httpx.AsyncClient, teas: list[NewMemory], endpoint: ScriptedServer
) -> None:
    plain = texts((await ask(http, without=["rerank"], limit=30))["memories"])
    assert not endpoint.asked
    answer = await ask(http, limit=8, explain=True)

    assert any("hush" in text for text in plain)
    assert texts(answer["memories"]) == turned(plain)[:8] != plain[:8]
    assert (answer["mode"], answer["degraded"]) == ("hybrid", None)
    scored = [one["score_parts"].get("rerank") for one in answer["memories"] if "hush" not in one["content"]]
    assert scored == sorted(scored, reverse=True)
    assert all("rerank" not in one["score_parts"] for one in answer["memories"] if "hush" in one["content"])
    (asked,) = endpoint.asked
    assert asked.json["query"] == QUESTION
    assert asked.json["documents"] == [text for text in plain if "hush" not in text]
    assert b"hush" not in asked.body
    assert all(b"hush" not in one.body for one in endpoint.asked)


async def test_pages_show_each_memory_once_and_only_the_first_is_reranked(
    http: httpx.AsyncClient, teas: list[NewMemory], endpoint: ScriptedServer
) -> None:
    plain = texts((await ask(http, without=["rerank"], limit=40))["memories"])
    pages: list[list[str]] = []
    page: dict[str, Any] = {"next_cursor": None}
    while not pages or page["next_cursor"] is not None:
        page = await ask(http, limit=12, **({"cursor": page["next_cursor"]} if pages else {}))
        pages.append(texts(page["memories"]))

    first = turned(plain[:30])[:12]
    assert pages[0] == first
    assert [text for page in pages[1:] for text in page] == [text for text in plain if text not in first]
    assert len(endpoint.asked) == 1
    whole = await ask(http, limit=40)
    assert (len(whole["memories"]), whole["next_cursor"]) == (40, None)


@pytest.mark.parametrize("query", [
    {"text": None}, {"order_by": "created_at"}, {"mode": "semantic"}, {"mode": "keyword"}, {"fields": ["label"]},
    {"without": ["rerank"]},
])  # fmt: skip
async def test_it_is_asked_for_nothing_else(
    http: httpx.AsyncClient, teas: list[NewMemory], endpoint: ScriptedServer, query: dict[str, Any]
) -> None:
    assert len((await ask(http, **query))["memories"]) == 10
    assert not endpoint.asked


async def test_where_it_is_away_or_late_the_order_is_as_it_was_and_the_answer_says_so(
    http: httpx.AsyncClient, teas: list[NewMemory], judge: Judge
) -> None:
    plain = await ask(http, without=["rerank"], limit=8)
    for failure, said in ((Answered(hang_up=True), "could not be asked"), (HELD, "in time")):
        judge.failure = failure
        answer = await ask(http, limit=8)
        assert texts(answer["memories"]) == texts(plain["memories"])
        assert said in answer["degraded"]
        assert answer["next_cursor"] is not None
    judge.failure = None
    assert (await ask(http, limit=8))["degraded"] is None


class Patient:
    """A reranker that is told what to say; without scores it never answers."""

    name = "patient"

    def __init__(self, *scores: float) -> None:
        self._scores = list(scores)
        self.sent: list[str] = []

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        self.sent += texts
        return self._scores or await self._never()

    async def aclose(self) -> None: ...

    async def _never(self) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError


def found(content: str | None, kind: str = "PLAINTEXT") -> Found:
    return Found({"type": kind, "content": content, "governance": Governance()}, 0.5, None, None)


async def test_bytes_stay_where_they_are_long_texts_are_cut_and_equal_scores_change_nothing() -> None:
    memories = [found("a"), found(None, "ACTIVATION"), found("b" * 9_000), found("c")]
    reranker = Patient(1.0, 1.0, 2.0)
    answer, why = await rerank(memories, text="?", reranker=reranker, patience=Patience(5))
    assert [one.fields["content"] and one.fields["content"][0] for one in answer] == ["c", None, "a", "b"]
    assert ([len(text) for text in reranker.sent], why) == ([1, TEXT_MAX, 1], None)


async def test_it_waits_no_longer_than_the_request_may() -> None:
    memories = [found("a"), found("b")]
    for left in (0.02, -1.0):
        async with asyncio.timeout(5):
            answer, why = await rerank(memories, text="?", reranker=Patient(), patience=Patience(left))
        assert (answer, why) == (memories, "not reranked: no time was left for it")
