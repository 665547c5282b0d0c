"""The SDK and the command against the whole running stack: nothing is faked here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import pytest

from memcube import Change, Invalid, MemCubeClient, NotFound, NotSignedIn
from memcube.bodies import new_id
from memcube.bus import AgentConnection
from memcube_common.provision import ensure_project


class Stack(Protocol):
    """What the session's stack offers."""

    gateway: str
    nats: str
    postgres: str
    project: str
    key: str
    home: Path


async def memcube(stack: Stack, *arguments: str) -> Process:
    """The command, speaking to the stack of the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEMCUBE_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "memcube_cli",
        *arguments,
        env={**kept, "MEMCUBE_HOME": str(stack.home)},
        stdout=PIPE,
        stderr=PIPE,
    )


async def ran(stack: Stack, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr of a command run to its end."""
    process = await memcube(stack, *arguments)
    out, said = await process.communicate()
    return process.returncode, out.decode(), said.decode()


@pytest.fixture
async def own(stack: Stack) -> tuple[str, str]:
    """A project of the test's own, and its key."""
    project = f"e2e-{new_id().hex[-12:]}"
    key = await ensure_project(admin_dsn=stack.postgres, project=project)
    assert key is not None
    return project, key


async def test_an_insight_sent_over_http_is_found_by_meaning(stack: Stack, own: tuple[str, str]) -> None:
    project, key = own
    async with MemCubeClient(stack.gateway, key, project) as client:
        sent = await client.insights.submit("Shoppers leave when the checkout is slow.", tags=["shop"])
        receipt = await client.receipts.wait(sent.id)
        await client.insights.submit("The office plants are watered on Thursdays.")
        found = await client.memories.query({"text": "why do customers give up before paying?", "limit": 1})
        assert receipt.memory_id is not None
        memory = await client.memories.get(receipt.memory_id)

    assert receipt.state == "searchable"
    assert found.degraded is None
    assert [one.id for one in found] == [receipt.memory_id]
    assert memory.content == "Shoppers leave when the checkout is slow."
    assert memory.tags == ["shop"]


async def test_an_insight_sent_over_nats_is_acknowledged_heard_of_and_found(stack: Stack, own: tuple[str, str]) -> None:
    project, key = own
    async with (
        MemCubeClient(stack.gateway, key, project) as client,
        AgentConnection(stack.nats, project=project, agent="builder") as agent,
        agent.receipts() as receipts,
    ):
        sent = await agent.publish_insight("Warm the cache before the first deploy.", tags=["deploy"])
        heard = [await anext(receipts), await anext(receipts)]
        again = await agent.publish_insight("Warm the cache before the first deploy.", id=sent.id, tags=["deploy"])
        receipt = await client.receipts.wait(sent.id)
        memories = await client.memories.query(tags=["deploy"])

    assert [news.type for news in heard] == ["receipt.v1.stored", "receipt.v1.searchable"]
    assert {news.receipt_id for news in heard} == {sent.id}
    assert again.duplicate
    assert [(one.id, one.created_by) for one in memories] == [(receipt.memory_id, "builder")]


async def test_the_same_insight_sent_often_is_one_memory(stack: Stack, own: tuple[str, str]) -> None:
    project, key = own
    identity = new_id()
    async with MemCubeClient(stack.gateway, key, project) as client:
        receipts = [await client.insights.submit("Once.", id=identity) for _ in range(3)]
        await client.receipts.wait(identity)
        memories = await client.memories.query(limit=10)

    assert {receipt.memory_id for receipt in receipts} == {memories[0].id}
    assert len(memories) == 1


async def test_refusals_come_as_typed_errors(stack: Stack, own: tuple[str, str]) -> None:
    project, key = own
    async with MemCubeClient(stack.gateway, key, project) as client:
        with pytest.raises(Invalid) as refused:
            await client.insights.submit("x", tags=["y" * 65])
        with pytest.raises(NotFound):
            await client.memories.get(new_id())
    async with MemCubeClient(stack.gateway, "mc_sec_wrong", project) as stranger:
        with pytest.raises(NotSignedIn):
            await stranger.memories.query(text="anything")

    assert [error.field for error in refused.value.errors] == ["tags.0"]


async def test_changes_resume_without_gap_or_repeat(stack: Stack, own: tuple[str, str]) -> None:
    project, key = own
    async with MemCubeClient(stack.gateway, key, project) as client:
        start = await client.position()
        first = await client.insights.submit("The first.")
        await client.receipts.wait(first.id)
        seen: list[int] = []
        async with aclosing(client.changes(after=start)) as changes:
            async for change in changes:
                assert isinstance(change, Change)
                seen.append(change.position)
                break
        second = await client.insights.submit("The second.")
        settled = await client.receipts.wait(second.id)
        async with aclosing(client.changes(after=seen[-1])) as changes:
            async for change in changes:
                assert isinstance(change, Change)
                seen.append(change.position)
                if change.memory_id == settled.memory_id and change.type == "memory.v1.embedded":
                    break

    assert seen == list(range(start + 1, start + len(seen) + 1))


