"""Long texts are screened in a thread of their own: by turns, bounded in time and cost, and no longer than wanted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from tests.eventually import eventually

from memcube_common.contracts.api import InsightSubmission
from memcube_common.contracts.learning import Conversation
from memcube_common.errors import TooLarge, TryAgain
from memcube_common.screening import (
    ScreeningThreads,
    screen_change,
    screen_change_soon,
    screen_content_soon,
    screen_writing,
    screen_writing_soon,
)
from memcube_common.screening.threads import TURN

LONG = "plain words " * 800


def a_turn(said: list[str], name: str) -> Callable[[], None]:
    """A piece that says that it was begun, and takes as long as one turn."""

    def piece() -> None:
        said.append(name)
        threading.Event().wait(TURN)

    return piece


async def test_what_is_long_has_the_same_outcome_in_a_thread_of_its_own(threads: ScreeningThreads) -> None:
    body = InsightSubmission(insight=f"{LONG}bob@example.com")
    talk = Conversation.model_validate(
        {
            "messages": [
                {"role": "user", "name": "bob@example.com", "content": LONG},
                {"role": "user", "content": "+44 20 8366 1177"},
            ],
            "tags": ["52.95.110.1"],
        }
    )
    [ident] = await threads.each([lambda: (threading.get_ident(), threading.current_thread().name)], within=5)

    assert ident[0] != threading.get_ident()
    assert ident[1].startswith("screening")
    assert await screen_writing_soon([body, body], "redact", threads, within=5) == [screen_writing(body, "redact")] * 2
    for how in ("tag", "redact"):
        [screened] = await screen_writing_soon([talk], how, threads, within=5)
        assert screened == screen_writing(talk, how)
        assert screened.governance is not None
        assert screened.governance.pii_kinds == ["email", "ip_address", "phone"]
    assert await screen_change_soon(body, "redact", threads, within=5) == screen_change(body, "redact")
    assert await screen_content_soon(f"{LONG}a@b.co", "redact", threads, within=5) == (
        f"{LONG}[redacted:email]",
        {"email"},
    )


async def test_what_is_short_or_not_screened_needs_no_thread(threads: ScreeningThreads) -> None:
    threads.close()
    short, long = InsightSubmission(insight="bob@example.com"), InsightSubmission(insight=LONG)

    assert (await screen_writing_soon([short], "redact", threads, within=5))[0].insight == "[redacted:email]"
    assert await screen_writing_soon([long], "off", threads, within=5) == [long]
    assert await screen_change_soon(long, "off", threads, within=5) == (long, set())
    with pytest.raises(RuntimeError):
        await screen_writing_soon([long], "redact", threads, within=5)


async def test_who_has_little_waits_for_one_turn_of_who_has_much(threads: ScreeningThreads) -> None:
    said: list[str] = []
    much = asyncio.create_task(threads.each([a_turn(said, "much")] * 10, within=10))
    await eventually(lambda: bool(said))
    before = len(said)
    await threads.each([a_turn(said, "little")], within=10)
    await much

    assert said.count("much") == 10
    assert said.index("little") <= before + 1


async def test_once_nobody_waits_for_it_no_further_piece_is_begun(threads: ScreeningThreads) -> None:
    said: list[str] = []
    left = asyncio.create_task(threads.each([a_turn(said, "left")] * 20, within=10))
    await eventually(lambda: bool(said))
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    begun = len(said)
    await threads.each([a_turn(said, "other")] * 3, within=10)

    assert begun < 19
    assert said.count("left") <= begun + 1


async def test_who_waits_too_long_is_told_to_come_again(threads: ScreeningThreads) -> None:
    said: list[str] = []
    with pytest.raises(TryAgain):
        await threads.each([a_turn(said, "late")] * 50, within=5 * TURN)
    begun = len(said)
    await threads.each([a_turn(said, "other")] * 3, within=10)

    assert begun < 50
    assert said.count("late") <= begun + 1


async def test_what_costs_more_than_a_request_may_is_refused(threads: ScreeningThreads) -> None:
    def burn() -> None:
        until = time.thread_time() + TURN
        while time.thread_time() < until:
            pass

    assert len(await threads.each([burn] * 2, within=10, cost_most=2 * TURN)) == 2
    with pytest.raises(TooLarge):
        await threads.each([burn] * 10, within=10, cost_most=2 * TURN)
