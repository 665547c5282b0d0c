"""Connections that take and give nothing: heads without end or bound, bodies that never come, batches that meet."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from tests.eventually import eventually
from tests.fakes.running_gateway import RunningGateway, running_gateway

from memcube_common import wire
from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseDatabase, HouseProject


async def _opened(gateway: RunningGateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(gateway.url)
    assert address.hostname is not None
    return await asyncio.open_connection(address.hostname, address.port)


async def _end_of(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side closes; a reset is an end as well."""
    answer = b""
    try:
        while piece := await asyncio.wait_for(reader.read(65_536), 10):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


@pytest.mark.parametrize("pieces", [1, 40], ids=["at once", "bit by bit"])
async def test_a_head_beyond_its_bound_is_refused(gateway: RunningGateway, pieces: int) -> None:
    reader, writer = await _opened(gateway)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: here\r\nX-Long: ")
    try:
        for _ in range(pieces):
            writer.write(b"a" * (200_000 // pieces))
            await writer.drain()
        writer.write(b"\r\n\r\n")
        await writer.drain()
    except ConnectionError:
        pass  # it was cut off while sending, which is the point
    answer = await _end_of(reader)
    writer.close()
    assert b" 200 " not in answer.split(b"\r\n")[0]


async def test_a_head_that_never_ends_is_not_waited_for(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)
    reader, writer = await _opened(gateway)
    writer.write(b"GET /livez HTTP/1.1\r\nHo")
    await writer.drain()
    assert await _end_of(reader) == b""
    writer.close()


async def test_a_body_that_never_comes_is_answered(database: HouseDatabase, project: HouseProject) -> None:
    async with running_gateway(database, body_within=0.2) as impatient:
        reader, writer = await _opened(impatient)
        head = (
            f"POST /v1/projects/{project.slug}/insights HTTP/1.1\r\nHost: here\r\nContent-Length: 50\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {project.key}\r\n\r\n"
        )
        writer.write(head.encode() + b"{")
        await writer.drain()
        answer = await _end_of(reader)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"too_slow"' in answer


async def test_a_batch_takes_its_ids_in_order_so_that_two_that_meet_wait_instead_of_deadlocking(
    http: httpx.AsyncClient, database: HouseDatabase, project: HouseProject
) -> None:
    """Somebody holds the lowest id: a batch that names it last waits for it first, and holds nothing meanwhile."""
    ids = [new_id() for _ in range(10)]
    other, watcher = [await asyncpg.connect(database.admin_dsn) for _ in range(2)]
    keep = (
        "insert into memcube.insights (project_id, id, agent_id, via, insight, priority, governance, metadata,"
        " memory_id, state) values ($1, $2, 'a', 'nats', 'held', 'WARM', '{}', '{}', $2, 'stored')"
    )
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    try:
        async with other.transaction():
            await other.execute(keep, project.slug, ids[0])
            backwards = [{"id": str(id), "insight": "mine"} for id in reversed(ids)]
            posted = asyncio.create_task(http.post("insights", json={"insights": backwards}))
            await eventually(lambda: watcher.fetchval(waiting), within=1)
            await other.execute(keep, project.slug, ids[-1])
        assert (await posted).status_code == 202
    finally:
        await other.close()
        await watcher.close()


async def test_the_same_import_with_another_time_is_the_same_memory(http: httpx.AsyncClient) -> None:
    statuses: list[str] = []
    for time in ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", None):
        memory = {"id": "same", "content": "One thing.", **({"created_at": time} if time else {})}
        answer = await http.post("memories/import", json={"memories": [memory]})
        statuses.append(answer.json()["results"][0]["status"])
    assert statuses == ["created", "exists", "exists"]


async def test_many_may_wait_for_receipts_at_once(database: HouseDatabase, project: HouseProject) -> None:
    limits = httpx.Limits(max_connections=200)
    async with (
        running_gateway(database, answer_within=30, connect_timeout=30) as patient,
        httpx.AsyncClient(headers=project.authorization, timeout=60, limits=limits) as client,
    ):
        url = f"{patient.url}/v1/projects/{project.slug}/receipts/"
        answers = await asyncio.gather(
            *(client.get(f"{url}{new_id()}", params={"wait": "stored", "timeout": 2}) for _ in range(200))
        )
    assert {answer.status_code for answer in answers} == {404}
