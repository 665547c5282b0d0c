"""Queries over HTTP: what is refused and by which name, pages that miss nothing, fields, counts, one's own vector."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.fakes.embedding_room import FakeEmbeddingRoom
from tests.fakes.house_work import HouseWork, memory, vector_of
from tests.rooms import admin

from memcube_common.contracts.api import MemoryQuery, PartialAnswer, QueryAnswer
from memcube_common.testing.servers import HouseDatabase, HouseProject

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _listening(embedding_room: FakeEmbeddingRoom) -> None:
    embedding_room.silent = False
    embedding_room.answer = None


async def ask(http: httpx.AsyncClient, **query: object) -> dict[str, Any]:
    answer = await http.post("memories/query", json=query)
    assert answer.status_code == 200, answer.text
    (PartialAnswer if "fields" in query else QueryAnswer).model_validate_json(answer.content)
    return answer.json()


async def walk(http: httpx.AsyncClient, between: Any = None, **query: object) -> list[dict[str, Any]]:
    """All pages; `between` happens after each, with what was found so far."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await ask(http, **query, **({} if cursor is None else {"cursor": cursor}))
        found += page["memories"]
        if (cursor := page["next_cursor"]) is None:
            return found
        assert len(found) < 2_000
        if between is not None:
            await between(found)


@pytest.mark.parametrize(
    ("field", "query"),
    [
        ("mode", {"mode": "keyword"}),
        ("mode", {"mode": "keyword", "embedding": [1.0]}),
        ("similarity_threshold", {"text": "x", "mode": "keyword", "similarity_threshold": 0.5}),
        ("similarity_threshold", {"similarity_threshold": 0.5}),
        ("similarity_threshold", {"text": "x", "similarity_threshold": 1.01}),
        ("order_by", {"order_by": "relevance"}),
        ("order", {"text": "x", "order": "asc"}),
        ("embedding", {"embedding": [0.0, 0.0]}),
        ("embedding", {"embedding": [0.1] * 63}),
        ("label", {"label": {}}),
        ("label.like", {"label": {"like": "x"}}),
        ("created_before", {"created_after": "2024-01-02T00:00:00Z", "created_before": "2024-01-01T00:00:00Z"}),
        ("ids", {"ids": []}),
        ("tag", {"tag": "x"}),
        ("fields.0", {"fields": ["secret"]}),
        ("cursor", {"cursor": "made-up"}),
    ],
)
async def test_what_contradicts_itself_is_refused_by_name(
    http: httpx.AsyncClient, field: str, query: dict[str, object]
) -> None:
    answer = await http.post("memories/query", json=query)
    assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (422, [field])


