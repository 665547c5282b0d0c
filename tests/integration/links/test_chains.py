"""Chains: memories in order, whoever adds at once, whoever may see which of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio
from tests.fakes.house_work import relaying
from tests.integration.gateway.test_changes import following
from tests.integration.links.conftest import Keep, People

from memcube_common.contracts.catalog import EVENTS
from memcube_common.db.pool import Row
from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseDatabase, HouseProject


@pytest_asyncio.fixture(scope="module", autouse=True)
async def _relay(database: HouseDatabase) -> AsyncGenerator[None]:
    async with relaying(database):
        yield


def told(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


async def make(client: httpx.AsyncClient, memories: Sequence[UUID] = (), **said: object) -> str:
    body = {"name": "checklist", "memory_ids": [str(one) for one in memories], **said}
    return str(told(await client.post("chains", json=body), 201)["id"])


async def order(client: httpx.AsyncClient, chain: str) -> list[str]:
    """The ids of a chain's memories as this person reads them; positions must count them."""
    answer = told(await client.get(f"chains/{chain}", params={"fields": "id", "limit": 200}))
    assert [item["position"] for item in answer["items"]] == list(range(1, answer["length"] + 1))
    return [item["memory"]["id"] for item in answer["items"]]


async def test_a_chain_is_made_read_rearranged_and_ended(people: People, keep: Keep) -> None:
    a, b, c, d = [await keep(text) for text in "abcd"]
    ada = people["ada"]
    chain = await make(ada, [a, b], description="what to do")
    items = f"chains/{chain}/items"
    assert told(await ada.post(items, json={"memory_id": str(c)}))["memory_ids"] == [str(one) for one in (a, b, c)]
    assert told(await ada.post(items, json={"memory_id": str(d), "position": 2}))["version"] == 3
    assert await order(people["mo"], chain) == [str(one) for one in (a, d, b, c)]
    moves = [
        (a, {"position": 99}, (d, b, c, a)),
        (c, {"before": str(b)}, (d, c, b, a)),
        (d, {"after": str(b)}, (c, b, d, a)),
        (a, {"position": 1}, (a, c, b, d)),
    ]
    for memory, where, wanted in moves:
        answer = told(await ada.patch(f"{items}/{memory}", json=where))
        assert answer["memory_ids"] == [str(one) for one in wanted], where
    given = [str(one) for one in (d, c, b, a)]
    assert told(await ada.put(items, json={"memory_ids": given}))["memory_ids"] == given
    left = told(await ada.delete(f"{items}/{c}"))
    assert (left["memory_ids"], left["length"]) == ([str(one) for one in (d, b, a)], 3)
    renamed = told(await ada.patch(f"chains/{chain}", json={"name": "list", "description": None}))
    assert (renamed["name"], renamed["description"], renamed["version"]) == ("list", None, 10)
    listed = told(await people["mo"].get("chains"))["chains"]
    assert [(one["id"], one["length"], one["name"]) for one in listed] == [(chain, 3, "list")]
    assert (await ada.delete(f"chains/{chain}")).status_code == 204
    assert (await ada.get(f"chains/{chain}")).status_code == 404
    assert (await ada.get(f"memories/{a}")).status_code == 200


async def test_it_is_read_as_far_as_the_budget_reaches_and_nothing_is_skipped(people: People, keep: Keep) -> None:
    texts = ["one two three", "four " * 50, "five"]
    chain = await make(people["ada"], [await keep(text) for text in texts])
    whole = told(await people["bo"].get(f"chains/{chain}"))
    costs = [item["memory"]["token_count"] for item in whole["items"]]
    assert [item["memory"]["content"] for item in whole["items"]] == texts
    assert (whole["token_count"], whole["left_out"], whole["next_position"]) == (sum(costs), 0, None)
    for budget, shown in ((costs[0] - 1, 0), (costs[0], 1), (sum(costs[:2]) - 1, 1), (sum(costs[:2]), 2), (10**6, 3)):
        answer = told(await people["bo"].get(f"chains/{chain}", params={"token_budget": budget}))
        assert len(answer["items"]) == shown, budget
        assert answer["token_count"] == sum(costs[:shown]) <= budget
        assert answer["left_out"] == 3 - shown
        assert answer["next_position"] == (None if shown == 3 else shown + 1)
    rest = told(await people["bo"].get(f"chains/{chain}", params={"start": 2, "limit": 1, "fields": "label, content"}))
    assert [set(item["memory"]) for item in rest["items"]] == [{"id", "label", "content"}]
    assert (rest["items"][0]["position"], rest["left_out"], rest["next_position"]) == (2, 1, 3)
    assert (await people["bo"].get(f"chains/{chain}", params={"fields": "label,secret"})).status_code == 422
    assert told(await people["bo"].get(f"chains/{chain}", params={"start": 9}))["items"] == []