async def test_an_import_killed_in_the_middle_is_finished_exactly_once(
    stack: Stack, own: tuple[str, str], tmp_path: Path
) -> None:
    project, key = own
    file = tmp_path / "memories.jsonl"
    file.write_text("".join(json.dumps({"id": f"m{n}", "content": f"Memory number {n}."}) + "\n" for n in range(300)))
    async with MemCubeClient(stack.gateway, key, project) as client:
        first = await memcube(stack, "insight", "import", str(file), "--project", project, "--batch", "5")
        async with aclosing(client.changes(after=0, event="memory.v1.created")) as changes:
            async for _ in changes:
                break
        first.send_signal(signal.SIGKILL)
        await first.communicate()
        code, out, said = await ran(stack, "insight", "import", str(file), "--project", project, "--wait")
        created: set[str] = set()
        async with aclosing(client.changes(after=0, event="memory.v1.created")) as changes:
            async for change in changes:
                assert isinstance(change, Change)
                created.add(str(change.memory_id))
                if change.position and len(created) == 300:
                    break
        newest = await client.memories.query(limit=200)

    assert code == 0, said
    assert "300 of 300 lines loaded" in out
    assert "all searchable" in out
    assert len(created) == 300
    assert len(newest) == 200


async def test_a_conversation_becomes_insights_that_are_listed_and_supported(
    stack: Stack, own: tuple[str, str], tmp_path: Path
) -> None:
    project, _ = own
    file = tmp_path / "talk.json"
    talk = [{"role": "user", "name": "Ada", "content": "I like figs."}, {"role": "assistant", "content": "Noted."}]
    file.write_text(json.dumps({"messages": talk}))
    code, out, said = await ran(stack, "insight", "extract", str(file), "--project", project, "--dry-run")
    assert (code, "as they are: no language model is set" in out) == (0, True), said
    code, out, said = await ran(stack, "insight", "extract", str(file), "--project", project, "--wait")
    assert (code, "searchable  2 insights" in out) == (0, True), out + said
    first = out.splitlines()[1].split()[0]
    code, out, said = await ran(stack, "insight", "support", first, "--project", project)
    assert (code, out.strip().endswith("support 2")) == (0, True), out + said
    code, out, said = await ran(stack, "insight", "list", "--project", project, "--min-support", "2", "--json")
    assert (code, [json.loads(line)["label"] for line in out.splitlines()]) == (0, ["Ada: I like figs."]), said


async def test_the_demo_arrives_twice(stack: Stack) -> None:
    for _ in range(2):
        code, out, said = await ran(stack, "demo")
        assert code == 0, out + said
        assert out.rstrip().endswith("Everything arrived, was found and was announced.")


async def test_what_is_parked_is_listed_and_taken_in_when_its_reason_is_gone(stack: Stack) -> None:
    project = f"e2e-{new_id().hex[-12:]}"
    async with (
        AgentConnection(stack.nats, project=project, agent="early") as agent,
        MemCubeClient(stack.gateway, stack.key, stack.project) as any_client,
    ):
        sent = await agent.publish_insight("I came before my project did.")
        listed = await _until_parked(stack, any_client, project)
        parked_id = listed.split("\t")[1]
        key = await ensure_project(admin_dsn=stack.postgres, project=project)
        assert key is not None
        code, out, said = await ran(stack, "parked", "replay", parked_id)
        assert code == 0, out + said
        async with MemCubeClient(stack.gateway, key, project) as client:
            receipt = await client.receipts.wait(sent.id)
    _, after, _ = await ran(stack, "parked", "list", "--project", project)

    assert "the project does not exist" in listed
    assert receipt.state == "searchable"
    assert after == ""


async def _until_parked(stack: Stack, client: MemCubeClient, project: str) -> str:
    """The line of the parked message of `project`; other messages' receipts are the clock to look again by."""
    for _ in range(20):
        _, out, _ = await ran(stack, "parked", "list", "--project", project)
        if out:
            return out.splitlines()[0]
        await client.receipts.wait((await client.insights.submit("A tick.")).id, until="stored")
    raise AssertionError("the message was not parked")


async def test_the_doctor_finds_the_stack_well(stack: Stack) -> None:
    code, out, said = await ran(stack, "doctor")
    assert code == 0, out + said
    assert "all is well" in out
