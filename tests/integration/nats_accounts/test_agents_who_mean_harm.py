"""An agent that tries everything to reach another project, another agent or the house itself: nothing gets through."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

import orjson
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg
from tests.eventually import eventually
from tests.integration.nats_accounts.conftest import House, Member

from memcube_common.contracts.asks import Refused
from memcube_common.ids import is_agent_name, new_id
from memcube_gateway.agents.domain import inbox_prefix

NOTHING_COMES = 0.4


@dataclass(frozen=True, slots=True)
class Scene:
    """An attacker, a colleague in the attacker's project, and a victim in another."""

    house: House
    attacker: Member
    colleague: Member
    victim: Member

    def durable(self, member: Member, *, restricted: bool = False) -> str:
        """The consumer of a member's changes, by its secret name."""
        return self.house.roads.durable(member.project, member.name, restricted=restricted)


@pytest_asyncio.fixture(scope="module")
async def scene(house: House) -> Scene:
    attacker, victim = await house.member("mallory"), await house.member("bob")
    colleague = await house.member("carol", "AGENT", attacker.project)
    for member in (attacker, colleague, victim):  # their consumers are there, so that it is not for want of them
        async with member.connection() as agent, agent.changes():
            await agent.publish_insight(f"Known to {member.name}.")
    wanted = {f"memcube.{member.project}.receipt.v1.stored.{member.name}" for member in (attacker, colleague, victim)}
    wanted |= {f"memcube.{member.project}.memory.v1.created" for member in (attacker, victim)}
    async with house.operator() as operator:

        async def is_told() -> bool:
            info = await operator.jetstream().stream_info("CHANGES", subjects_filter=">")
            return wanted <= set(info.state.subjects or {})

        await eventually(is_told, within=15)
    return Scene(house, attacker, colleague, victim)


def foreign_publishes(scene: Scene) -> Iterator[str]:
    """Everything that is not the attacker's to publish."""
    own, victim = scene.attacker.project, scene.victim.project
    for project, agent in ((victim, "bob"), (victim, "mallory"), (own, "carol"), (own, "*"), (own, ">")):
        yield f"memcube.{project}.insight.v1.submitted.{agent}"
        yield f"memcube.{project}.ask.v1.query.{agent}"
        yield f"memcube.{project}.ask.v1.follow.{agent}"
        yield f"memcube.{project}.ask.v1.schedule.{agent}"
    yield f"memcube.{own}.insight.v1.submitted.mallory.more"
    yield f"memcube.{own}.insight.v2.submitted.mallory"
    yield f"memcube.{own}.ask.v1.forget.mallory"
    for project in (own, victim):
        for fact in ("memory.v1.created", "memory.v1.restricted.created", "receipt.v1.stored.bob", "quota.v1.exceeded"):
            yield f"memcube.{project}.{fact}"
    durables = [
        scene.durable(scene.victim), scene.durable(scene.colleague), scene.durable(scene.attacker, restricted=True),
        "ingestion-insight-submitted", "*", ">",
    ]  # fmt: skip
    for api, durable in itertools.product(("MC.API", "$JS.API"), durables):
        for stream in ("CHANGES", "INSIGHTS"):
            yield f"{api}.CONSUMER.MSG.NEXT.{stream}.{durable}"
            yield f"{api}.CONSUMER.INFO.{stream}.{durable}"
            yield f"{api}.CONSUMER.CREATE.{stream}.{durable}"
            yield f"{api}.CONSUMER.DELETE.{stream}.{durable}"
            yield f"{api}.CONSUMER.PAUSE.{stream}.{durable}"
    for durable in durables[:3]:
        yield f"$JS.ACK.CHANGES.{durable}.1.1.1.1.1"
    for api, verb in itertools.product(
        ("MC.API", "$JS.API"),
        ("INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.CHANGES", "STREAM.MSG.GET.CHANGES", "DIRECT.GET.CHANGES",
         f"DIRECT.GET.CHANGES.memcube.{victim}.memory.v1.created", "STREAM.MSG.GET.INSIGHTS", "DIRECT.GET.INSIGHTS",
         "STREAM.PURGE.CHANGES", "STREAM.DELETE.CHANGES", "STREAM.CREATE.MINE", "STREAM.UPDATE.CHANGES",
         "STREAM.SNAPSHOT.CHANGES", "STREAM.MSG.DELETE.CHANGES", "CONSUMER.NAMES.CHANGES", "CONSUMER.LIST.CHANGES",
         "CONSUMER.CREATE.CHANGES", "CONSUMER.DURABLE.CREATE.CHANGES.mine", "CONSUMER.CREATE.CHANGES.mine",
         f"CONSUMER.CREATE.CHANGES.mine.memcube.{victim}.>", "META.LEADER.STEPDOWN", "SERVER.REMOVE"),
    ):  # fmt: skip
        yield f"{api}.{verb}"
    yield from (
        "rooms.embedding.v1.embed_texts", "rooms.bell.insights", "rooms.bell.changes",
        f"rooms.gateway.v1.keep_insight.{victim}.bob", f"rooms.gateway.v1.keep_insight.{own}.mallory",
        "$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING.VARZ",
        "$SYS.REQ.ACCOUNT.AGENTS.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.USER.INFO", "$SYS.REQ.SERVER.X.KICK",
        "$KV.x.y", "$O.x.y", "$JS.FC.CHANGES.x", "_R_.abc", "_INBOX.abc", f"{inbox_prefix(scene.victim.key)}.abc",
        "_INBOX_gateway.abc", "memcube.>", ">", "*", "anything",
    )  # fmt: skip