async def test_numbers_that_are_none_are_refused_as_well(http: httpx.AsyncClient) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        body = b'{"embedding": [' + number.encode() + b"]}"
        answer = await http.post("memories/query", content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize("query", [{}, {"order_by": "label"}, {"order_by": "updated_at", "order": "asc"},
                                   {"tags": ["page"], "order": "asc"}, {"text": "page of words", "mode": "keyword"},
                                   {"text": "page of words"}, {"text": "page", "order_by": "label"}])  # fmt: skip
async def test_pages_give_every_memory_once_while_others_come_and_go(
    http: httpx.AsyncClient,
    house_work: HouseWork,
    project: HouseProject,
    embedding_room: FakeEmbeddingRoom,
    query: dict[str, object],
) -> None:
    before = [memory(f"page {n} of words", at=START + timedelta(hours=n // 3), tags=["page"]) for n in range(60)]
    await house_work.keep(project.slug, before)
    embedding_room.generation = await house_work.embed(project.slug, [one.id for one in before])

    async def change(shown: list[dict[str, Any]]) -> None:
        number = len(shown)
        added = [memory(f"page {n} of words {n}", at=START + timedelta(minutes=number + n)) for n in range(3)]
        await house_work.keep(project.slug, [*added, memory(f"page {number} again, of words", tags=["page"])])
        gone = await http.delete(f"memories/{shown[-1]['id']}")  # where the next page begins
        assert gone.status_code == 200, gone.text

    found = [one["id"] for one in await walk(http, change, **query, limit=7)]

    assert len(found) == len(set(found))
    assert {str(one.id) for one in before} <= set(found)


async def test_a_cursor_is_for_its_query_and_project_and_nobody_writes_one(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, database: HouseDatabase
) -> None:
    await house_work.keep(project.slug, [memory(f"note {n}", tags=["x"]) for n in range(5)])
    cursor = (await ask(http, tags=["x"], limit=2))["next_cursor"]
    assert len((await ask(http, tags=["x"], limit=200, cursor=cursor, fields=["label"]))["memories"]) == 3

    other = await database.project()
    elsewhere = str(http.base_url).replace(project.slug, other.slug)
    ranked = (await ask(http, text="note", mode="keyword", limit=2))["next_cursor"]
    swapped = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
    tries = [
        await http.post("memories/query", json={"tags": ["y"], "cursor": cursor}),
        await http.post("memories/query", json={"tags": ["x"], "order": "asc", "cursor": cursor}),
        await http.post("memories/query", json={"tags": ["x"], "cursor": ranked}),
        await http.post("memories/query", json={"tags": ["x"], "cursor": swapped}),
        await http.post("memories/query", json={"tags": ["x"], "cursor": "A" * 9_000}),
        await http.post(
            f"{elsewhere}memories/query", json={"tags": ["x"], "cursor": cursor}, headers=other.authorization
        ),
    ]
    said = [(one.status_code, one.json()["errors"][0]["field"]) for one in tries]
    assert said == [(422, "cursor")] * len(tries)


async def test_a_ranking_ends_after_a_thousand(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    await house_work.keep(project.slug, [memory("the same words") for _ in range(1_030)])
    found = await walk(http, text="words", mode="keyword", limit=190, fields=["id"])
    assert len({one["id"] for one in found}) == len(found) == 1_000


async def test_only_the_fields_asked_for_are_told_and_what_is_not_read_is_not_marked(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, database: HouseDatabase
) -> None:
    watched = memory("watched words", tags=["x"])
    await house_work.keep(project.slug, [watched])
    async with admin(database) as psql:
        await psql.execute(
            "update memcube.memories set governance = governance || '{\"audit_reads\": true}' where id = $1", watched.id
        )

        async def marks() -> int:
            sql = "select count(*) from memcube.memory_events where memory_id = $1 and kind = 'ACCESSED'"
            return int(await psql.fetchval(sql, watched.id))

        for query in ({"tags": ["x"]}, {"text": "watched", "mode": "keyword"}):
            bare = await ask(http, **query, fields=["label", "embedding"])
            [told] = bare["memories"]
            assert set(told) == {"id", "label", "embedding"}
            assert told["embedding"]["state"] == "pending"
        assert await marks() == 0
        whole = await ask(http, tags=["x"], fields=["size_bytes", "content"])
        assert whole["memories"] == [{"id": str(watched.id), "size_bytes": 13, "content": "watched words"}]
        assert await marks() == 1


async def test_what_is_counted_is_what_fits(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    await house_work.keep(project.slug, [memory(f"n {n}", tags=["odd"] if n % 2 else ["even"]) for n in range(31)])
    nobody = "00000000-0000-7000-8000-000000000000"
    for query, total in (
        ({}, 31),
        ({"tags": ["odd"]}, 15),
        ({"tags_none": ["odd"]}, 16),
        ({"text": "n", "mode": "keyword", "tags_any": ["odd"]}, 15),
        ({"ids": [nobody]}, 0),
    ):
        answer = await ask(http, **query, limit=3, count=True)
        assert (answer["total"], answer["total_is_exact"]) == (total, True), query
    assert (await ask(http))["total"] is None


async def test_one_brings_a_vector_of_ones_own(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom
) -> None:
    notes = [memory("the office moved"), memory("invoices are in euros")]
    await house_work.keep(project.slug, notes)
    await house_work.embed(project.slug, [note.id for note in notes])
    embedding_room.silent = True  # nobody is asked
    near = [float(x) * 1e-30 for x in vector_of("invoices are in euros", 64)]

    by_meaning = await ask(http, embedding=near, similarity_threshold=0.9)
    both = await ask(http, embedding=near, text="office")

    assert (by_meaning["mode"], [m["content"] for m in by_meaning["memories"]]) == ("semantic", [notes[1].content])
    assert by_meaning["memories"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert (both["mode"], both["degraded"], len(both["memories"])) == ("hybrid", None, 2)


async def test_a_threshold_that_cannot_be_kept_is_not_quietly_left_out(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, embedding_room: FakeEmbeddingRoom
) -> None:
    embedding_room.answer = b" "
    answer = await http.post("memories/query", json={"text": "x", "similarity_threshold": 0.1})
    assert answer.status_code == 503


async def test_everything_a_query_may_say_is_in_the_document(http: httpx.AsyncClient) -> None:
    document = (await http.get(str(http.base_url).split("/v1/")[0] + "/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert set(schemas["MemoryQuery"]["properties"]) == set(MemoryQuery.model_fields)
    assert schemas["PartialMemory"]["required"] == ["id"]
