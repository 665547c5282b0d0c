"""Insights over NATS: each becomes one memory, however it is delivered; what cannot is parked with its reason."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg
from tests.eventually import eventually
from tests.fakes.delivery import Delivery
from tests.rooms import hearing, submitted

from memcube_common.bus.accounts import INSIGHTS_DURABLE
from memcube_common.contracts import subjects
from memcube_common.contracts.events import InsightSubmitted
from memcube_common.db.pool import Row
from memcube_common.errors import TryAgain
from memcube_common.ids import derive, new_id
from memcube_common.insights.domain import Insight
from memcube_common.testing.servers import HouseProject
from memcube_ingestion import handlers
from memcube_ingestion.handlers import on_deliveries_exhausted, on_insights_submitted
from memcube_ingestion.room import Room
from memcube_ingestion.turns import Turn

if TYPE_CHECKING:
    Psql = asyncpg.Connection[Row]


@pytest_asyncio.fixture
async def bus_subject(project: HouseProject) -> str:
    """Where the test's agent publishes."""
    return InsightSubmitted.subject(project.slug, "bot")


@pytest_asyncio.fixture
async def ears(room: Room, project: HouseProject) -> AsyncGenerator[str]:
    """The room's subscriber on the test's project; the name of its consumer."""
    async with hearing(room, subject=InsightSubmitted.subject(project.slug, "*")) as durable:
        yield durable


@pytest_asyncio.fixture
async def ears_everywhere(room: Room, agent: Client) -> AsyncGenerator[str]:
    """The room's subscriber on every project, from an empty stream on."""
    await agent.jetstream().purge_stream("INSIGHTS")
    async with hearing(room) as durable:
        yield durable


async def count(psql: Psql, table: str, project: str) -> int:
    return int(await psql.fetchval(f"select count(*) from memcube.{table} where project_id = $1", project))


async def settled(agent: Client, durable: str, delivered: int) -> bool:
    """Whether everything was delivered and answered."""
    info = await agent.jetstream().consumer_info("INSIGHTS", durable)
    assert info.delivered is not None
    return info.num_pending == 0 and info.num_ack_pending == 0 and (info.delivered.consumer_seq or 0) >= delivered


async def test_an_insight_delivered_three_times_and_shuffled_is_one_memory(
    agent: Client, psql: Psql, project: HouseProject, bus_subject: str, ears: str
) -> None:
    events = [submitted(f"The build has {n} steps.", tags=["build"]) for n in range(200)]
    copies = [event.model_dump_json().encode() for event in events for _ in range(3)]
    random.Random(4).shuffle(copies)
    await asyncio.gather(*(agent.jetstream().publish(bus_subject, copy) for copy in copies))
    await eventually(lambda: settled(agent, ears, 600), within=20)
    for table in ("insights", "memories", "memory_payloads", "memory_text"):
        assert await count(psql, table, project.slug) == 200
    changes = await psql.fetch(
        "select type, count(*) from memcube.changes where project_id = $1 group by 1 order by 1", project.slug
    )
    assert [tuple(row) for row in changes] == [("memory.v1.created", 200), ("receipt.v1.stored", 200)]
    ids = {row["id"] for row in await psql.fetch("select id from memcube.memories where project_id = $1", project.slug)}
    assert ids == {derive(event.id, "memory") for event in events}


async def test_the_same_id_with_other_words_changes_nothing(
    agent: Client, psql: Psql, project: HouseProject, bus_subject: str, ears: str
) -> None:
    first = submitted("The first words.")
    second = submitted("Other words.").model_copy(update={"id": first.id})
    for event in (first, second):
        await agent.jetstream().publish(bus_subject, event.model_dump_json().encode())
        await eventually(lambda: settled(agent, ears, 1), within=10)
    await eventually(lambda: settled(agent, ears, 2), within=10)
    assert (
        await psql.fetchval("select content from memcube.memory_payloads where project_id = $1", project.slug)
        == "The first words."
    )


class Poison(NamedTuple):
    """A message that cannot be kept."""

    body: bytes
    reason: str
    sender_hears: bool = False
    headers: dict[str, str] | None = None


def spoilt(**fields: Any) -> bytes:
    return json.dumps({"id": str(new_id()), "insight": "sound", **fields}).encode()