def foreign_subscriptions(scene: Scene) -> Iterator[str]:
    """Everything that is not the attacker's to hear; by itself nothing of the own project either: that is pulled."""
    own, victim = scene.attacker.project, scene.victim.project
    for project in (own, victim, "*"):
        yield f"memcube.{project}.>"
        yield f"memcube.{project}.memory.v1.>"
        yield f"memcube.{project}.memory.v1.created"
        yield f"memcube.{project}.receipt.v1.stored.*"
        yield f"memcube.{project}.insight.v1.submitted.*"
        yield f"memcube.{project}.ask.v1.query.*"
    yield from (
        ">", "*", "*.>", "*.*", "memcube.>", "memcube", "_INBOX.>", "_INBOX.*",
        f"{inbox_prefix(scene.victim.key)}.>", f"{inbox_prefix(scene.colleague.key)}.>", "_INBOX_gateway.>",
        "_INBOX_ingestion.>", "_R_.>", "_GR_.>", "$SYS.>", "$SYS.ACCOUNT.>", "$SYS.REQ.USER.AUTH", "$JS.>",
        "$JS.API.>", "$JS.ACK.>", "$JS.EVENT.>", "MC.API.>", "MC.>", "rooms.>", "rooms.gateway.v1.keep_insight.*.*",
        "$KV.>", "$O.>",
    )  # fmt: skip


async def test_every_foreign_subject_is_denied(scene: Scene) -> None:
    async with scene.attacker.raw() as raw:
        published = list(foreign_publishes(scene))
        taken = [subject for subject in published if await raw.may_publish(subject, b"{}")]
        subscribed = list(foreign_subscriptions(scene))
        heard = [
            subject
            for subject in subscribed
            if await raw.may_subscribe(subject) or await raw.may_subscribe(subject, "gateway")
        ]
    assert (taken, heard) == ([], [])
    assert len(published) + 2 * len(subscribed) > 250


async def test_the_same_looks_find_what_is_ones_own(scene: Scene) -> None:
    """Or the test above would pass against a server that answers nobody."""
    victim = scene.victim
    async with victim.raw() as raw:
        assert await raw.may_publish(f"memcube.{victim.project}.insight.v1.submitted.bob", b"{}")
        assert await raw.may_publish(f"memcube.{victim.project}.ask.v1.query.bob", b"{}")
        assert await raw.may_publish(f"MC.API.CONSUMER.MSG.NEXT.CHANGES.{scene.durable(victim)}", b'{"no_wait":true}')
        assert await raw.may_publish(f"$JS.ACK.CHANGES.{scene.durable(victim)}.1.1.1.1.1")
        assert await raw.may_subscribe(f"{inbox_prefix(victim.key)}.>")


