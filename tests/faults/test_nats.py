"""NATS is killed, frozen, and robbed of its store: the doors stay open, and everything is announced afterwards."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import nats.errors
import orjson
import pytest
from tests.e2e.audit import audit, settled
from tests.e2e.callers import Answer, Callers, refused_without_a_time, slowest, statuses
from tests.e2e.load import Ledger, Load, text_of
from tests.e2e.running_stack import RunningStack, eventually
from tests.faults.conftest import Say

from memcube import MemCubeClient
from memcube.bus import AgentConnection
from memcube_common.ids import new_id

RATE = 60
FROZEN = 30.0
ANSWER_WITHIN = 2.0
RECOVERED = 60.0


def assert_the_doors_stayed_open(answers: list[Answer]) -> None:
    """Every question was answered within two seconds, by an answer or by when to come again."""
    assert {answer.question for answer in answers} == {"submit", "query", "import", "receipt", "project", "changes"}
    assert [answer for answer in answers if answer.status == 0] == [], "a connection was lost"
    assert [answer for answer in answers if answer.seconds > ANSWER_WITHIN] == []
    assert refused_without_a_time(answers) == []


@pytest.mark.timeout(200)
async def test_a_killed_nats_comes_back_and_costs_nobody_anything(
    stack: RunningStack, ledger: Ledger, say: Say
) -> None:
    keys = {"nats-killed": await stack.key_of("nats-killed")}
    back: list[float] = []
    async with (
        Load(stack.gateway, stack.nats, keys, ledger, rate=RATE) as load,
        Callers(stack.gateway, "nats-killed", keys["nats-killed"], ledger) as callers,
    ):
        for _ in range(5):
            await eventually(lambda: _acked_more(ledger, "nats-killed", by=40), within=30, what="load flows")
            before = stack.send("nats", signal.SIGKILL)
            began = time.monotonic()
            await eventually(_is_another(stack, before), within=30, what="NATS runs again")
            await eventually(lambda: _publishes(stack, ledger, "nats-killed"), within=30, what="NATS takes insights")
            back.append(time.monotonic() - began)
        await load.stop()
    say("NATS takes insights again after SIGKILL: " + " ".join(f"{took:.2f}" for took in back) + " s")
    await _reckon(stack, ledger, callers, say, extra=1)


@pytest.mark.timeout(200)
async def test_a_frozen_nats_keeps_http_open_and_everything_is_announced_when_it_thaws(
    stack: RunningStack, ledger: Ledger, say: Say
) -> None:
    project = "nats-frozen"
    key = await stack.key_of(project)
    async with (
        Load(stack.gateway, stack.nats, {project: key}, ledger, rate=RATE) as load,
        Callers(stack.gateway, project, key, ledger) as callers,
    ):
        await eventually(lambda: _acked_more(ledger, project, by=40), within=30, what="load flows")
        stack.send("nats", signal.SIGSTOP)
        froze = time.monotonic()
        try:
            await asyncio.sleep(FROZEN)  # the fault itself
        finally:
            stack.send("nats", signal.SIGCONT)
        thawed = time.monotonic()
        during = callers.since(froze, thawed - ANSWER_WITHIN)
        say(f"while frozen: {statuses(during)}")
        assert {answer.status for answer in during if answer.question == "submit"} == {202}
        questions = [answer for answer in during if answer.question == "query"]
        assert {answer.status for answer in questions} == {200}
        assert all(answer.degraded for answer in questions), "a query without a vector says so"
        await load.stop()
        say(f"publishers were done {time.monotonic() - thawed:.1f} s after the thaw")
    await _reckon(stack, ledger, callers, say, extra=1)


@pytest.mark.timeout(150)
async def test_a_nats_that_loses_its_store_gets_its_streams_and_consumers_back(
    stack: RunningStack, ledger: Ledger, say: Say
) -> None:
    project = "nats-robbed"
    key = await stack.key_of(project)
    before = stack.send("nats", signal.SIGSTOP)
    shutil.rmtree(stack.home / "nats" / "jetstream")
    stack.send("nats", signal.SIGKILL)
    robbed = time.monotonic()
    await eventually(_is_another(stack, before), within=30, what="NATS runs again")
    await eventually(lambda: _streams(stack), within=10, what="streams made again", patient=True)
    say(f"streams were there again {time.monotonic() - robbed:.1f} s after the store was lost")
    async with AgentConnection(stack.nats, project=project, agent="loader") as agent:
        ids = [new_id() for _ in range(50)]
        ledger.send(project, ids)
        sent = await agent.publish_many([{"id": str(id), "insight": text_of(id)} for id in ids])
        ledger.ack(project, [one.id for one in sent], "nats")
    async with MemCubeClient(stack.gateway, key, project) as client:
        for id in ids:
            receipt = await client.receipts.wait(id, timeout=20)
            assert receipt.state == "searchable"
    say(f"insights over NATS were searchable {time.monotonic() - robbed:.1f} s after the store was lost")
    await settled(stack, [project], within=RECOVERED)
    found = await audit(stack, ledger)
    say(str(found))
    assert found.mistakes == {}


@pytest.mark.timeout(200)
async def test_changes_that_were_not_published_when_the_store_was_lost_are_published_after_the_next_start(
    stack: RunningStack, ledger: Ledger, say: Say
) -> None:
    project = "nats-lost"
    key = await stack.key_of(project)
    stack.send("nats", signal.SIGSTOP)
    async with MemCubeClient(stack.gateway, key, project) as client:
        ids = [new_id() for _ in range(50)]
        ledger.send(project, ids)
        receipts = await client.insights.submit_many([{"id": str(id), "insight": text_of(id)} for id in ids])
        ledger.ack(project, [receipt.id for receipt in receipts], "http")
        for id in ids:
            receipt = await client.receipts.wait(id, timeout=20)
            assert receipt.state == "searchable", "NATS is only the doorbell of this path"
    await stack.down()
    shutil.rmtree(stack.home / "nats" / "jetstream")
    await stack.up()
    up = time.monotonic()
    await settled(stack, [project], within=RECOVERED)
    await eventually(lambda: _all_announced(stack, ledger), within=RECOVERED, what="every change on the stream")
    say(f"every unpublished change was on the stream {time.monotonic() - up:.1f} s after the start")
    found = await audit(stack, ledger)
    say(str(found))
    assert found.mistakes == {}


async def _reckon(stack: RunningStack, ledger: Ledger, callers: Callers, say: Say, *, extra: int) -> None:
    """Wait until all is done, compare, and look at how the callers fared; `extra` memories came by import."""
    say(f"answers: {statuses(callers.answers)}")
    say(f"slowest answers in s: {slowest(callers.answers)}")
    ended = time.monotonic()
    await settled(stack, ledger.sent, within=RECOVERED)
    await eventually(lambda: _all_announced(stack, ledger), within=RECOVERED, what="every change on the stream")
    say(f"all searchable and announced {time.monotonic() - ended:.1f} s after the last acknowledgement")
    found = await audit(stack, ledger, imported=extra)
    say(str(found))
    assert found.mistakes == {}
    assert_the_doors_stayed_open(callers.answers)


async def _all_announced(stack: RunningStack, ledger: Ledger) -> bool:
    return (await audit(stack, ledger)).unannounced == 0


async def _acked_more(ledger: Ledger, project: str, *, by: int) -> bool:
    return len(ledger.acked.get(project, ())) >= by


def _is_another(stack: RunningStack, before: Any) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return stack.is_another("nats", before)

    return look


async def _publishes(stack: RunningStack, ledger: Ledger, project: str) -> bool:
    """Whether somebody who connects now can publish an insight."""
    id = new_id()
    ledger.send(project, [id])
    try:
        client = await nats.connect(stack.nats, connect_timeout=1, allow_reconnect=False)
    except (OSError, nats.errors.Error, TimeoutError):
        return False
    try:
        subject = f"memcube.{project}.insight.v1.submitted.loader"
        body = orjson.dumps({"id": str(id), "insight": text_of(id)})
        await client.jetstream(timeout=1).publish(subject, body, stream="INSIGHTS")
    except (nats.errors.Error, TimeoutError):
        return False
    finally:
        await client.close()
    ledger.ack(project, [id], "nats")
    return True


async def _streams(stack: RunningStack) -> bool:
    try:
        client = await nats.connect(stack.nats, connect_timeout=1, allow_reconnect=False)
    except (nats.errors.Error, TimeoutError):
        return False
    try:
        names = {stream.config.name for stream in await client.jetstream(timeout=1).streams_info()}
    except (nats.errors.Error, TimeoutError):
        return False
    finally:
        await client.close()
    return names >= {"INSIGHTS", "CHANGES", "ADVISORIES"}
