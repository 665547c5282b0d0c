"""Changes reach whom they concern: live and replayed, by role, by name, and as governance stands when they are read."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio
from tests.eventually import eventually
from tests.fakes.house_work import HouseWork, memory, relaying
from tests.fakes.running_gateway import RunningGateway
from tests.integration.gateway.test_changes import Reader, following

from memcube_common.contracts.fields import Governance
from memcube_common.ids import new_id
from memcube_common.memories.domain import NewMemory
from memcube_common.security.keys import key_hash, new_key
from memcube_common.testing.servers import HouseDatabase, HouseProject

READERS = {"root": "SERVICE", "ada": "AGENT", "bo": "AGENT", "mo": "MEMBER", "vi": "VIEWER"}


@pytest_asyncio.fixture(autouse=True)
async def _relay(database: HouseDatabase) -> AsyncGenerator[None]:
    async with relaying(database):
        yield


@pytest_asyncio.fixture
async def readers(
    database: HouseDatabase, gateway: RunningGateway, project: HouseProject
) -> AsyncGenerator[dict[str, httpx.AsyncClient]]:
    """One HTTP client a reader, each with a key of its own name and role."""
    async with contextlib.AsyncExitStack() as stack:
        psql = await asyncpg.connect(database.admin_dsn)
        stack.push_async_callback(psql.close)
        clients: dict[str, httpx.AsyncClient] = {}
        for name, role in READERS.items():
            key = new_key()
            await psql.execute(
                "insert into memcube.api_keys (project_id, id, name, role, hash, prefix)"
                " values ($1, $2, $3, $4, $5, 'x')",
                project.slug, new_id(), name, role, key_hash(key),
            )  # fmt: skip
            clients[name] = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=f"{gateway.url}/v1/projects/{project.slug}/",
                    headers={"authorization": f"Bearer {key}"},
                    timeout=15,
                )
            )
        yield clients


def ruled(text: str, **governance: object) -> NewMemory:
    """A memory of 'ada' under this governance."""
    return replace(memory(text), governance=Governance.model_validate(governance).model_dump_json(), created_by="ada")


def several() -> tuple[list[NewMemory], dict[str, list[int]]]:
    """Memories, and the positions of their changes that each reader may have; the last is for everybody."""
    memories = [
        ruled("open"),
        ruled("private", visibility="private"),
        ruled("denied", principals={"deny": ["bo"]}),
        ruled("allowed", visibility="private", principals={"allow": ["bo"]}),
        ruled("members only", read_roles=["MEMBER"]),
        ruled("viewers too", read_roles=["VIEWER", "AGENT"]),
        ruled("public", visibility="public"),
    ]
    return memories, {
        "root": [1, 2, 3, 4, 5, 6, 7],
        "ada": [1, 2, 3, 4, 5, 6, 7],
        "bo": [1, 4, 6, 7],
        "mo": [1, 3, 5, 7],
        "vi": [6, 7],
    }


async def heard(reader: Reader) -> list[int]:
    """Positions up to the last, which everybody hears."""
    positions: list[int] = []
    while not positions or positions[-1] != 7:
        positions.append(int((await reader.next()).id))
    return positions


@pytest.mark.parametrize("how", ["live", "replayed"])
async def test_every_reader_hears_what_concerns_them_and_nothing_else(
    how: str, readers: dict[str, httpx.AsyncClient], house_work: HouseWork, project: HouseProject
) -> None:
    memories, expected = several()

    async def write() -> None:
        for one in memories:
            await house_work.keep(project.slug, [one])

    if how == "replayed":
        await write()
        async with following(readers["root"], 0) as root:
            assert await heard(root) == expected["root"]
    async with contextlib.AsyncExitStack() as stack:
        streams = {name: await stack.enter_async_context(following(client, 0)) for name, client in readers.items()}
        if how == "live":
            await write()
        assert {name: await heard(stream) for name, stream in streams.items()} == expected


async def test_what_is_replayed_is_judged_by_governance_as_it_is_now(
    readers: dict[str, httpx.AsyncClient], house_work: HouseWork, project: HouseProject
) -> None:
    open_one, last = ruled("soon private"), ruled("public", visibility="public")
    await house_work.keep(project.slug, [open_one])
    answer = await readers["ada"].put(f"memories/{open_one.id}/governance", json={"visibility": "private"})
    assert answer.status_code == 200, answer.text
    await house_work.keep(project.slug, [last])
    assert await _about(readers["root"], last.id) == [open_one.id, open_one.id, last.id]
    assert await _about(readers["bo"], last.id) == [last.id]


async def test_of_a_purged_memory_nothing_is_told_again_but_that_it_is_gone(
    readers: dict[str, httpx.AsyncClient], house_work: HouseWork, project: HouseProject, database: HouseDatabase
) -> None:
    gone, hidden, last = (
        ruled("a canary sang"),
        ruled("a second", visibility="private"),
        ruled("end", visibility="public"),
    )
    for one in (gone, hidden, last):
        await house_work.keep(project.slug, [one])
    psql = await asyncpg.connect(database.admin_dsn)
    try:
        for one in (gone, hidden):
            await psql.execute("delete from memcube.memories where id = $1", one.id)
        await psql.execute("update memcube.memories set label = 'end2' where id = $1", last.id)

        async def all_placed() -> bool:
            head = "select position from memcube.feed_heads where project_id = $1"
            return await psql.fetchval(head, project.slug) == 6

        await eventually(all_placed)
    finally:
        await psql.close()
    for name, purged in (("root", [gone.id, hidden.id]), ("bo", [gone.id]), ("vi", [])):
        told: list[tuple[str, UUID]] = []
        text = ""
        async with following(readers[name], 0) as reader:
            while ("memory.v1.updated", last.id) not in told:
                event = await reader.next()
                text += event.data
                told.append((event.event, UUID(event.json()["memory_id"])))
        assert [id for type, id in told if type == "memory.v1.purged"] == purged, name
        assert {id for type, id in told if type != "memory.v1.purged"} == {last.id}
        assert "canary" not in text


async def _about(client: httpx.AsyncClient, last: UUID) -> Sequence[UUID]:
    """The memories whose changes a reader is told of from the beginning, up to the last one."""
    told: list[UUID] = []
    async with following(client, 0) as reader:
        while last not in told:
            told.append(UUID((await reader.next()).json()["memory_id"]))
    return told


async def test_what_a_process_remembers_is_told_again_as_it_is_now(
    readers: dict[str, httpx.AsyncClient], house_work: HouseWork, project: HouseProject, database: HouseDatabase
) -> None:
    """Positions that are still in memory are judged by what the memory has become, like those read from Postgres."""
    narrowed, gone, last = ruled("narrowed"), ruled("gone"), ruled("public", visibility="public")
    psql = await asyncpg.connect(database.admin_dsn)
    try:
        async with following(readers["root"], 0) as root:  # whoever follows keeps the changes in memory
            for one in (narrowed, gone):
                await house_work.keep(project.slug, [one])
            assert await root.take(2) == [1, 2]
            answer = await readers["ada"].put(f"memories/{narrowed.id}/governance", json={"visibility": "private"})
            assert answer.status_code == 200, answer.text
            await psql.execute("delete from memcube.memories where id = $1", gone.id)
            await house_work.keep(project.slug, [last])
            assert await root.take(3) == [3, 4, 5]
            async with following(readers["bo"], 0) as bo:
                told = [await bo.next(), await bo.next()]
            async with following(readers["ada"], 0) as ada:
                own = [await ada.next() for _ in range(4)]
    finally:
        await psql.close()
    assert [(event.event, event.json()["memory_id"]) for event in told] == [
        ("memory.v1.purged", str(gone.id)),
        ("memory.v1.created", str(last.id)),
    ]
    assert [int(event.id) for event in own] == [1, 3, 4, 5]