# Reply subjects: the server does not check where an answer is to go.


@dataclass(frozen=True, slots=True)
class Watch:
    """What may not change while the attacker is at work."""

    house: House
    operator: Client
    scene: Scene
    heard: list[str]

    async def state(self, *, but: str = "") -> tuple[object, ...]:
        """What the streams and the victim's and the colleague's consumers hold of others than the attacker."""
        jetstream = self.operator.jetstream()
        insights = (await jetstream.stream_info("INSIGHTS", subjects_filter=">")).state.subjects or {}
        changes = (await jetstream.stream_info("CHANGES", subjects_filter=">")).state.subjects or {}
        own = f"memcube.{self.scene.attacker.project}."
        mine = (f"{own}insight.v1.submitted.mallory",)
        told = {f"{own}receipt.v1.{state}.mallory" for state in ("stored", "parked", "searchable")}
        return (
            {subject: many for subject, many in insights.items() if subject not in mine},
            {subject: many for subject, many in changes.items() if subject not in told and subject != but},
            [await self._consumer(member) for member in (self.scene.victim, self.scene.colleague)],
            list(self.heard),
        )

    async def _consumer(self, member: Member) -> tuple[object, ...]:
        info = await self.operator.jetstream().consumer_info("CHANGES", self.scene.durable(member))
        assert info.delivered is not None
        assert info.ack_floor is not None
        return info.delivered.consumer_seq, info.ack_floor.stream_seq, info.num_ack_pending, info.num_waiting


@pytest_asyncio.fixture
async def watch(scene: Scene) -> AsyncGenerator[Watch]:
    heard: list[str] = []

    async def overheard(message: Msg) -> None:
        heard.append(message.subject)

    async with scene.house.operator() as operator, scene.victim.raw() as victim:
        await victim.client.subscribe(f"{inbox_prefix(scene.victim.key)}.>", cb=overheard)
        await victim.client.flush()
        yield Watch(scene.house, operator, scene, heard)


def sources(scene: Scene) -> list[tuple[str, bytes]]:
    """What the attacker may publish, each of which is answered somewhere."""
    own = scene.attacker.project
    insight = orjson.dumps({"id": str(new_id()), "insight": "Planted."})
    return [
        (f"memcube.{own}.insight.v1.submitted.mallory", insight),
        (f"memcube.{own}.ask.v1.query.mallory", b'{"tags": []}'),
        (f"memcube.{own}.ask.v1.query.mallory", b"not json"),
        (f"memcube.{own}.ask.v1.follow.mallory", b"{}"),
        (f"MC.API.CONSUMER.MSG.NEXT.CHANGES.{scene.durable(scene.attacker)}", b'{"batch":1,"no_wait":true}'),
        (f"MC.API.CONSUMER.MSG.NEXT.CHANGES.{scene.durable(scene.attacker)}", b'{"batch":1,"expires":100000000}'),
        (f"memcube.{own}.ask.v1.schedule.mallory", b"{}"),
    ]


def targets(scene: Scene) -> list[str]:
    """Where answers would do harm. The names of others' durables are secret; here the attacker is told them."""
    own, victim = scene.attacker.project, scene.victim.project
    return [
        f"memcube.{victim}.insight.v1.submitted.bob",
        f"memcube.{own}.insight.v1.submitted.carol",
        f"memcube.{victim}.ask.v1.query.bob",
        f"memcube.{victim}.ask.v1.follow.bob",
        f"memcube.{victim}.ask.v1.schedule.bob",
        f"memcube.{own}.ask.v1.follow.carol",
        f"memcube.{victim}.memory.v1.created",
        f"memcube.{own}.memory.v1.restricted.created",
        f"memcube.{victim}.receipt.v1.stored.bob",
        f"MC.API.CONSUMER.MSG.NEXT.CHANGES.{scene.durable(scene.victim)}",
        f"MC.API.CONSUMER.MSG.NEXT.CHANGES.{scene.durable(scene.colleague)}",
        f"$JS.API.CONSUMER.MSG.NEXT.CHANGES.{scene.durable(scene.victim)}",
        f"$JS.ACK.CHANGES.{scene.durable(scene.victim)}.1.1.1.1.1",
        "$JS.API.STREAM.PURGE.CHANGES",
        "$JS.API.STREAM.DELETE.INSIGHTS",
        f"rooms.gateway.v1.keep_insight.{victim}.bob",
        "rooms.bell.changes",
        "$SYS.REQ.USER.AUTH",
        "_R_.abc",
        "_INBOX_gateway.abc",
    ]


