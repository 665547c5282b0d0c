"""Asking the gateway: what is found, how it says it was searched, and what it does when vectors cannot be had."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from tests.fakes.embedding_room import FakeEmbeddingRoom
from tests.fakes.house_work import HouseWork, memory

from memcube_common.contracts.api import QueryAnswer
from memcube_common.contracts.asks import Refused
from memcube_common.testing.servers import HouseDatabase, HouseProject

FACTS = (
    "The staging database is reset every night at two.",
    "Ada prefers short answers without apologies.",
    "The office moved from Paris to Lyon in spring.",
    "Invoices are written in euros, never in dollars.",
)


@pytest.fixture(autouse=True)
def _listening(embedding_room: FakeEmbeddingRoom) -> None:
    embedding_room.silent = False
    embedding_room.answer = None


async def ask(http: httpx.AsyncClient, **query: object) -> QueryAnswer:
    answer = await http.post("memories/query", json=query)
    assert answer.status_code == 200, answer.text
    return QueryAnswer.model_validate_json(answer.content)


async def test_a_memory_is_found_by_words_before_it_has_a_vector(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    await house_work.keep(project.slug, [memory(fact) for fact in FACTS])

    for mode in ("hybrid", "keyword"):
        answer = await ask(http, text="When is the staging database reset?", mode=mode)
        assert answer.memories[0].content == FACTS[0]
        assert (answer.mode, answer.degraded) == (mode, None)
        assert answer.memories[0].embedding.state == "pending"


async def test_a_memory_is_found_by_meaning_alone(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom
) -> None:
    memories = [memory(fact) for fact in FACTS]
    await house_work.keep(project.slug, memories)
    embedding_room.generation = await house_work.embed(project.slug, [m.id for m in memories])

    answer = await ask(http, text="Paris Lyon office moved", mode="semantic", limit=2)

    assert answer.mode == "semantic"
    assert answer.memories[0].content == FACTS[2]
    assert len(answer.memories) == 2
    assert answer.memories[0].similarity == answer.memories[0].score
    assert answer.memories[0].text_score is None


async def test_hybrid_adds_both_scores(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom
) -> None:
    memories = [memory(fact) for fact in FACTS]
    await house_work.keep(project.slug, memories)
    embedding_room.generation = await house_work.embed(project.slug, [m.id for m in memories])

    answer = await ask(http, text="short answers for Ada")

    assert answer.memories[0].content == FACTS[1]
    assert answer.memories[0].text_score is not None
    assert answer.memories[0].similarity is not None
    assert {m.content for m in answer.memories} == set(FACTS), "what is near in meaning is there as well"


async def test_vectors_of_another_generation_are_not_compared(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom
) -> None:
    memories = [memory(fact) for fact in FACTS]
    await house_work.keep(project.slug, memories)
    embedding_room.generation = await house_work.embed(project.slug, [m.id for m in memories]) + 1

    assert (await ask(http, text="Ada", mode="semantic")).memories == []


async def test_without_an_embedder_hybrid_says_what_it_left_out_and_semantic_says_try_again(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom
) -> None:
    await house_work.keep(project.slug, [memory(fact) for fact in FACTS])
    embedding_room.answer = (
        Refused(code="unavailable", detail="the breaker is open", after=7.0).model_dump_json().encode()
    )

    hybrid = await ask(http, text="Ada")
    semantic = await http.post("memories/query", json={"text": "Ada", "mode": "semantic"})

    assert (hybrid.mode, hybrid.memories[0].content) == ("keyword", FACTS[1])
    assert hybrid.degraded is not None
    assert (semantic.status_code, semantic.json()["code"]) == (503, "unavailable")
    assert semantic.headers["retry-after"] == "7"


@pytest.mark.parametrize("said", [b"", b"{}", b"not json", b'{"generation":1,"model":"m","dimensions":64,"vectors":[]}',
                                  b'{"generation":1,"model":"m","dimensions":64,"vectors":["AAAA"]}'])  # fmt: skip
async def test_an_embedder_that_talks_nonsense_is_as_good_as_none(
    http: httpx.AsyncClient,
    house_work: HouseWork,
    project: HouseProject,
    embedding_room: FakeEmbeddingRoom,
    said: bytes,
) -> None:
    await house_work.keep(project.slug, [memory(fact) for fact in FACTS])
    embedding_room.answer = said or b" "

    assert (await ask(http, text="Ada")).mode == "keyword"


async def test_an_embedder_that_says_nothing_costs_a_second_at_most(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom
) -> None:
    await house_work.keep(project.slug, [memory(fact) for fact in FACTS])
    embedding_room.silent = True

    answer = await ask(http, text="Ada")

    assert answer.mode == "keyword"
    assert answer.took_ms < 1_900


async def test_without_text_the_newest_come_first(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    tags = (["even"], ["odd"])
    days = [memory(f"day {day}", at=start + timedelta(days=day), tags=tags[day % 2]) for day in range(9)]
    await house_work.keep(project.slug, days)

    everything = await ask(http, limit=3)
    even = await ask(http, tags=["even"], limit=2)
    until = await ask(http, tags=["odd"], as_of=(start + timedelta(days=5)).isoformat())

    assert (everything.mode, [m.content for m in everything.memories]) == ("recent", ["day 8", "day 7", "day 6"])
    assert [m.content for m in even.memories] == ["day 8", "day 6"]
    assert [m.content for m in until.memories] == ["day 5", "day 3", "day 1"]
    assert (await ask(http, tags=["even", "odd"])).memories == []


async def test_memories_later_than_the_reader_s_now_are_left_out_and_the_places_are_filled(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom
) -> None:
    early, late = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    old = [memory(f"the tea party of year {number} was long", at=early, number=number) for number in range(10)]
    new = [memory("tea tea tea party", at=late + timedelta(minutes=n), number=1000 + n) for n in range(230)]
    await house_work.keep(project.slug, old + new)
    embedding_room.generation = await house_work.embed(project.slug, [m.id for m in old + new])

    for mode in ("hybrid", "semantic", "keyword"):
        answer = await ask(http, text="tea party", mode=mode, limit=10, as_of="2024-06-01T00:00:00Z")
        assert {m.content for m in answer.memories} == {m.content for m in old}, mode


async def test_the_same_question_has_the_same_answer(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom
) -> None:
    memories = [memory("the same words again") for _ in range(30)]
    await house_work.keep(project.slug, memories)
    embedding_room.generation = await house_work.embed(project.slug, [m.id for m in memories])

    answers = [[m.id for m in (await ask(http, text="same words", limit=7)).memories] for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == 7


@pytest.mark.parametrize(
    "text",
    [
        "'",
        "\\",
        "a' | 'b",
        "!!! ???",
        "the and of",
        "' & !",
        ":* <-> (",
        "x" * 8000,
        "日本語 の 質問",
        "é'\"\\\\n",
        "a\u200bb",
    ],
)
async def test_no_question_breaks_the_search(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, text: str
) -> None:
    await house_work.keep(project.slug, [memory(f"about {text[:100]} and more")])

    assert (await ask(http, text=text, mode="keyword")).mode == "keyword"


async def test_another_project_s_memories_are_never_found(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, database: HouseDatabase
) -> None:
    stranger = memory("a canary that sings")
    other = await database.project()
    await house_work.keep(other.slug, [stranger])

    assert (await ask(http, text="canary", mode="keyword")).memories == []
    foreign = await http.get(f"memories/{stranger.id}")
    absent = await http.get(f"memories/{memory('x').id}")
    assert (foreign.status_code, foreign.content) == (absent.status_code, absent.content)
    assert foreign.status_code == 404


async def test_an_import_is_found_and_repeats_change_nothing(http: httpx.AsyncClient) -> None:
    batch = {
        "memories": [
            {"id": "n1", "content": "Bo plays the cello.", "created_at": "2020-02-03T04:05:06+01:00"},
            {"id": "n2", "content": "The kettle is loud."},
            {"id": "n2", "content": "The kettle is loud."},
        ]
    }  # fmt: skip

    first = (await http.post("memories/import", json=batch)).json()["results"]
    second = (await http.post("memories/import", json=batch)).json()["results"]
    found = await ask(http, text="who plays the cello?", mode="keyword")

    assert [r["status"] for r in first] == ["created", "created", "exists"]
    assert [r["status"] for r in second] == ["exists"] * 3
    assert [r["memory_id"] for r in first] == [r["memory_id"] for r in second]
    bo = found.memories[0]
    assert (bo.origin, bo.created_by, bo.created_at) == (
        "import:n1",
        "import",
        datetime(2020, 2, 3, 3, 5, 6, tzinfo=UTC),
    )
    assert (await http.get(f"memories/{bo.id}")).json()["content"] == "Bo plays the cello."
    assert (await http.get(f"receipts/{bo.id}")).json()["state"] == "stored"


async def test_long_content_comes_back_as_it_was(http: httpx.AsyncClient) -> None:
    content = "ünï\tcode\n" * 5_000

    result = (await http.post("memories/import", json={"memories": [{"id": "long", "content": content}]})).json()[
        "results"
    ][0]

    assert (await http.get(f"memories/{result['memory_id']}")).json()["content"] == content