async def test_twenty_who_add_at_once_make_neither_gap_nor_double(
    people: People, keep: Keep, psql: asyncpg.Connection[Row]
) -> None:
    memories = [await keep(str(number)) for number in range(20)]
    chain = await make(people["ada"])
    writers = [people["ada"], people["bo"], people["root"]]

    async def add(number: int) -> int:
        where = {} if number % 2 else {"position": 1}
        body = {"memory_id": str(memories[number]), **where}
        return (await writers[number % 3].post(f"chains/{chain}/items", json=body)).status_code

    assert await asyncio.gather(*map(add, range(20))) == [200] * 20
    assert sorted(await order(people["mo"], chain)) == sorted(map(str, memories))
    places = await psql.fetch("select place from memcube.chain_items where chain_id = $1 order by 1", UUID(chain))
    assert [row["place"] for row in places] == list(range(1, 21))
    assert told(await people["mo"].get(f"chains/{chain}"))["version"] == 21


async def test_what_one_may_not_read_is_neither_shown_nor_counted_and_keeps_its_place(
    people: People, keep: Keep
) -> None:
    a, b, c = [await keep(text) for text in "abc"]
    x, y = await keep("x", visibility="private"), await keep("y", visibility="private")
    chain = await make(people["ada"], [a, x, b, c, y])
    bo, items = people["bo"], f"chains/{chain}/items"
    assert await order(bo, chain) == [str(one) for one in (a, b, c)]
    seen = told(await bo.get(f"chains/{chain}", params={"token_budget": 0}))
    assert (seen["length"], seen["left_out"]) == (3, 3)
    assert [one["length"] for one in told(await bo.get("chains"))["chains"]] == [3]
    d = await keep("d")

    told(await bo.post(items, json={"memory_id": str(d), "position": 2}))
    assert await order(people["ada"], chain) == [str(one) for one in (a, x, d, b, c, y)]
    told(await bo.put(items, json={"memory_ids": [str(one) for one in (c, b, a, d)]}))
    assert await order(people["ada"], chain) == [str(one) for one in (c, y, b, a, x, d)]
    told(await bo.delete(f"{items}/{a}"))
    assert await order(people["ada"], chain) == [str(one) for one in (c, y, b, x, d)]
    told(await bo.patch(f"{items}/{d}", json={"position": 1}))
    assert await order(people["ada"], chain) == [str(one) for one in (d, c, y, b, x)]

    absent = new_id()
    for one, other in ((x, absent),):
        for method, path, body in (
            ("PATCH", "{}", {"position": 1}),
            ("DELETE", "{}", None),
            ("POST", "", {"memory_id": "{}"}),
            ("PATCH", str(b), {"before": "{}"}),
            ("PUT", "", {"memory_ids": ["{}", str(b), str(c), str(d)]}),
        ):
            answers = [await _asked(bo, method, f"{items}/{path}".rstrip("/"), body, memory) for memory in (one, other)]
            assert answers[0].status_code in {404, 409}, (method, path)
            assert (answers[0].status_code, answers[0].content) == (answers[1].status_code, answers[1].content)
    assert await order(people["ada"], chain) == [str(one) for one in (d, c, y, b, x)]


async def _asked(client: httpx.AsyncClient, method: str, path: str, body: Any, memory: UUID) -> httpx.Response:
    filled = None if body is None else httpx.Response(200, json=body).text.replace("{}", str(memory))
    headers = {"content-type": "application/json"}
    return await client.request(method, path.replace("{}", str(memory)), content=filled, headers=headers)