async def test_no_answer_can_be_addressed_to_another(scene: Scene, watch: Watch) -> None:
    before = await watch.state(but=f"memcube.{scene.attacker.project}.memory.v1.created")  # insights become memories
    async with scene.attacker.raw() as raw:
        for round_ in range(2):
            await _change_something(watch, scene, round_)
            for (subject, body), target in itertools.product(sources(scene), targets(scene)):
                await raw.client.publish(subject, body, reply=target)
            await raw.client.flush()
            await asyncio.sleep(NOTHING_COMES)
            await _until_quiet(watch)
    assert await watch.state(but=f"memcube.{scene.attacker.project}.memory.v1.created") == before


async def test_the_own_changes_are_not_published_again_by_pulling_them_to_a_subject(scene: Scene, watch: Watch) -> None:
    async with scene.attacker.raw() as raw:
        for target in (*targets(scene), sources(scene)[0][0], sources(scene)[1][0], sources(scene)[4][0]):
            await _change_something(watch, scene, 7)
            changes = (await watch.state())[1]
            await raw.client.publish(sources(scene)[5][0], sources(scene)[5][1], reply=target)
            await raw.client.flush()
            await asyncio.sleep(0.15)
            assert (await watch.state())[1] == changes, target


async def test_answers_are_not_guessed_into_anothers_inbox(scene: Scene, watch: Watch) -> None:
    """Every answer goes below a prefix that only the holder of the key can make."""
    name = f"{scene.victim.project}_{scene.victim.name}"
    async with scene.attacker.raw() as raw:
        for guess in (
            f"_INBOX_{name}.x",
            "_INBOX.x",
            f"{inbox_prefix(scene.victim.project)}.x",
            f"_INBOX_{'0' * 32}.x",
        ):
            for subject, body in sources(scene):
                await raw.client.publish(subject, body, reply=guess)
        await raw.client.flush()
        await asyncio.sleep(NOTHING_COMES)
    assert watch.heard == []


# Headers: JetStream obeys them, so that the gateway takes over none but the id of a message.


