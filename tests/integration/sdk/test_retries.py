"""Calls are tried again while that may help, have their effect once, and end in time."""

from __future__ import annotations

from uuid import UUID

import pytest
from tests.fakes.scripted_http import Answered, Asked, problem, scripted

from memcube import (
    Invalid,
    MemCubeClient,
    MemCubeError,
    NotFound,
    NotSignedIn,
    NotYet,
    Patience,
    TooManyRequests,
    Unavailable,
    Unreachable,
)

QUICK = Patience(total=2.0, first_pause=0.001, longest_pause=0.005)
ONCE = Patience(total=0.0, first_pause=0.001, longest_pause=0.001)
MEMORY_ID = "01890a5d-ac96-774b-bcce-b302099a8058"


def receipt(asked: Asked, state: str = "stored") -> Answered:
    identity = asked.json["id"] if asked.body else asked.path.rpartition("/")[2]
    return Answered(202, {"id": identity, "project": "demo", "state": state, "memory_id": MEMORY_ID, "new_field": 7})


async def test_a_retried_insight_carries_the_same_id_and_the_same_idempotency_key() -> None:
    async with (
        scripted(
            Answered(hang_up=True), problem(503, "unavailable", after=0), Answered(502, "bad gateway"), always=receipt
        ) as server,
        MemCubeClient(server.url, "mc_key", patience=QUICK) as client,
    ):
        got = await client.insights.submit("Warm the cache.", tags=["deploy"])

    assert len(server.asked) == 4
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1
    assert {asked.json["id"] for asked in server.asked} == {str(got.id)}
    assert got.id.version == 7
    assert server.asked[0].path == "/v1/projects/demo/insights"
    assert server.asked[0].headers["authorization"] == "Bearer mc_key"


async def test_two_calls_have_two_idempotency_keys() -> None:
    async with scripted(always=receipt) as server, MemCubeClient(server.url, "k", patience=QUICK) as client:
        await client.insights.submit("One.")
        await client.insights.submit("One.")

    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 2
    assert len({asked.json["id"] for asked in server.asked}) == 2


async def test_a_server_that_returns_is_found_again() -> None:
    async with scripted(always=receipt) as server, MemCubeClient(server.url, "k", patience=QUICK) as client:
        await client.insights.submit("Before.")
        await server.stop()
        with pytest.raises(Unreachable) as gone:
            async with MemCubeClient(server.url, "k", patience=ONCE) as hasty:
                await hasty.insights.submit("Meanwhile.")
        await server.start()
        await client.insights.submit("After.")

    assert gone.value.code == "unreachable"
    assert gone.value.status == 0


async def test_patience_ends_with_what_the_server_said() -> None:
    async with (
        scripted(problem(503, "unavailable", after=0)) as server,
        MemCubeClient(server.url, "k", patience=Patience(total=0.05, first_pause=0.01, longest_pause=0.02)) as client,
    ):
        with pytest.raises(Unavailable) as away:
            await client.memories.query(text="anything")

    assert (away.value.status, away.value.code, away.value.after) == (503, "unavailable", 0.0)
    assert len(server.asked) >= 2


async def test_a_retry_after_beyond_patience_is_told_at_once() -> None:
    async with (
        scripted(problem(429, "too_many_requests", after=3600)) as server,
        MemCubeClient(server.url, "k") as client,
    ):
        with pytest.raises(TooManyRequests) as busy:
            await client.memories.query(text="anything")

    assert busy.value.after == 3600
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "not_signed_in", NotSignedIn),
        (404, "not_found", NotFound),
        (422, "invalid", Invalid),
        (500, "internal", MemCubeError),
    ],
)
async def test_what_cannot_succeed_is_not_tried_again(status: int, code: str, kind: type[MemCubeError]) -> None:
    fields = [{"field": "tags.0", "message": "must not be blank"}]
    async with (
        scripted(problem(status, code, errors=fields)) as server,
        MemCubeClient(server.url, "k", patience=QUICK) as client,
    ):
        with pytest.raises(kind) as refused:
            await client.insights.submit("Some text.", tags=[" "])

    assert len(server.asked) == 1
    assert type(refused.value) is kind
    assert (refused.value.status, refused.value.code) == (status, code)
    assert refused.value.errors[0].field == "tags.0"