async def test_who_sees_a_chain_and_who_changes_it(people: People, keep: Keep) -> None:
    memory, other = await keep(), await keep()
    mine = await make(people["ada"], [memory], governance={"visibility": "private"})
    ours = await make(people["ada"], [memory], governance={"write_roles": ["MEMBER"]})
    for name, seen in {"root": {mine, ours}, "ada": {mine, ours}, "bo": {ours}, "mo": {ours}, "vi": set[str]()}.items():
        assert {one["id"] for one in told(await people[name].get("chains"))["chains"]} == seen, name
        assert (await people[name].get(f"chains/{mine}")).status_code == (200 if mine in seen else 404)
    body = {"memory_id": str(other)}
    expected = {"vi": 404, "bo": 403, "mo": 200}
    for name, status in expected.items():
        assert (await people[name].post(f"chains/{ours}/items", json=body)).status_code == status, name
    assert (await people["mo"].patch(f"chains/{ours}", json={"name": "ours"})).status_code == 200
    assert (
        await people["mo"].patch(f"chains/{ours}", json={"governance": {"visibility": "private"}})
    ).status_code == 403
    assert (await people["mo"].delete(f"chains/{ours}")).status_code == 403
    assert (await people["bo"].post(f"chains/{mine}/items", json=body)).status_code == 404
    assert (await people["vi"].post("chains", json={"name": "x"})).status_code == 403
    assert (await people["ada"].patch(f"chains/{ours}", json={"governance": {"write_roles": []}})).status_code == 200
    assert (await people["mo"].delete(f"chains/{ours}/items/{other}")).status_code == 403
    assert (await people["root"].delete(f"chains/{ours}/items/{other}")).status_code == 200


