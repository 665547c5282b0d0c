"""The memory book over HTTP: made, changed, put away, taken back, ended; what was is kept until the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from tests.eventually import eventually
from tests.fakes.house_work import HouseWork, vector_of
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import a_key

from memcube_common.ids import new_id
from memcube_common.memories import store
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject


@pytest_asyncio.fixture
async def agents(
    database: HouseDatabase, gateway: RunningGateway, project: HouseProject
) -> AsyncGenerator[dict[str, httpx.AsyncClient]]:
    """Ada and Bo, two agents of the project, Mo, a member, and Vi, who reads."""
    people = {"ada": "AGENT", "bo": "AGENT", "mo": "MEMBER", "vi": "VIEWER"}
    clients = {
        name: httpx.AsyncClient(
            base_url=f"{gateway.url}/v1/projects/{project.slug}/",
            headers={"authorization": f"Bearer {await a_key(database, project.slug, name, role)}"},
            timeout=15,
        )
        for name, role in people.items()
    }
    try:
        yield clients
    finally:
        for client in clients.values():
            await client.aclose()


async def made(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """A memory that was just made."""
    answer = await client.post("memories", json={"content": "The kettle is in the kitchen.", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def rows(database: HouseDatabase, sql: str, *args: Any) -> list[Any]:
    """What an administrator reads, past every policy."""
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


async def test_a_memory_is_made_and_read_back_the_same(http: httpx.AsyncClient, project: HouseProject) -> None:
    given = {
        "id": str(new_id()), "label": "kettle", "content": "It whistles.", "tags": ["kitchen", "tea"],
        "metadata": {"floor": 2}, "priority": "HOT", "kv_hint": "slot-3", "governance": {"ttl_days": 30, "pin": True},
    }  # fmt: skip
    answer = await http.post("memories", json=given)
    assert answer.status_code == 201
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == f"/v1/projects/{project.slug}/memories/{given['id']}"
    memory = answer.json()
    read = await http.get(f"memories/{given['id']}")
    assert read.json() == memory
    assert {name: memory[name] for name in given if name != "governance"} == {
        k: v for k, v in given.items() if k != "governance"
    }
    assert (memory["version"], memory["lifecycle"], memory["type"], memory["size_bytes"]) == (1, "NEW", "PLAINTEXT", 12)
    assert memory["governance"]["ttl_days"] == 30
    found = await http.post("memories/query", json={"text": "whistles", "mode": "keyword"})
    assert [one["id"] for one in found.json()["memories"]] == [given["id"]]


async def test_the_same_id_again_is_a_conflict_and_the_same_key_the_same_answer(http: httpx.AsyncClient) -> None:
    memory = await made(http)
    again = await http.post("memories", json={"id": memory["id"], "content": "Another."})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    key = {"idempotency-key": uuid4().hex}
    answers = await asyncio.gather(*(http.post("memories", json={"content": "Once."}, headers=key) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    other = await http.post("memories", json={"content": "Twice."}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_every_change_is_a_version_and_every_version_can_be_read_compared_and_restored(
    http: httpx.AsyncClient,
) -> None:
    long = "A long story about tea.\n" * 400
    memory = await made(http, label="one", tags=["a"], content="first line\nsecond line")
    at = f"memories/{memory['id']}"
    changes: list[dict[str, Any]] = [
        {"content": "first line\ncopper line"},
        {"label": "two", "tags": ["a", "b"]},
        {"metadata": {"x": 1}, "priority": "COLD"},
        {"content": long, "kv_hint": "h"},
        {"label": "three", "kv_hint": None},
    ]
    for number, change in enumerate(changes, start=2):
        answer = await http.patch(at, json=change, headers={"if-match": f'"{number - 1}"'})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["version"], answer.headers["etag"]) == (number, f'"{number}"')
        assert {k: answer.json()[k] for k in change} == change
    listed = (await http.get(f"{at}/versions")).json()
    assert [(v["version"], v["changed"]) for v in listed["versions"]] == [
        (6, ["label", "kv_hint"]), (5, ["kv_hint", "content"]), (4, ["metadata", "priority"]),
        (3, ["label", "tags"]), (2, ["content"]), (1, []),
    ]  # fmt: skip
    assert listed["next_before"] is None
    page = (await http.get(f"{at}/versions", params={"limit": 2})).json()
    assert [v["version"] for v in page["versions"]] == [6, 5]
    rest = (await http.get(f"{at}/versions", params={"before": page["next_before"], "limit": 2})).json()
    assert [v["version"] for v in rest["versions"]] == [4, 3]
    contents = [(await http.get(f"{at}/versions/{n}")).json()["content"] for n in range(1, 7)]
    assert contents == ["first line\nsecond line", *["first line\ncopper line"] * 3, long, long]
    assert (await http.get(f"{at}/versions/7")).status_code == 404
    diff = (await http.get(f"{at}/diff", params={"before": 1, "after": 3})).json()
    assert [change["field"] for change in diff["changes"]] == ["label", "tags", "content"]
    assert "-second line\n+copper line" in diff["changes"][-1]["diff"]
    restored = await http.post(f"{at}/versions/2/restore", headers={"if-match": '"6"'})
    assert restored.status_code == 200
    body = restored.json()
    assert (body["version"], body["label"], body["tags"], body["content"], body["kv_hint"], body["priority"]) == (
        7, "one", ["a"], "first line\ncopper line", None, "WARM",
    )  # fmt: skip
    assert body == (await http.get(at)).json()
    by_words = await http.post("memories/query", json={"text": "copper", "mode": "keyword"})
    assert [one["version"] for one in by_words.json()["memories"]] == [7]
    gone = await http.post("memories/query", json={"text": "story", "mode": "keyword"})
    assert gone.json()["memories"] == []


async def test_another_version_than_meant_is_refused_and_nothing_changes(http: httpx.AsyncClient) -> None:
    memory = await made(http)
    at = f"memories/{memory['id']}"
    racers = await asyncio.gather(
        *(http.patch(at, json={"label": f"by {n}"}, headers={"if-match": '"1"'}) for n in range(8))
    )
    assert sorted(answer.status_code for answer in racers) == [200, *[412] * 7]
    assert racers[0].headers["content-type"].startswith("application/")
    for call in (
        http.patch(at, json={"content": "x"}, headers={"if-match": '"1"'}),
        http.delete(at, headers={"if-match": '"1"'}),
        http.post(f"{at}/archive", headers={"if-match": '"1"'}),
        http.put(f"{at}/governance", json={}, headers={"if-match": '"1"'}),
        http.post(f"{at}/versions/1/restore", headers={"if-match": '"1"'}),
    ):
        answer = await call
        assert (answer.status_code, answer.json()["code"]) == (412, "version_mismatch")
    assert (await http.get(at)).json()["version"] == 2
    unfit = await http.patch(at, json={"label": "x"}, headers={"if-match": "two"})
    assert unfit.json()["errors"][0]["field"] == "If-Match"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": "x" * 65537}, "content"),
        ({"content": "x", "label": "l" * 201}, "label"),
        ({"content": "x", "tags": ["t"] * 1 + ["", ]}, "tags.1"),
        ({"content": "x", "tags": [str(n) for n in range(65)]}, "tags"),
        ({"content": "x", "type": "PARAMETER"}, "type"),
        ({"content": "x", "priority": "URGENT"}, "priority"),
        ({"content": "x", "metadata": {"a": "b" * 16384}}, "metadata"),
        ({"content": "x", "governance": {"visibilty": "public"}}, "governance.visibilty"),
        ({"content": "x", "id": "6f1ed002-ab5e-4d3e-8f0a-7c33f2b7f0b1"}, "id"),
        ({"content": "x", "parents": [str(uuid4())]}, "parents"),
        ({"content": "x", "trust": "trusted"}, "trust"),
        ({"content": "x", "kv_hint": "k" * 513}, "kv_hint"),
    ],
)  # fmt: skip
async def test_what_is_outside_its_limits_is_refused_by_its_name(
    http: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await http.post("memories", json=body)
    assert answer.status_code == 422
    assert field in [fault["field"] for fault in answer.json()["errors"]]


@pytest.mark.parametrize("body", [{}, {"label": None}, {"content": None, "label": "x"}, {"lifecycle": "ACTIVE"}])
async def test_a_change_that_says_nothing_is_refused(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    memory = await made(http)
    answer = await http.patch(f"memories/{memory['id']}", json=body)
    assert answer.status_code == 422
    assert (await http.get(f"memories/{memory['id']}")).json()["version"] == 1


async def test_a_memory_is_put_away_taken_back_and_each_is_said_once(
    http: httpx.AsyncClient, database: HouseDatabase
) -> None:
    memory = await made(http, content="Where the cellar key hangs.")
    at = f"memories/{memory['id']}"
    away = await http.post(f"{at}/archive")
    assert (away.json()["lifecycle"], away.json()["version"]) == ("ARCHIVED", 2)
    assert (await http.post(f"{at}/archive")).json()["version"] == 2
    assert (await http.post("memories/query", json={"text": "cellar", "mode": "keyword"})).json()["memories"] == []
    back = await http.post(f"{at}/restore")
    assert (back.json()["lifecycle"], back.json()["version"]) == ("ACTIVE", 3)
    assert (await http.post(f"{at}/restore")).json()["version"] == 3
    types = await rows(
        database, "select type from memcube.changes where memory_id = $1 order by seq", UUID(memory["id"])
    )
    assert [row["type"] for row in types] == ["memory.v1.created", "memory.v1.archived", "memory.v1.restored"]


async def test_one_change_of_content_is_one_event_that_names_it(
    http: httpx.AsyncClient, database: HouseDatabase, house_work: HouseWork, project: HouseProject
) -> None:
    memory = await made(http)
    await house_work.embed(project.slug, [UUID(memory["id"])])
    assert (await http.get(f"memories/{memory['id']}")).json()["embedding"]["state"] == "ready"
    changed = await http.patch(f"memories/{memory['id']}", json={"content": "Elsewhere now.", "tags": ["moved"]})
    assert changed.json()["embedding"] == {"state": "pending", "model": None, "reason": None}
    events = await rows(
        database, "select type, body from memcube.changes where memory_id = $1 order by seq", UUID(memory["id"])
    )
    assert [row["type"] for row in events] == ["memory.v1.created", "memory.v1.embedded", "memory.v1.updated"]
    assert '"changed": ["content", "tags", "version"]' in events[-1]["body"]
    left = await rows(database, "select from memcube.memory_vectors where memory_id = $1", UUID(memory["id"]))
    assert not left
    await house_work.embed(project.slug, [UUID(memory["id"])])
    vectors = await rows(database, "select tags from memcube.memory_vectors where memory_id = $1", UUID(memory["id"]))
    assert [row["tags"] for row in vectors] == [["moved"]]


async def test_what_is_purged_leaves_no_trace_of_its_content_anywhere(
    http: httpx.AsyncClient, database: HouseDatabase, house_work: HouseWork, project: HouseProject
) -> None:
    needle = f"needle{uuid4().hex}"
    key = {"idempotency-key": uuid4().hex}
    body = {"content": f"The {needle} lies here.", "tags": [needle], "governance": {"audit_reads": True}}
    memory = (await http.post("memories", json=body, headers=key)).json()
    at = f"memories/{memory['id']}"
    await house_work.embed(project.slug, [UUID(memory["id"])])
    await http.patch(at, json={"content": f"Now {needle} lies there. " + "word " * 2000})
    await http.patch(at, json={"label": needle, "metadata": {"n": needle}})
    receipt = (await http.post("insights", json={"insight": f"An insight about {needle}."})).json()
    await house_work.store_insights(project.slug, [UUID(receipt["id"])])
    for memory_id in (memory["id"], receipt["memory_id"]):
        answer = await http.delete(f"memories/{memory_id}")
        assert (answer.status_code, answer.json()) == (200, {"purged": [memory_id]})
    assert (await http.get(at)).status_code == 404
    assert (await http.get(f"{at}/versions")).status_code == 404
    assert (await http.delete(at)).status_code == 404
    again = await http.post("memories", json=body, headers=key)
    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    assert (await http.get(f"receipts/{receipt['id']}")).json()[
        "reason"
    ] == "the memory is gone, or not yours to read any more"
    tables = await rows(
        database,
        "select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'memcube'::regnamespace"
        " and c.relkind = 'r'",
    )
    told = [
        t["name"]
        for t in tables
        if await rows(database, f"select 1 from {t['name']} x where x::text like $1", f"%{needle}%")
    ]
    assert told == []
    trail = (await http.get(f"{at}/events")).json()["events"]
    assert trail[0]["kind"] == "PURGED"
    assert {event["kind"] for event in trail} >= {"CREATED", "UPDATED", "ACCESSED"}


async def test_an_insight_that_moved_on_is_blanked_with_the_memory_it_had_become(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    receipt = (await http.post("insights", json={"insight": f"Words that go: {uuid4().hex}."})).json()
    await house_work.store_insights(project.slug, [UUID(receipt["id"])])
    other = await made(http)
    moved = await http.put(f"insights/{receipt['id']}/memory", json={"memory_id": other["id"]})
    assert moved.status_code == 200, moved.text
    assert (await http.delete(f"memories/{receipt['memory_id']}")).status_code == 200
    assert (await http.get(f"insights/{receipt['id']}")).json()["insight"] == "(purged)"


async def test_a_repeat_tells_nothing_to_who_may_not_read_it_any_more(
    http: httpx.AsyncClient, agents: dict[str, httpx.AsyncClient]
) -> None:
    memory = await made(http)
    key = {"idempotency-key": uuid4().hex}
    change = {"tags": ["seen"]}
    first = await agents["bo"].patch(f"memories/{memory['id']}", json=change, headers=key)
    assert first.json()["content"] == memory["content"]
    await http.put(f"memories/{memory['id']}/governance", json={"principals": {"allow": [], "deny": ["bo"]}})
    again = await agents["bo"].patch(f"memories/{memory['id']}", json=change, headers=key)
    assert (again.status_code, again.json()["code"]) == (404, "not_found")


async def test_the_trail_says_who_did_what_and_is_for_the_privileged(
    http: httpx.AsyncClient, agents: dict[str, httpx.AsyncClient]
) -> None:
    memory = await made(agents["ada"])
    await agents["bo"].patch(f"memories/{memory['id']}", json={"tags": ["t"]})
    trail = (await http.get(f"memories/{memory['id']}/events", params={"limit": 1})).json()
    assert [(e["kind"], e["actor"], e["role"], e["changed"]) for e in trail["events"]] == [
        ("UPDATED", "bo", "AGENT", ["tags", "version"])
    ]
    assert trail["events"][0]["source"].startswith("key:")
    first = await http.get(f"memories/{memory['id']}/events", params={"before": trail["next_before"]})
    assert [e["actor"] for e in first.json()["events"]] == ["ada"]
    versions = (await agents["vi"].get(f"memories/{memory['id']}/versions")).status_code
    assert versions == 404  # a VIEWER is not among the default readers
    by = (await agents["mo"].get(f"memories/{memory['id']}/versions")).json()["versions"]
    assert [v["by"] for v in by] == ["bo", "ada"]
    assert (await agents["ada"].get(f"memories/{memory['id']}/events")).status_code == 403


async def test_who_may_change_and_who_may_end_a_memory(agents: dict[str, httpx.AsyncClient]) -> None:
    memory = await made(agents["ada"])
    at = f"memories/{memory['id']}"
    assert (await agents["bo"].patch(at, json={"label": "b"})).status_code == 200  # write_roles: AGENT
    assert (await agents["mo"].patch(at, json={"label": "m"})).status_code == 403
    assert (await agents["vi"].patch(at, json={"label": "v"})).status_code == 404
    assert (await agents["bo"].delete(at)).status_code == 403
    assert (await agents["mo"].post(f"{at}/archive")).status_code == 403
    assert (await agents["vi"].post("memories", json={"content": "x"})).status_code == 403
    private = await made(agents["ada"], governance={"visibility": "private"})
    for method in ("GET", "PATCH", "DELETE"):
        body = {"label": "x"} if method == "PATCH" else None
        foreign = await agents["bo"].request(method, f"memories/{private['id']}", json=body)
        absent = await agents["bo"].request(method, f"memories/{new_id()}", json=body)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.content == absent.content
    assert (await agents["ada"].delete(at)).status_code == 200


async def test_what_is_frozen_or_held_stays_as_it_is(http: httpx.AsyncClient) -> None:
    frozen = await made(http, governance={"frozen": True})
    held = await made(http, governance={"legal_hold": True})
    at = f"memories/{frozen['id']}"
    for call in (
        http.patch(at, json={"content": "x"}), http.patch(at, json={"label": "x"}), http.post(f"{at}/archive"),
        http.delete(at), http.post(f"{at}/versions/1/restore"),
    ):  # fmt: skip
        answer = await call
        assert (answer.status_code, answer.json()["code"]) == (409, "memory_frozen")
    assert (await http.delete(f"memories/{held['id']}")).json()["code"] == "legal_hold"
    kept = await http.patch(f"memories/{held['id']}", json={"content": "changed, and what was is kept"})
    assert kept.json()["version"] == 2
    assert (await http.get(f"memories/{held['id']}/versions/1")).json()["content"] == "The kettle is in the kitchen."
    at_once = await made(http)
    both = await http.patch(f"memories/{at_once['id']}", json={"content": "last words", "governance": {"frozen": True}})
    assert (both.status_code, both.json()["content"]) == (200, "last words")


async def test_what_is_derived_has_a_lineage_that_ends_where_one_may_not_read(
    agents: dict[str, httpx.AsyncClient], http: httpx.AsyncClient
) -> None:
    ada, bo = agents["ada"], agents["bo"]
    root = await made(ada)
    hidden = await made(ada, parents=[root["id"]], governance={"visibility": "private"})
    leaf = await made(ada, parents=[hidden["id"]])
    open_child = await made(bo, parents=[root["id"]])
    assert (leaf["provenance_id"], leaf["governance"]["visibility"]) == (root["id"], "private")
    seen = (await ada.get(f"memories/{root['id']}/lineage")).json()
    assert {(r["id"], r["distance"]) for r in seen["descendants"]} == {
        (hidden["id"], 1), (open_child["id"], 1), (leaf["id"], 2)
    }  # fmt: skip
    by_bo = (await bo.get(f"memories/{root['id']}/lineage")).json()
    assert [r["id"] for r in by_bo["descendants"]] == [open_child["id"]]
    up = (await http.get(f"memories/{leaf['id']}/lineage")).json()
    assert [(r["id"], r["distance"]) for r in up["ancestors"]] == [(hidden["id"], 1), (root["id"], 2)]
    refused = await ada.delete(f"memories/{root['id']}", params={"descendants": "true"})
    assert refused.status_code == 403  # one of them is Bo's
    assert (await ada.get(f"memories/{leaf['id']}")).status_code == 200
    gone = await http.delete(f"memories/{root['id']}", params={"descendants": "true"})
    assert set(gone.json()["purged"]) == {root["id"], hidden["id"], leaf["id"], open_child["id"]}


async def test_what_a_purged_source_demanded_stays_demanded_also_of_who_comes_under_its_id(
    http: httpx.AsyncClient, agents: dict[str, httpx.AsyncClient]
) -> None:
    source = await made(http, governance={"visibility": "private", "principals": {"allow": ["ada"], "deny": []}})
    child = await made(agents["ada"], parents=[source["id"]])
    assert (await http.delete(f"memories/{source['id']}")).status_code == 200
    await made(http, id=source["id"], governance={"visibility": "public"})
    await agents["ada"].put(f"memories/{child['id']}/governance", json={"visibility": "public"})
    after = (await http.get(f"memories/{child['id']}")).json()
    assert after["governance"]["visibility"] == "private"
    assert (await agents["bo"].get(f"memories/{child['id']}")).status_code == 404


async def test_purging_a_link_of_a_lineage_leaves_it_whole(http: httpx.AsyncClient) -> None:
    root = await made(http, governance={"visibility": "private"})
    middle = await made(http, parents=[root["id"]])
    lower = await made(http, parents=[middle["id"]])
    leaf = await made(http, parents=[lower["id"]])
    for gone in (middle, lower):
        assert (await http.delete(f"memories/{gone['id']}")).status_code == 200
    after = (await http.get(f"memories/{leaf['id']}")).json()
    assert (after["parents"], after["governance"]["visibility"]) == ([root["id"]], "private")
    await http.put(f"memories/{root['id']}/governance", json={"visibility": "private", "sensitivity": "confidential"})
    assert (await http.get(f"memories/{leaf['id']}")).json()["governance"]["sensitivity"] == "confidential"
    ended = await http.delete(f"memories/{root['id']}", params={"descendants": "true"})
    assert set(ended.json()["purged"]) == {root["id"], leaf["id"]}


async def test_who_comes_under_a_purged_id_closes_nobody_s_memory(
    http: httpx.AsyncClient, agents: dict[str, httpx.AsyncClient]
) -> None:
    source = await made(http)
    child = await made(agents["ada"], parents=[source["id"]])
    await http.delete(f"memories/{source['id']}")
    await made(agents["bo"], id=source["id"], governance={"visibility": "private"})
    await http.put(f"memories/{child['id']}/governance", json={"ttl_days": 30})
    assert (await agents["ada"].get(f"memories/{child['id']}")).status_code == 200


async def test_all_that_was_derived_is_ended_or_nothing(
    http: httpx.AsyncClient, agents: dict[str, httpx.AsyncClient]
) -> None:
    source = await made(agents["ada"])
    await made(agents["bo"], parents=[source["id"]], governance={"visibility": "private"})
    refused = await agents["ada"].delete(f"memories/{source['id']}", params={"descendants": "true"})
    assert refused.status_code == 403
    assert (await agents["ada"].get(f"memories/{source['id']}")).status_code == 200


async def test_a_vector_of_an_old_label_or_content_is_never_taken_for_the_new_one(
    http: httpx.AsyncClient, database: HouseDatabase, house_work: HouseWork, project: HouseProject
) -> None:
    text = await made(http)
    ident = UUID(text["id"])
    form = {"memory": (None, '{"type": "ACTIVATION", "label": "old"}', "application/json"), "payload": ("x", b"bytes")}
    raw = (await http.post("memories", files=form)).json()
    async with house_work.db.transaction(Principal.worker("embedding", project.slug)) as tx:
        texts = await store.read_texts(tx, project=project.slug, ids=[ident, UUID(raw["id"])])
        generation = await store.register_model(tx, name="fake", dimensions=64, fingerprint="fake")
    assert [t.text for t in texts] == [text["content"], "old"]
    await http.patch(f"memories/{raw['id']}", json={"label": "new"})
    async with asyncio.timeout(10):
        writer = await asyncpg.connect(database.admin_dsn)
        try:
            async with writer.transaction():
                await writer.execute("select from memcube.memories where id = $1 for update", ident)
                saving = asyncio.create_task(saved(house_work, project, generation, texts))
                await eventually(lambda: is_waiting(database))
                await writer.execute(
                    "update memcube.memories set version = 2, content_version = 2 where id = $1", ident
                )
                await writer.execute(
                    "select set_config('app.project_id', $1, true),"
                    " memcube.revise_content($2, 'x', 'INLINE', 'x', null, null, null, null, 1, 1, '\\x00',"
                    " 0::smallint)",
                    project.slug, ident,
                )  # fmt: skip
            assert await saving == set()
        finally:
            await writer.close()


async def saved(work: HouseWork, project: HouseProject, generation: int, texts: list[store.TextToEmbed]) -> set[UUID]:
    """What vectors of these texts are taken for, now."""
    vectors = [store.NewVector(t.memory_id, t.content_hash, vector_of(t.text, 64)) for t in texts]
    async with work.db.transaction(Principal.worker("embedding", project.slug)) as tx:
        return await store.save_vectors(tx, project=project.slug, generation=generation, model="fake", vectors=vectors)


async def is_waiting(database: HouseDatabase) -> bool:
    """Whether somebody waits for a lock of this database."""
    found = await rows(
        database, "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    return bool(found)


async def test_a_lineage_has_an_end(http: httpx.AsyncClient, database: HouseDatabase) -> None:
    memory = await made(http)
    await rows(database, "update memcube.memories set depth = 63 where id = $1", UUID(memory["id"]))
    last = await made(http, parents=[memory["id"]])
    answer = await http.post("memories", json={"content": "x", "parents": [last["id"]]})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "parents")


async def test_a_batch_is_kept_as_a_whole_or_each_for_itself(http: httpx.AsyncClient) -> None:
    taken = await made(http)
    good, bad = {"content": "good"}, {"content": ""}
    orphan = {"content": "x", "parents": [str(new_id())]}
    for spoiler in (bad, orphan):
        whole = await http.post("memories/batch", json={"memories": [good, spoiler]})
        assert whole.status_code == 422, whole.text
    assert len((await http.post("memories/query", json={"limit": 200})).json()["memories"]) == 1
    twice = str(new_id())
    each = await http.post(
        "memories/batch",
        json={"atomic": False, "memories": [
            good, bad, orphan, {"id": taken["id"], "content": "x"}, {"id": twice, "content": "y"},
            {"id": twice, "content": "z"},
        ]},
    )  # fmt: skip
    assert each.status_code == 200
    results = each.json()["results"]
    assert [r["status"] for r in results] == ["created", "refused", "refused", "exists", "created", "exists"]
    assert results[1]["errors"][0]["field"] == "content"
    assert results[2]["errors"][0]["field"] == "parents"
    assert (await http.get(f"memories/{twice}")).json()["content"] == "y"
    many = await http.post("memories/batch", json={"memories": [{"content": f"m {n}"} for n in range(100)]})
    ids = [r["id"] for r in many.json()["results"]]
    assert len(set(ids)) == 100
    assert (await http.get(f"memories/{ids[57]}")).json()["content"] == "m 57"