async def test_what_is_not_json_is_refused_before_it_is_sent() -> None:
    async with scripted(always=receipt) as server, MemCubeClient(server.url, "k") as client:
        for insight in ({"insight": "x", "sentiment": float("nan")}, {"insight": "\ud800"}, {"insight": object()}):
            with pytest.raises(Invalid):
                await client.insights.submit(insight)

    assert server.asked == []


async def test_an_answer_in_other_words_is_said_to_be_one() -> None:
    async with scripted(Answered(200, "<html>")) as server, MemCubeClient(server.url, "k") as client:
        with pytest.raises(MemCubeError) as other:
            await client.memories.get(MEMORY_ID)

    assert other.value.code == "unexpected_answer"


async def test_waiting_polls_until_the_receipt_is_there() -> None:
    states = iter(["accepted", "stored", "searchable"])

    def script(asked: Asked) -> Answered:
        return problem(404, "not_found") if len(server.asked) == 1 else receipt(asked, next(states))

    async with scripted(always=script) as server, MemCubeClient(server.url, "k", patience=QUICK) as client:
        got = await client.receipts.wait(MEMORY_ID, timeout=20)

    assert got.state == "searchable"
    assert len(server.asked) == 4
    assert server.asked[0].params["wait"] == ["searchable"]
    assert 0 < float(server.asked[0].params["timeout"][0]) <= 20


async def test_waiting_ends_in_time_with_the_receipt_as_it_stands() -> None:
    async with (
        scripted(always=lambda asked: receipt(asked, "stored")) as server,
        MemCubeClient(server.url, "k", patience=QUICK) as client,
    ):
        with pytest.raises(NotYet) as not_yet:
            await client.receipts.wait(MEMORY_ID, timeout=0)
        stored = await client.receipts.wait(MEMORY_ID, until="stored", timeout=0)

    assert not_yet.value.receipt.id == UUID(MEMORY_ID)
    assert stored.state == "stored"


@pytest.mark.parametrize("state", ["failed", "parked"])
async def test_waiting_ends_where_nothing_more_will_happen(state: str) -> None:
    async with (
        scripted(always=lambda asked: receipt(asked, state)) as server,
        MemCubeClient(server.url, "k", patience=QUICK) as client,
    ):
        assert (await client.receipts.wait(MEMORY_ID, timeout=60)).state == state

    assert len(server.asked) == 1


async def test_an_unknown_receipt_is_not_found_when_the_time_is_over() -> None:
    async with (
        scripted(problem(404, "not_found")) as server,
        MemCubeClient(server.url, "k", patience=QUICK) as client,
    ):
        with pytest.raises(NotFound):
            await client.receipts.wait(MEMORY_ID, timeout=0.1)


async def test_a_query_is_a_list_that_says_how_it_was_made() -> None:
    found = {
        "id": MEMORY_ID, "project_id": "demo", "label": "l", "type": "PLAINTEXT", "version": 1, "content": "c",
        "origin": "insight:x", "priority": "WARM", "lifecycle": "NEW", "trust": "trusted", "created_by": "a",
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "score": 0.5, "unheard_of": [1],
    }  # fmt: skip
    answer = {"memories": [found], "mode": "keyword", "degraded": "no vectors now", "took_ms": 1.5}
    async with scripted(Answered(200, answer)) as server, MemCubeClient(server.url, "k") as client:
        memories = await client.memories.query({"tags": ["python", "typing"], "limit": 10})

    assert server.asked[0].json == {"tags": ["python", "typing"], "limit": 10}
    assert [memory.score for memory in memories] == [0.5]
    assert (len(memories), memories.mode, memories.degraded) == (1, "keyword", "no vectors now")


async def test_all_pages_of_a_query_are_walked() -> None:
    pages = [
        Answered(
            200, {"memories": [{"id": MEMORY_ID, "label": "a"}], "mode": "recent", "next_cursor": "on", "total": 2}
        ),
        Answered(200, {"memories": [], "mode": "recent", "next_cursor": "further"}),
        Answered(200, {"memories": [{"id": MEMORY_ID, "label": "b"}], "mode": "recent", "next_cursor": None}),
    ]
    async with scripted(*pages) as server, MemCubeClient(server.url, "k") as client:
        walked = client.memories.query_all({"order_by": "label"}, fields=["label"], limit=1)
        labels = [(memory.label, memory.content) async for memory in walked]

    assert labels == [("a", None), ("b", None)]
    asked = {"order_by": "label", "fields": ["label"], "limit": 1}
    assert [one.json for one in server.asked] == [asked, asked | {"cursor": "on"}, asked | {"cursor": "further"}]