async def test_a_change_that_is_meant_for_another_version_is_refused(people: People, keep: Keep) -> None:
    memory, ada = await keep(), people["ada"]
    chain = await make(ada)
    tag = (await ada.get(f"chains/{chain}")).headers["etag"]
    body = {"memory_id": str(memory)}
    added = await ada.post(f"chains/{chain}/items", json=body, headers={"if-match": tag})
    assert told(added)["version"] == 2
    late = await ada.delete(f"chains/{chain}/items/{memory}", headers={"if-match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "version_mismatch")
    assert (await ada.delete(f"chains/{chain}", headers={"if-match": tag})).status_code == 412
    assert (await ada.patch(f"chains/{chain}", json={"name": "x"}, headers={"if-match": "x"})).status_code == 422
    assert told(await ada.put(f"chains/{chain}/items", json={"memory_ids": [str(memory)]}))["version"] == 2
    assert told(await ada.patch(f"chains/{chain}", json={"name": "checklist"}))["version"] == 2


async def test_a_repeat_under_one_key_adds_once(people: People, keep: Keep) -> None:
    memory, ada = await keep(), people["ada"]
    key = {"idempotency-key": "one"}
    body = {"name": "once", "memory_ids": [str(memory)]}
    answers = await asyncio.gather(*(ada.post("chains", json=body, headers=key) for _ in range(3)))
    assert len({answer.content for answer in answers}) == 1
    assert len(told(await ada.get("chains"))["chains"]) == 1
    chain = answers[0].json()["id"]
    other = {"memory_id": str(await keep())}
    for _ in range(2):
        assert told(await ada.post(f"chains/{chain}/items", json=other, headers=key))["version"] == 2
    assert (await ada.post(f"chains/{chain}/items", json=other)).status_code == 409


async def test_what_is_outside_its_limits_is_refused(people: People, keep: Keep) -> None:
    memory, hidden, ada = str(await keep()), str(await keep(visibility="private", by="mo")), people["ada"]
    chain = await make(ada, governance={"write_roles": []})
    for body in (
        {},
        {"name": ""},
        {"name": "x", "memory_ids": [memory, memory]},
        {"name": "x", "memory_ids": [str(new_id())] * 1001},
        {"name": "x", "governance": {"visibility": "public"}},
        {"name": "x", "description": ""},
    ):
        assert (await ada.post("chains", json=body)).status_code == 422, body
    missing = await ada.post("chains", json={"name": "x", "memory_ids": [memory, hidden]})
    assert (missing.status_code, [one["field"] for one in missing.json()["errors"]]) == (404, ["memory_ids.1"])
    for body in ({}, {"memory_id": memory, "position": 0}, {"memory_id": memory, "position": 1, "after": memory}):
        assert (await ada.post(f"chains/{chain}/items", json=body)).status_code == 422, body
    for body in ({}, {"name": None}, {"names": "x"}):
        assert (await ada.patch(f"chains/{chain}", json=body)).status_code == 422, body
    assert (await ada.patch(f"chains/{chain}/items/{memory}", json={})).status_code == 422
    assert [one["length"] for one in told(await ada.get("chains"))["chains"]] == [0]


async def test_a_chain_holds_a_thousand(
    people: People, keep: Keep, psql: asyncpg.Connection[Row], project: HouseProject
) -> None:
    chain, last = await make(people["ada"]), await keep()
    async with psql.transaction():
        await psql.execute("set local session_replication_role = replica")
        await psql.execute(
            "insert into memcube.chain_items (project_id, chain_id, memory_id, place, added_by)"
            " select $1, $2, gen_random_uuid(), n, 'x' from generate_series(1, 999) n",
            project.slug, UUID(chain),
        )  # fmt: skip
    body = {"memory_id": str(last)}
    assert told(await people["ada"].post(f"chains/{chain}/items", json=body))["memory_ids"] == [str(last)]
    full = await people["ada"].post(f"chains/{chain}/items", json={"memory_id": str(await keep())})
    assert (full.status_code, full.json()["code"]) == (409, "conflict")


async def test_chains_are_told_of_to_who_sees_them_and_count_what_all_may_read(people: People, keep: Keep) -> None:
    open_one, hidden = await keep(), await keep(visibility="private")
    mine = await make(people["ada"], [open_one], name="mine", governance={"visibility": "private"})
    ours = await make(people["ada"], [open_one, hidden], name="ours")
    await people["ada"].patch(f"chains/{ours}", json={"name": "all of ours"})
    await people["ada"].delete(f"chains/{ours}/items/{open_one}")
    await people["ada"].delete(f"chains/{mine}")
    gone = await make(people["ada"], name="soon gone")
    await people["ada"].delete(f"chains/{gone}")
    own = [(mine, "deleted", "(deleted)", 0)]
    everybodys = [
        (ours, "created", "ours", 1),
        (ours, "updated", "all of ours", 1),
        (ours, "updated", "all of ours", 0),
        (gone, "deleted", "(deleted)", 0),
    ]
    for name, wanted in {"bo": everybodys, "ada": [*everybodys[:3], *own, everybodys[3]]}.items():
        async with following(people["root"], 0) as root:
            while (await root.next()).event != "chain.v1.deleted":
                pass
            await root.next()
        async with following(people[name], 0) as reader:
            heard: list[tuple[str, str, str, int]] = []
            while len(heard) < len(wanted):
                event = await reader.next()
                if event.event.startswith("chain."):
                    said = EVENTS[event.event].model_validate_json(event.data).model_dump()
                    assert said["actor"] == "ada"
                    heard.append((str(said["chain_id"]), event.event.rpartition(".")[2], said["name"], said["items"]))
        assert heard == wanted, name


@pytest.mark.parametrize("how", ["from memory", "from Postgres"])
async def test_what_is_told_again_of_a_chain_follows_what_it_has_become(people: People, how: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if how == "from memory":  # somebody follows from the beginning, so all of it is kept
            await stack.enter_async_context(following(people["root"], 0))
        private, gone = await make(people["ada"], name="soon private"), await make(people["ada"], name="soon gone")
        told(await people["ada"].patch(f"chains/{private}", json={"governance": {"visibility": "private"}}))
        assert (await people["ada"].delete(f"chains/{gone}")).status_code == 204
        last = await make(people["ada"], name="last")
        async with following(people["root"], 0) as root:
            while (await root.next()).json()["chain_id"] != last:
                pass
        expected = {
            "bo": [(gone, "deleted"), (last, "created")],
            "ada": [(private, "created"), (private, "updated"), (gone, "deleted"), (last, "created")],
        }
        for name, wanted in expected.items():
            async with following(people[name], 0) as reader:
                events = [await reader.next() for _ in wanted]
            heard = [(event.json()["chain_id"], event.event.rpartition(".")[2]) for event in events]
            assert heard == wanted, name


async def test_a_purged_memory_leaves_its_chains(people: People, keep: Keep) -> None:
    a, b, c = [await keep(text) for text in "abc"]
    chain = await make(people["ada"], [a, b, c])
    assert (await people["ada"].delete(f"memories/{b}")).status_code == 200
    assert await order(people["bo"], chain) == [str(a), str(c)]
    told(await people["bo"].patch(f"chains/{chain}/items/{a}", json={"after": str(c)}))
    assert await order(people["ada"], chain) == [str(c), str(a)]
