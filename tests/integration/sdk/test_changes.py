"""The change feed resumes where it broke off, says when it cannot, and gives each change once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from tests.fakes.scripted_http import Answered, events, problem, scripted

from memcube import Change, MemCubeClient, NotSignedIn, Reset

HELLO = 'id: 41\nevent: hello\ndata: {"position": 41}'


def event(position: int, type: str = "memory.v1.created") -> str:
    return f'event: {type}\nid: {position}\ndata: {{"id": "demo/{position}", "position": {position}, "label": "l"}}'


async def first(changes: AsyncGenerator[Change | Reset], count: int) -> list[Change | Reset]:
    got: list[Change | Reset] = []
    async with aclosing(changes):
        async for change in changes:
            got.append(change)
            if len(got) == count:
                break
    return got


async def test_a_broken_stream_resumes_behind_the_last_change() -> None:
    async with (
        scripted(
            events("retry: 1", event(1), event(2)),
            Answered(hang_up=True),
            problem(503, "unavailable", after=0),
            events(event(2), event(3), hold=True),
        ) as server,
        MemCubeClient(server.url, "k") as client,
    ):
        got = await first(client.changes(after=0), 3)

    assert [change.position for change in got] == [1, 2, 3]
    assert [asked.headers.get("last-event-id") for asked in server.asked] == ["0", "2", "2", "2"]


async def test_the_position_sent_at_the_beginning_closes_the_gap_before_the_first_change() -> None:
    async with (
        scripted(events("retry: 1", HELLO), events(event(42), hold=True)) as server,
        MemCubeClient(server.url, "k") as client,
    ):
        got = await first(client.changes(), 1)

    assert got[0].position == 42
    assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "41"]


async def test_a_half_sent_change_is_not_given_but_asked_for_again() -> None:
    async with (
        scripted(
            Answered(200, f"retry: 1\n\n{event(1)}\n\n{event(2)[:-5]}", {"Content-Type": "text/event-stream"}),
            events(event(2), hold=True),
        ) as server,
        MemCubeClient(server.url, "k") as client,
    ):
        got = await first(client.changes(after=0), 2)

    assert [change.position for change in got] == [1, 2]
    assert server.asked[1].headers["last-event-id"] == "1"


async def test_a_reset_is_given_whatever_the_filter_and_the_stream_goes_on() -> None:
    reset = 'event: reset\nid: 900\ndata: {"first": 901, "position": 950}'
    async with (
        scripted(
            events(reset, event(901), event(902, "memory.v1.embedded"), event(903), hold=True),
        ) as server,
        MemCubeClient(server.url, "k") as client,
    ):
        got = await first(client.changes(after=3, event="memory.v1.embedded"), 2)

    assert isinstance(got[0], Reset)
    assert got[0].position == 900
    assert isinstance(got[1], Change)
    assert (got[1].position, got[1].type) == (902, "memory.v1.embedded")


async def test_what_waiting_cannot_mend_is_raised() -> None:
    async with scripted(problem(401, "not_signed_in")) as server, MemCubeClient(server.url, "k") as client:
        with pytest.raises(NotSignedIn):
            await first(client.changes(), 1)

    assert len(server.asked) == 1


async def test_signs_of_life_and_words_of_a_newer_server_are_passed_over() -> None:
    async with (
        scripted(
            events(
                event(1),
                ": still here",
                'event: news\ndata: {"x": 1}',
                "event: note\ndata: no json",
                event(2),
                hold=True,
            )
        ) as server,
        MemCubeClient(server.url, "k") as client,
    ):
        got = await first(client.changes(after=0), 2)

    assert [change.position for change in got] == [1, 2]


async def test_the_newest_position_is_the_one_the_feed_greets_with() -> None:
    async with (
        scripted(Answered(hang_up=True), events("retry: 1", HELLO, hold=True)) as server,
        MemCubeClient(server.url, "k") as client,
    ):
        assert await client.position() == 41