POISON = {
    "empty": Poison(b"", "body"),
    "not json": Poison(b"canary", "body"),
    "cut": Poison(b'{"id": "', "body"),
    "binary": Poison(b"\xff\xfe\x00", "body"),
    "a list": Poison(b"[]", "body"),
    "null": Poison(b"null", "body"),
    "deep": Poison(b"[" * 100_000, "body"),
    "5,000 digits": Poison(spoilt()[:-1] + b', "metadata": {"a": ' + b"9" * 5000 + b"}}", "body"),
    "said to be json": Poison(b"canary", "body", headers={"content-type": "application/json"}),
    "said to be text": Poison(b"\xff\xfe", "body", headers={"content-type": "text/plain"}),
    "hostile headers": Poison(b"canary", "body", headers={"x-nul": "a\x00b", "correlation_id": "ä", "reply_to": "x.>"}),
    "1e400": Poison(spoilt()[:-1] + b', "metadata": {"a": 1e400}}', "metadata", sender_hears=True),
    "nan": Poison(spoilt()[:-1] + b', "sentiment": NaN}', "sentiment", sender_hears=True),
    "no id": Poison(b'{"insight": "x"}', "id: Field required"),
    "id of version 4": Poison(spoilt(id="7d444840-9dc0-41d1-b245-5ffdce74fad2"), "id"),
    "wrong type": Poison(spoilt(insight=7), "insight", sender_hears=True),
    "blank": Poison(spoilt(insight=" \n "), "insight", sender_hears=True),
    "too large": Poison(spoilt(insight="a" * 65_537), "insight: Value error, must be at most", sender_hears=True),
    "nul": Poison(spoilt(insight="canary\x00"), "insight", sender_hears=True),
    "surrogate": Poison(spoilt(insight="canary\ud800"), "body"),
    "nul in tags": Poison(spoilt(tags=["fine", "canary\x00"]), "tags.1", sender_hears=True),
    "nul in metadata": Poison(spoilt(metadata={"canary\x00": 1}), "metadata", sender_hears=True),
    "nul in a governance key": Poison(spoilt(governance={"a\x00b": 1}), "governance.a?b", sender_hears=True),
    "a long governance key": Poison(spoilt(governance={"k" * 60_000: 1}), "governance.kkk", sender_hears=True),
    "a time out of range": Poison(
        spoilt(governance={"expires_at": "9999-12-31T23:59:59-14:00"}), "governance.expires_at", sender_hears=True
    ),
}


async def test_poison_is_parked_with_its_reason_and_its_neighbours_are_stored(
    agent: Client, psql: Psql, project: HouseProject, bus_subject: str, ears: str
) -> None:
    """RELIABILITY G6: every kind of poison in one batch with sound insights."""
    jetstream = agent.jetstream()
    sound = [submitted(f"Neighbour {n}.") for n in range(len(POISON) + 1)]
    for event, poison in zip(sound, POISON.values(), strict=False):
        await jetstream.publish(bus_subject, event.model_dump_json().encode())
        await jetstream.publish(bus_subject, poison.body, headers=poison.headers)
    await jetstream.publish(bus_subject, sound[-1].model_dump_json().encode())
    await eventually(lambda: settled(agent, ears, len(sound) + len(POISON)), within=20)

    assert await count(psql, "memories", project.slug) == len(sound)
    rows = await psql.fetch(
        "select payload, reason, subject, source, attempts from memcube.parked where project_id = $1", project.slug
    )
    assert len(rows) == len(POISON)
    parked = {(bytes(row["payload"]), row["reason"]) for row in rows}
    for name, poison in POISON.items():
        reasons = [reason for payload, reason in parked if payload == poison.body]
        assert any(poison.reason in reason for reason in reasons), (name, reasons)
        assert not any("canary" in reason for reason in reasons), name
    for row in rows:
        assert (row["source"], row["subject"]) == ("INSIGHTS", bus_subject)
        assert row["attempts"] <= 5
    told = await psql.fetch(
        "select agent, body ->> 'receipt_id' as receipt, body ->> 'reason' as reason from memcube.changes"
        " where project_id = $1 and type = 'receipt.v1.parked'",
        project.slug,
    )
    expected = {str(json.loads(p.body.replace(b"1e400", b"0"))["id"]) for p in POISON.values() if p.sender_hears}
    assert {row["receipt"] for row in told} == expected
    assert len(told) == len(expected)
    assert {row["agent"] for row in told} == {"bot"}
    assert all(row["reason"] for row in told)


