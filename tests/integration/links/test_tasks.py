"""Which memories a task read and wrote: linked under governance, told to whom it concerns, gone with the memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest_asyncio
from tests.fakes.house_work import relaying
from tests.feed import heard
from tests.integration.gateway.test_changes import following
from tests.integration.links.conftest import Keep, People
from tests.rooms import bus_client

from memcube_common.contracts.catalog import EVENTS
from memcube_common.contracts.subjects import followed_by
from memcube_common.db.pool import Row
from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseDatabase, HouseProject

TASK = "tasks/TASK-123/memories"


@pytest_asyncio.fixture(scope="module", autouse=True)
async def _relay(database: HouseDatabase) -> AsyncGenerator[None]:
    async with relaying(database):
        yield


async def link(client: httpx.AsyncClient, memory: object, role: str = "READ", task: str = "TASK-123") -> httpx.Response:
    return await client.post(f"tasks/{task}/memories", json={"memory_id": str(memory), "role": role})


def told(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_task_tells_its_memories_and_a_memory_its_tasks(people: People, keep: Keep) -> None:
    first, second = await keep("first"), await keep("second")
    both = {"memory_ids": [str(first), str(second)]}
    linked = told(await people["bo"].post(TASK, json=both))
    assert [one["created"] for one in linked["links"]] == [True, True]
    await link(people["bo"], first, "WRITE")
    await link(people["bo"], first, task="build:7")

    page = told(await people["mo"].get(TASK))
    assert [one["memory"]["content"] for one in page["memories"]] == ["second", "first"]
    assert [[own["role"] for own in one["links"]] for one in page["memories"]] == [["READ"], ["READ", "WRITE"]]
    assert {own["created_by"] for one in page["memories"] for own in one["links"]} == {"bo"}
    written = told(await people["mo"].get(TASK, params={"role": "WRITE"}))
    assert [one["memory"]["id"] for one in written["memories"]] == [str(first)]
    tasks = told(await people["mo"].get(f"memories/{first}/tasks"))["tasks"]
    assert [(one["task_id"], len(one["links"])) for one in tasks] == [("TASK-123", 2), ("build:7", 1)]
    listed = told(await people["mo"].get("tasks"))["tasks"]
    assert [(one["task_id"], one["reads"], one["writes"]) for one in listed] == [("TASK-123", 2, 1), ("build:7", 1, 0)]


async def test_linking_again_changes_nothing_and_announces_nothing(
    people: People, keep: Keep, psql: asyncpg.Connection[Row], project: HouseProject
) -> None:
    memory = await keep()
    assert told(await link(people["bo"], memory))["links"][0]["created"]
    assert not told(await link(people["mo"], memory))["links"][0]["created"]
    told_of = await psql.fetchval(
        "select count(*) from memcube.changes where project_id = $1 and type = 'task.v1.linked'", project.slug
    )
    assert told_of == 1
    assert told(await people["mo"].get(TASK))["memories"][0]["links"][0]["created_by"] == "bo"


async def test_the_same_key_links_once_and_another_task_is_another_request(people: People, keep: Keep) -> None:
    body, key = {"memory_id": str(await keep())}, {"idempotency-key": "one"}
    first = await people["bo"].post(TASK, json=body, headers=key)
    again = await people["bo"].post(TASK, json=body, headers=key)
    elsewhere = await people["bo"].post("tasks/OTHER/memories", json=body, headers=key)
    assert (first.content, again.headers["idempotency-replayed"]) == (again.content, "true")
    assert "idempotency-replayed" not in elsewhere.headers
    assert elsewhere.json()["links"][0]["created"]


async def test_what_may_not_be_read_is_not_linked_and_answers_like_what_is_not_there(
    people: People, keep: Keep
) -> None:
    open_one, hidden, absent = await keep(), await keep(visibility="private"), new_id()
    answers = [await link(people["bo"], one) for one in (hidden, absent)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    several = await people["bo"].post(TASK, json={"memory_ids": [str(open_one), str(hidden)]})
    assert several.status_code == 404
    assert [one["field"] for one in several.json()["errors"]] == ["memory_ids.1"]
    assert told(await people["root"].get("tasks"))["tasks"] == []


async def test_written_is_linked_by_who_may_write(people: People, keep: Keep) -> None:
    memory = await keep(write_roles=[])
    assert (await link(people["bo"], memory, "WRITE")).status_code == 403
    assert (await link(people["mo"], memory, "READ")).status_code == 200
    for name in ("ada", "root"):
        assert (await link(people[name], memory, "WRITE")).status_code == 200
    assert (await people["bo"].delete(f"{TASK}/{memory}")).status_code == 403
    assert (await people["bo"].delete(f"{TASK}/{memory}", params={"role": "READ"})).status_code == 204
    assert (await people["ada"].delete(f"{TASK}/{memory}")).status_code == 204
    assert (await people["ada"].delete(f"{TASK}/{memory}")).status_code == 404


async def test_a_viewer_reads_links_and_makes_none(people: People, keep: Keep) -> None:
    memory = await keep(visibility="public")
    assert (await link(people["vi"], memory)).status_code == 403
    await link(people["bo"], memory)
    assert len(told(await people["vi"].get(TASK))["memories"]) == 1
    assert (await people["vi"].delete(f"{TASK}/{memory}")).status_code == 403


async def test_a_hidden_memory_is_in_no_list_and_no_count(people: People, keep: Keep) -> None:
    open_one, hidden = await keep("open"), await keep("hidden", visibility="private")
    for memory in (open_one, hidden):
        await link(people["ada"], memory, "WRITE")
    await link(people["ada"], hidden, task="SECRET")
    assert [one["memory"]["content"] for one in told(await people["bo"].get(TASK))["memories"]] == ["open"]
    page = told(await people["bo"].get(TASK, params={"limit": 1}))
    assert [one["memory"]["content"] for one in page["memories"]] == ["open"]
    assert page["next_cursor"] is None
    listed = told(await people["bo"].get("tasks"))["tasks"]
    assert [(one["task_id"], one["writes"]) for one in listed] == [("TASK-123", 1)]
    assert told(await people["bo"].get("tasks/SECRET/memories"))["memories"] == []
    assert (await people["bo"].get(f"memories/{hidden}/tasks")).status_code == 404
    assert (await people["bo"].delete(f"tasks/SECRET/memories/{hidden}")).status_code == 404
    assert [one["task_id"] for one in told(await people["root"].get("tasks"))["tasks"]] == ["SECRET", "TASK-123"]


async def test_pages_follow_each_other_by_signed_cursors(people: People, keep: Keep) -> None:
    memories = [str(await keep(f"text {number}")) for number in range(5)]
    await people["bo"].post(TASK, json={"memory_ids": memories})
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = told(await people["bo"].get(TASK, params={"limit": 2, **cursor}))
        seen += [one["memory"]["id"] for one in page["memories"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == sorted(memories, reverse=True)
    foreign = await people["bo"].get("tasks/OTHER/memories", params=cursor)
    made_up = await people["bo"].get(TASK, params={"cursor": cursor["cursor"][:-4] + "AAAA"})
    assert (foreign.status_code, made_up.status_code) == (422, 422)
    assert [one["field"] for one in foreign.json()["errors"]] == ["cursor"]

    for task in ("b", "B", "a.1"):
        await link(people["bo"], memories[0], task=task)
    first = told(await people["bo"].get("tasks", params={"limit": 3}))
    rest = told(await people["bo"].get("tasks", params={"cursor": first["next_cursor"]}))
    assert [one["task_id"] for one in (*first["tasks"], *rest["tasks"])] == ["B", "TASK-123", "a.1", "b"]
    own = told(await people["bo"].get(f"memories/{memories[0]}/tasks", params={"limit": 3}))
    rest = told(await people["bo"].get(f"memories/{memories[0]}/tasks", params={"cursor": own["next_cursor"]}))
    assert [one["task_id"] for one in (*own["tasks"], *rest["tasks"])] == ["B", "TASK-123", "a.1", "b"]


async def test_what_is_outside_its_limits_is_refused(people: People, keep: Keep) -> None:
    memory = str(await keep())
    for task in ("-x", "a b", "a%2Fb", "ä", "x" * 129, "a\n"):
        assert (await link(people["bo"], memory, task=quote(task))).status_code in {404, 422}, task
        assert (await people["bo"].get(f"tasks/{quote(task)}/memories")).status_code in {404, 422}, task
    bodies: list[dict[str, object]] = [
        {},
        {"memory_id": "x"},
        {"memory_ids": []},
        {"memory_ids": [memory] * 101},
        {"memory_id": memory, "memory_ids": [memory]},
        {"memory_id": memory, "role": "read"},
    ]
    for body in bodies:
        assert (await people["bo"].post(TASK, json=body)).status_code == 422, body
    assert told(await people["bo"].get("tasks"))["tasks"] == []


async def test_links_are_told_to_whom_the_memory_concerns_and_to_nobody_else(people: People, keep: Keep) -> None:
    hidden, open_one = await keep(visibility="private"), await keep()
    for memory in (hidden, open_one):
        await link(people["ada"], memory, "WRITE")
        await people["ada"].delete(f"{TASK}/{memory}")
    expected = {
        "ada": [(hidden, "linked"), (hidden, "unlinked"), (open_one, "linked"), (open_one, "unlinked")],
        "bo": [(open_one, "linked"), (open_one, "unlinked")],
    }
    for name, wanted in expected.items():
        async with following(people[name], 0) as reader:
            seen: list[tuple[str, str]] = []
            while len(seen) < len(wanted):
                event = await reader.next()
                if event.event.startswith("task."):
                    change = EVENTS[event.event].model_validate_json(event.data).model_dump()
                    assert (change["task_id"], change["role"], change["actor"]) == ("TASK-123", "WRITE", "ada")
                    seen.append((str(change["memory_id"]), event.event.rpartition(".")[2]))
        assert seen == [(str(memory), verb) for memory, verb in wanted]


async def test_links_travel_on_subjects_of_their_own_and_restricted_ones_apart(
    people: People, keep: Keep, database: HouseDatabase, project: HouseProject
) -> None:
    for memory in (await keep(), await keep(visibility="private")):
        await link(people["ada"], memory)
    async with bus_client(database.nats_url) as client:
        events = await heard(client, project.slug, many=4)
    prefix = f"memcube.{project.slug}"
    assert [one.subject for one in events if one.event["type"] == "task.v1.linked"] == [
        f"{prefix}.task.v1.linked",
        f"{prefix}.task.v1.restricted.linked",
    ]
    assert set(followed_by(project.slug, "bo", restricted=False)) == {
        *(f"{prefix}.{noun}.v1.*" for noun in ("memory", "task", "chain")),
        f"{prefix}.receipt.v1.*.bo",
    }


async def test_a_purged_memory_takes_its_links_along_and_its_purge_says_it(
    people: People, keep: Keep, psql: asyncpg.Connection[Row], project: HouseProject
) -> None:
    memory = await keep()
    await link(people["bo"], memory)
    assert (await people["ada"].delete(f"memories/{memory}")).status_code == 200
    assert told(await people["root"].get("tasks"))["tasks"] == []
    types = await psql.fetch("select type from memcube.changes where project_id = $1 order by seq", project.slug)
    assert [row["type"] for row in types] == ["memory.v1.created", "task.v1.linked", "memory.v1.purged"]
    assert (await link(people["bo"], memory)).status_code == 404


async def test_a_link_and_a_purge_at_once_leave_no_link_to_nothing(
    people: People, keep: Keep, psql: asyncpg.Connection[Row], project: HouseProject
) -> None:
    memories = [await keep() for _ in range(6)]

    async def purge() -> None:
        for memory in memories:
            await psql.execute("delete from memcube.memories where project_id = $1 and id = $2", project.slug, memory)

    answers, _ = await asyncio.gather(asyncio.gather(*(link(people["bo"], memory) for memory in memories)), purge())
    assert {answer.status_code for answer in answers} <= {200, 404, 409}
    left = await psql.fetchval("select count(*) from memcube.memory_task_links where project_id = $1", project.slug)
    assert left == 0
