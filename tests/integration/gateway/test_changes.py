"""The change stream: live and resumed, gapless, without repeats, with an explicit reset where a gap must stay."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import asyncpg
import httpx
import pytest
import pytest_asyncio
from httpx_sse import ServerSentEvent, aconnect_sse
from tests.fakes.house_work import HouseWork, memory, relaying
from tests.fakes.running_gateway import running_gateway

from memcube_common.contracts.catalog import EVENTS
from memcube_common.embedded.process import until
from memcube_common.insights.announcing import SentInsight, announce_receipts
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_gateway import domain


@pytest_asyncio.fixture(autouse=True)
async def _relay(database: HouseDatabase) -> AsyncGenerator[None]:
    async with relaying(database):
        yield


class Reader:
    """One subscriber: events one at a time, each within a deadline."""

    def __init__(self, events: AsyncIterator[ServerSentEvent]) -> None:
        self._events = events

    async def next(self) -> ServerSentEvent:
        async with asyncio.timeout(10):
            return await anext(self._events)

    async def take(self, many: int) -> list[int]:
        """The ids of the next `many` events."""
        return [int((await self.next()).id) for _ in range(many)]


@contextlib.asynccontextmanager
async def following(
    http: httpx.AsyncClient, after: int | None = None, *, last_event_id: int | None = None
) -> AsyncGenerator[Reader]:
    path = "changes" if after is None else f"changes?after={after}"
    headers = {} if last_event_id is None else {"last-event-id": str(last_event_id)}
    async with aconnect_sse(http, "GET", path, headers=headers) as source:
        yield Reader(source.aiter_sse())


async def write(house_work: HouseWork, project: HouseProject, many: int) -> None:
    for number in range(many):
        await house_work.keep(project.slug, [memory(f"fact {number}")])


async def head(http: httpx.AsyncClient, at_least: int) -> None:
    """Wait until the feed has reached a position."""
    async with asyncio.timeout(10):
        async with following(http, 0) as reader:
            while int((await reader.next()).id) < at_least:
                pass


async def test_a_live_reader_is_greeted_and_hears_every_change_in_order(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    async with following(http) as reader:
        hello = await reader.next()
        assert (hello.event, hello.id, hello.json()) == ("hello", "0", {"position": 0})

        await write(house_work, project, 5)

        events = [await reader.next() for _ in range(5)]
    assert [event.id for event in events] == ["1", "2", "3", "4", "5"]
    assert {event.event for event in events} == {"memory.v1.created"}
    for event in events:
        change = EVENTS[event.event].model_validate_json(event.data)
        assert change.model_dump()["position"] == int(event.id)
        assert change.model_dump()["project"] == project.slug


async def test_a_reader_resumes_where_it_left_off(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    await write(house_work, project, 6)
    await head(http, 6)

    async with following(http, last_event_id=2) as reader:
        assert await reader.take(4) == [3, 4, 5, 6]
        await write(house_work, project, 2)
        assert await reader.take(2) == [7, 8]
    async with following(http, 7) as reader:
        assert await reader.take(1) == [8]


async def test_replayed_and_live_events_are_the_same_bytes(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    async with following(http) as reader:
        await reader.next()
        kept = memory('quotes " and ünï', tags=["a", 'b"c'])
        await house_work.keep(project.slug, [kept])
        await house_work.embed(project.slug, [kept.id])
        live = [await reader.next() for _ in range(2)]
    async with following(http, 0) as reader:
        replayed = [await reader.next() for _ in range(2)]

    assert [(e.id, e.event, e.data) for e in live] == [(e.id, e.event, e.data) for e in replayed]
    assert [e.event for e in live] == ["memory.v1.created", "memory.v1.embedded"]


async def test_a_position_not_kept_any_more_is_reset(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, admin_dsn: str
) -> None:
    await write(house_work, project, 5)
    await head(http, 5)
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute("delete from memcube.feed where project_id = $1 and position <= 3", project.slug)
    finally:
        await connection.close()

    async with following(http, 1) as reader:
        reset = await reader.next()
        assert (reset.event, reset.json()) == ("reset", {"first": 4, "position": 5})
        assert await reader.take(2) == [4, 5]
    async with following(http, 3) as reader:
        assert await reader.take(2) == [4, 5]
    async with following(http, 99) as reader:
        assert (await reader.next()).event == "reset"


async def test_a_message_lost_on_the_way_is_read_from_the_feed(
    http: httpx.AsyncClient,
    house_work: HouseWork,
    project: HouseProject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = {2, 3, 5, 6}
    read = domain.RecentChanges.offer

    def forgetful(recent: domain.RecentChanges, change: domain.Framed) -> str:
        if change.position in lost:
            lost.discard(change.position)  # the bus lost it; when it comes again it is out of the feed
            return "known"
        return read(recent, change)

    monkeypatch.setattr(domain.RecentChanges, "offer", forgetful)
    async with following(http) as reader:
        await reader.next()
        await write(house_work, project, 7)
        assert await reader.take(7) == [1, 2, 3, 4, 5, 6, 7]


async def test_changes_are_heard_while_nats_is_away(
    house_work: HouseWork, database: HouseDatabase, project: HouseProject
) -> None:
    nowhere = HouseDatabase(database.admin_dsn, "nats://127.0.0.1:9", database.logins)
    async with (
        running_gateway(nowhere) as gateway,
        httpx.AsyncClient(
            base_url=f"{gateway.url}/v1/projects/{project.slug}/", headers=project.authorization, timeout=15
        ) as http,
    ):
        ready = (await http.get(f"{gateway.url}/readyz")).json()
        assert (ready["status"], ready["checks"]["postgres"]) == ("ready", "ok")
        assert ready["checks"]["nats"] != "ok"
        assert (await http.post("insights", json={"insight": "still accepted"})).status_code == 202
        async with following(http) as reader:
            await reader.next()
            await write(house_work, project, 3)
            assert await reader.take(3) == [1, 2, 3]
            await write(house_work, project, 2)
            assert await reader.take(2) == [4, 5]
        found = (await http.post("memories/query", json={"text": "fact"})).json()
        assert (found["mode"], len(found["memories"])) == ("keyword", 5)
        semantic = await http.post("memories/query", json={"text": "fact", "mode": "semantic"})
        assert (semantic.status_code, "retry-after" in semantic.headers) == (503, True)


async def test_another_project_s_changes_are_not_heard(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, database: HouseDatabase
) -> None:
    other = await database.project()
    async with following(http) as reader:
        await reader.next()
        await write(house_work, other, 3)
        await write(house_work, project, 1)
        event = await reader.next()
        assert (event.id, event.json()["project"]) == ("1", project.slug)


async def test_thirty_readers_over_four_gateways_miss_nothing(
    house_work: HouseWork, database: HouseDatabase, project: HouseProject
) -> None:
    """Each reader loses its gateway four times and resumes by its last event id: the union is exact."""
    total, readers, gateways = 60, 30, 4
    heard: list[list[int]] = [[] for _ in range(readers)]

    async def read_until_cut(url: str, mine: list[int]) -> None:
        async with httpx.AsyncClient(
            base_url=f"{url}/v1/projects/{project.slug}/", headers=project.authorization, timeout=15
        ) as http:
            with contextlib.suppress(httpx.TransportError, StopAsyncIteration):
                async with following(http, mine[-1] if mine else 0) as reader:
                    while True:
                        mine.append(int((await reader.next()).id))

    for _ in range(gateways):
        async with running_gateway(database) as gateway:
            reading = [asyncio.create_task(read_until_cut(gateway.url, mine)) for mine in heard]
            await write(house_work, project, total // gateways)
        await asyncio.gather(*reading)
    async with running_gateway(database) as gateway:
        reading = [asyncio.create_task(read_until_cut(gateway.url, mine)) for mine in heard]
        assert await until(lambda: all(mine and mine[-1] >= total for mine in heard), within=20)
    await asyncio.gather(*reading)

    assert heard == [list(range(1, total + 1))] * readers


async def test_a_silent_stream_says_that_it_is_alive(database: HouseDatabase, project: HouseProject) -> None:
    async with (
        running_gateway(database, heartbeat=0.1) as gateway,
        httpx.AsyncClient(headers=project.authorization, timeout=15) as http,
        http.stream("GET", f"{gateway.url}/v1/projects/{project.slug}/changes") as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        async with asyncio.timeout(5):
            while await anext(lines) != ": alive":
                pass


@pytest.mark.parametrize("limit", ["subscribers_max", "subscribers_per_project", "subscribers_per_key"])
async def test_more_readers_than_allowed_are_sent_away_for_a_while(
    database: HouseDatabase, project: HouseProject, limit: str
) -> None:
    async with (
        running_gateway(database, **{limit: 1}) as gateway,
        httpx.AsyncClient(
            base_url=f"{gateway.url}/v1/projects/{project.slug}/", headers=project.authorization, timeout=15
        ) as http,
    ):
        async with following(http) as reader:
            await reader.next()
            refused = await http.get("changes")
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
        assert await until(lambda: gateway.room.changes.followers == 0, within=5)
        async with following(http) as reader:
            await reader.next()


async def test_a_reader_that_takes_nothing_is_closed(
    house_work: HouseWork, database: HouseDatabase, project: HouseProject
) -> None:
    async with running_gateway(database, slow_after=0.3) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        writer.write(
            f"GET /v1/projects/{project.slug}/changes?after=0 HTTP/1.1\r\nhost: x\r\n"
            f"authorization: Bearer {project.key}\r\n\r\n".encode()
        )
        await writer.drain()
        assert await until(lambda: gateway.room.changes.followers == 1, within=5)
        async with asyncio.timeout(60):
            while gateway.room.changes.followers:
                label = "x" * 190
                await house_work.keep(
                    project.slug, [memory(label, tags=[f"{n:060}" for n in range(40)]) for _ in range(250)]
                )
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        del reader


async def test_a_position_that_is_no_number_is_refused(http: httpx.AsyncClient) -> None:
    for bad in ("x", "-1", "1.5", "9" * 30):
        answer = await http.get("changes", headers={"last-event-id": bad})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_the_stream_needs_a_key(http: httpx.AsyncClient) -> None:
    answer = await http.get("changes", headers={"authorization": "Bearer x"})
    assert answer.status_code == 401


async def test_every_kind_of_change_reads_as_its_event(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, admin_dsn: str
) -> None:
    async with following(http, 0) as reader:  # live: what is gone is not told again
        kept = memory("a fact that lives a whole life")
        await house_work.keep(project.slug, [kept])
        await house_work.embed(project.slug, [kept.id])
        connection = await asyncpg.connect(admin_dsn, server_settings={"search_path": "memcube, public"})
        try:
            for change in (
                "lifecycle = 'ACTIVE'",
                "tags = '{new}', version = version + 1",
                "lifecycle = 'ARCHIVED'",
                "lifecycle = 'ACTIVE'",
                "lifecycle = 'EXPIRED'",
            ):
                await connection.execute(
                    f"update memories set {change} where project_id = $1 and id = $2", project.slug, kept.id
                )
            events = [await reader.next() for _ in range(7)]
            await connection.execute("delete from memories where project_id = $1 and id = $2", project.slug, kept.id)
        finally:
            await connection.close()
        async with house_work.db.transaction(Principal.worker("test", project.slug)) as tx:
            sent = [SentInsight(kept.id, "agent-1", kept.id)]
            for verb in ("stored", "searchable", "failed", "parked"):
                await announce_receipts(tx, verb=verb, sent=sent, reason="because")
        events += [await reader.next() for _ in range(5)]

    assert [event.event.removeprefix("memory.v1.").removeprefix("receipt.v1.") for event in events] == [
        *("created", "embedded", "promoted", "updated", "archived", "restored", "expired", "purged"),
        *("stored", "searchable", "failed", "parked"),
    ]
    assert {event.event for event in events} == {
        name for name, event in EVENTS.items() if event.stream == "CHANGES" and name.startswith(("memory.", "receipt."))
    }
    for event in events:
        read = EVENTS[event.event].model_validate_json(event.data)
        given = event.json()
        assert (given["id"], given["type"]) == (f"{project.slug}/{event.id}", event.event)
        assert set(given) - {"type"} <= set(type(read).model_fields), "nothing is said that the contract does not know"