async def test_a_project_that_does_not_exist_gets_its_messages_parked_and_others_theirs_stored(
    agent: Client, psql: Psql, project: HouseProject, bus_subject: str, ears_everywhere: str
) -> None:
    stranger = f"nobody-{new_id().hex[:8]}"
    await agent.jetstream().publish(
        InsightSubmitted.subject(stranger, "bot"), submitted("Lost?").model_dump_json().encode()
    )
    await agent.jetstream().publish(bus_subject, submitted("Kept.").model_dump_json().encode())
    await eventually(lambda: settled(agent, ears_everywhere, 2), within=10)
    [row] = await psql.fetch("select reason from memcube.parked where project_id = $1", stranger)
    assert row["reason"] == "the project does not exist"
    assert await count(psql, "insights", stranger) == 0
    assert await count(psql, "memories", project.slug) == 1


@pytest.mark.parametrize("project_name", ["UPPER", "-x", "a_b", "ä", "a" * 64])
async def test_a_subject_that_names_no_project_is_parked_under_none(
    agent: Client, psql: Psql, ears_everywhere: str, project_name: str
) -> None:
    body = submitted("Whose?").model_dump_json().encode()
    await agent.jetstream().publish(f"memcube.{project_name}.insight.v1.submitted.bot", body)
    await eventually(lambda: settled(agent, ears_everywhere, 1), within=10)
    [row] = await psql.fetch("select project_id, reason from memcube.parked where payload = $1", body)
    assert row["project_id"] == ""
    assert "subject" in row["reason"]


async def test_a_subject_that_is_not_even_text_does_not_stop_the_room(
    agent: Client, psql: Psql, project: HouseProject, bus_subject: str, ears_everywhere: str
) -> None:
    body = submitted("Whose?").model_dump_json().encode()
    wire = b"PUB memcube.x.insight.v1.submitted.\xff\xfe %d\r\n%s\r\n" % (len(body), body)
    await agent._send_command(wire)  # pyright: ignore[reportPrivateUsage]
    await agent.flush()
    await agent.jetstream().publish(bus_subject, submitted("Kept.").model_dump_json().encode())
    await eventually(lambda: stored(psql, project.slug, 1), within=15)


async def stored(psql: Psql, project: str, many: int) -> bool:
    return await count(psql, "memories", project) >= many