async def test_headers_say_nothing_about_others_and_change_nothing_of_theirs(scene: Scene) -> None:
    attacker, victim = scene.attacker, scene.victim
    subject = f"memcube.{attacker.project}.insight.v1.submitted.mallory"
    theirs = new_id()
    forged = orjson.dumps({"acc": "AGENTS", "user": f"{victim.project}/bob/OWNER/0/{'a' * 24}/key:x"}).decode()
    answers: list[dict[str, object]] = []
    async with attacker.raw() as raw, scene.house.operator() as operator:
        jetstream = operator.jetstream()
        subjects_before = (await jetstream.stream_info("INSIGHTS", subjects_filter=">")).state.subjects or {}
        for headers in (
            {"Nats-Expected-Last-Subject-Sequence": "0",
             "Nats-Expected-Last-Subject-Sequence-Subject": f"memcube.{victim.project}.insight.v1.submitted.*"},
            {"Nats-Expected-Last-Sequence": "1"},
            {"Nats-Expected-Last-Msg-Id": str(theirs)},
            {"Nats-Expected-Stream": "CHANGES"},
            {"Nats-Rollup": "all"},
            {"Nats-Rollup": "sub"},
            {"Nats-Batch-Id": "x", "Nats-Batch-Sequence": "1"},
            {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": "memcube.x.memory.v1.created"},
            {"Nats-Trace-Dest": subject},
            {"Nats-Request-Info": forged},
            {"Nats-Msg-Id": str(theirs)},
        ):  # fmt: skip
            body = orjson.dumps({"id": str(new_id()), "insight": f"With {sorted(headers)}."})
            answers.append(orjson.loads((await raw.client.request(subject, body, timeout=5, headers=headers)).data))
        async with victim.connection() as agent:
            sent = await agent.publish_insight("The victim's own.", id=theirs)
        subjects_after = (await jetstream.stream_info("INSIGHTS", subjects_filter=">")).state.subjects or {}

    assert answers == [{"stream": "INSIGHTS", "seq": 0, "duplicate": False}] * 11
    assert not sent.duplicate
    changed = {name: many - subjects_before.get(name, 0) for name, many in subjects_after.items()}
    assert {name: many for name, many in changed.items() if many} == {
        subject: 11,
        f"memcube.{victim.project}.insight.v1.submitted.bob": 1,
    }


async def test_a_forged_identity_is_overwritten_by_the_server(scene: Scene) -> None:
    forged = orjson.dumps({"acc": "AGENTS", "user": f"{scene.victim.project}/bob/OWNER/0/{'a' * 24}/key:x"}).decode()
    async with scene.attacker.raw() as raw, scene.victim.connection() as victim:
        await victim.publish_insight("Only Bob knows.")
        said = await raw.client.request(
            f"memcube.{scene.attacker.project}.ask.v1.query.mallory",
            b"{}",
            timeout=5,
            headers={"Nats-Request-Info": forged},
        )
        contents = [memory["content"] for memory in orjson.loads(said.data)["memories"]]
    assert "Only Bob knows." not in contents
    assert contents


async def test_an_ask_that_no_agent_sent_is_refused(scene: Scene) -> None:
    """Even the operator's: who asks is what the server writes about a connection in AGENTS, and nothing else."""
    victim = scene.victim
    tag = f"{victim.project}/bob/OWNER/0/{'a' * 24}/key:x"
    async with scene.house.operator() as operator:
        for headers in (None, {"Nats-Request-Info": "{}"}, {"Nats-Request-Info": orjson.dumps({"user": tag}).decode()}):
            said = await operator.request(
                f"memcube.{victim.project}.ask.v1.query.bob", b"{}", headers=headers, timeout=5
            )
            assert Refused.model_validate_json(said.data).code == "not_allowed"


async def test_500_hostile_names_open_nothing(scene: Scene) -> None:
    pieces = (
        ".",
        "*",
        ">",
        " ",
        "\t",
        "\x00",
        "..",
        ".*",
        ".>",
        "*.",
        "_",
        "-",
        "/",
        "\\",
        "é",
        "\u202e",
        "a",
        "",
        "$JS",
    )
    names = [
        hostile
        for left, right in itertools.product(pieces, repeat=2)
        for hostile in (f"bob{left}{right}", f"{left}bob{right}")
        if hostile not in ("bob", "boba", "abob", "bobaa", "aboba")
    ][:500]
    assert len(names) == 500
    service = await scene.house.member("root", "SERVICE", scene.attacker.project)  # it may take any name that is one
    for place, name in enumerate(names):
        hostile = dataclasses.replace(service, name=name)
        grant = await scene.house.gateway.room.door.authenticate(hostile.project, hostile.name, hostile.key)
        assert grant is None or is_agent_name(grant.agent)
        if grant is None and place % 10 == 0:
            assert await hostile.first_words() == b"-ERR 'Authorization Violation'\r\n"
    assert await service.first_words() == b"PONG\r\n"


async def _change_something(watch: Watch, scene: Scene, mark: int) -> None:
    """Two changes for the attacker to pull."""
    for place in range(2):
        event = {"type": "memory.v1.created", "position": mark * 100 + place, "project": scene.attacker.project}
        await watch.operator.jetstream().publish(
            f"memcube.{scene.attacker.project}.memory.v1.created", orjson.dumps(event)
        )


async def _until_quiet(watch: Watch) -> None:
    """Until ingestion has nothing left to do, so that what it would announce is announced."""
    async with asyncio.timeout(10):
        while True:
            info = await watch.operator.jetstream().consumer_info("INSIGHTS", "ingestion-insight-submitted")
            if not info.num_pending and not info.num_ack_pending:
                return
            await asyncio.sleep(0.05)