async def test_a_message_is_acknowledged_only_after_its_commit(
    room: Room, agent: Client, psql: Psql, project: HouseProject, bus_subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between commit and acknowledgement: it comes again, and nothing is doubled."""
    answered: list[UUID] = []

    async def killed(_: Msg) -> None:
        rows = await psql.fetch("select id from memcube.memories where project_id = $1", project.slug)
        answered.extend(row["id"] for row in rows)
        raise ConnectionResetError

    event = submitted("Committed, not acknowledged.")
    subject = InsightSubmitted.subject(project.slug, "*")
    with monkeypatch.context() as patch:
        patch.setattr(Msg, "ack", killed)
        patch.setattr(Msg, "nak", killed)
        patch.setattr(Msg, "term", killed)
        async with hearing(room, subject=subject) as durable:
            await agent.jetstream().publish(bus_subject, event.model_dump_json().encode())
            await eventually(lambda: answered, within=10)
    assert set(answered) == {derive(event.id, "memory")}
    async with hearing(room, subject=subject, durable=durable):
        await eventually(lambda: settled(agent, durable, 2), within=10)
    assert await count(psql, "memories", project.slug) == 1
    assert await count(psql, "insights", project.slug) == 1
    assert await count(psql, "parked", project.slug) == 0


async def test_a_message_nobody_could_answer_is_parked_when_the_server_gives_it_up(
    room: Room, agent: Client, psql: Psql, project: HouseProject, bus_subject: str
) -> None:
    body = submitted("Given up.").model_dump_json().encode()
    place = await agent.jetstream().publish(bus_subject, body)
    acked: list[bytes] = []

    class Advisory:
        data = json.dumps({"stream": "INSIGHTS", "stream_seq": place.seq, "deliveries": 20}).encode()

        async def ack(self) -> None:
            acked.append(self.data)

    for _ in range(2):
        await on_deliveries_exhausted([Advisory()], room)  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    [row] = await psql.fetch(
        "select payload, attempts, subject from memcube.parked where project_id = $1", project.slug
    )
    assert (bytes(row["payload"]), row["attempts"], row["subject"]) == (body, 20, bus_subject)
    assert len(acked) == 2


async def test_one_insight_the_database_refuses_does_not_cost_its_neighbours(
    room: Room, agent: Client, psql: Psql, project: HouseProject, bus_subject: str
) -> None:
    """A surprise: nothing in the contract forbids it and the database does. It is tried again, then parked."""
    await psql.execute(
        "alter table memcube.insights add constraint surprise"
        f" check (project_id <> '{project.slug}' or label <> 'surprise')"
    )
    try:
        events = [submitted("one", label="a"), submitted("two", label="surprise"), submitted("three", label="b")]
        messages: list[Any] = [Delivery(event, n, subject=bus_subject) for n, event in enumerate(events)]
        await on_insights_submitted(messages, room)
        assert [message.answer for message in messages] == ["ack", "nak", "ack"]
        assert await count(psql, "memories", project.slug) == 2
        for attempt in (2, 3, 4):
            messages[1].delivered = attempt
            await on_insights_submitted(messages[1:2], room)
        assert messages[1].delays == sorted(messages[1].delays)
        assert await count(psql, "parked", project.slug) == 0
        messages[1].delivered = 5
        await on_insights_submitted(messages[1:2], room)
        assert messages[1].answer == "term"
        [row] = await psql.fetch("select reason from memcube.parked where project_id = $1", project.slug)
        assert row["reason"] == "could not be kept: CheckViolationError"
    finally:
        await psql.execute("alter table memcube.insights drop constraint surprise")


def test_the_house_hears_every_project_under_one_durable_name() -> None:
    assert INSIGHTS_DURABLE == "ingestion-insight-submitted"
    assert InsightSubmitted.subject("*", "*") == subjects.INSIGHTS


async def test_what_breaks_its_transaction_again_and_again_holds_up_nobody(
    agent: Client, psql: Psql, project: HouseProject, bus_subject: str, ears: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres is there: the fault is one message of the portion, and its neighbours are kept."""
    keep, tries = handlers.keep, list[int]()

    async def breaking(slug: str, insights: Sequence[Insight], room: Room, turn: Turn) -> str | None:
        if any(one.insight == "Poison." for one in insights):
            tries.append(len(insights))
            raise TryAgain(after=0.0)
        return await keep(slug, insights, room, turn)

    monkeypatch.setattr(handlers, "keep", breaking)
    texts = [*(f"Fact {n}." for n in range(10)), "Poison."]
    await asyncio.gather(
        *(agent.jetstream().publish(bus_subject, submitted(text).model_dump_json().encode()) for text in texts)
    )

    async def kept() -> bool:
        return await count(psql, "memories", project.slug) == 10 and tries.count(1) >= handlers.TRIES

    await eventually(kept)
    assert sum(many > 1 for many in tries) <= handlers.TRIES


@pytest.mark.parametrize("state", ["53100", "25006", "57P03"])
async def test_a_full_or_read_only_postgres_is_nobodys_fault(
    agent: Client,
    psql: Psql,
    project: HouseProject,
    bus_subject: str,
    ears: str,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    keep, tries = handlers.keep, list[int]()

    class Refused(Exception):
        sqlstate = state

    async def refused(slug: str, insights: Sequence[Insight], room: Room, turn: Turn) -> str | None:
        tries.append(len(insights))
        if len(tries) <= 2 * handlers.TRIES:
            raise TryAgain(after=0.0) from Refused()
        return await keep(slug, insights, room, turn)

    monkeypatch.setattr(handlers, "keep", refused)
    await agent.jetstream().publish(bus_subject, submitted("Held.").model_dump_json().encode())
    await eventually(lambda: settled(agent, ears, 1))
    assert await count(psql, "memories", project.slug) == 1
    info = await agent.jetstream().consumer_info("INSIGHTS", ears)
    assert info.delivered is not None
    assert info.delivered.consumer_seq == 1
    assert len(tries) == 2 * handlers.TRIES + 1
