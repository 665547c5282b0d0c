"""Conversations become insights: by a language model where one is set, as they are where none is or none answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest
import pytest_asyncio
from pydantic import SecretStr
from tests.eventually import eventually
from tests.rooms import an_insight, ingestion_room, work_due

from memcube_common.contracts.api import Receipt
from memcube_common.contracts.fields import DEFAULT_GOVERNANCE, Governance
from memcube_common.db import Database
from memcube_common.db.pool import Row
from memcube_common.frame import task
from memcube_common.ids import derive, derive_nth, new_id
from memcube_common.insights.conversation import Talk
from memcube_common.insights.receipts import read_receipts
from memcube_common.insights.talks import accept_conversation
from memcube_common.language.protocol import Said
from memcube_common.mailbox.work import Claim
from memcube_common.quotas.store import read_quotas, set_quota
from memcube_common.security.principal import Principal
from memcube_common.testing.openai_server import Answer, Completion, Conversed, OpenAIServer, Status, Turn
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_ingestion import conversations
from memcube_ingestion.handlers import keep
from memcube_ingestion.room import Room
from memcube_ingestion.waiting import work_off

if TYPE_CHECKING:
    Psql = asyncpg.Connection[Row]


@pytest_asyncio.fixture(scope="module")
async def server() -> AsyncGenerator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def reading(database: HouseDatabase, server: OpenAIServer) -> AsyncGenerator[Room]:
    """An ingestion room with a language model."""
    more: dict[str, Any] = {
        "openai_api_key": SecretStr("sk-test"),
        "llm_base_url": server.url,
        "llm_timeout": 0.5,
        "conversation_attempts": 2,
    }
    async with ingestion_room(database, **more) as room:
        yield room


@pytest_asyncio.fixture(scope="module")
async def gateway_db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """Where conversations are accepted."""
    db = await Database.open(database.dsn("gateway"), room="gateway", size=2)
    yield db
    await db.close()


def a_talk(*said: str, governance: str = DEFAULT_GOVERNANCE) -> Talk:
    at = datetime(2026, 5, 4, 9, tzinfo=UTC)
    return Talk(
        id=new_id(),
        agent_id="ada",
        messages=tuple(
            Said("assistant" if n % 2 else "user", text, None if n else "Ada", at) for n, text in enumerate(said)
        ),
        tags=("talk",),
        priority="WARM",
        governance=governance,
        metadata='{"thread": 7}',
    )  # fmt: skip


def found(*texts: str) -> Completion:
    items = [{"text": text, "label": "A name", "tags": ["trip"], "kind": "event", "confidence": 0.8} for text in texts]
    return Completion(orjson.dumps({"insights": items}).decode())


async def accept(gateway: Database, project: str, talk: Talk) -> None:
    async with gateway.transaction(Principal.user(project, talk.agent_id, "AGENT")) as tx:
        assert await accept_conversation(tx, project=project, talk=talk)


async def work(room: Room, psql: Psql) -> None:
    """Do what is due; what was put off is due at once."""
    await psql.execute("update memcube.work_queue set due_at = now() where kind = 'conversation'")
    await work_due(conversations.line_of(room), room)


async def receipt_of(room: Room, project: str, talk: Talk) -> Receipt:
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        [receipt] = await read_receipts(tx, project=project, ids=[talk.id])
    return receipt


async def used(room: Room, project: str) -> tuple[int, int]:
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        quotas = {quota.resource: quota.used for quota in await read_quotas(tx)}
    return quotas["memories"], quotas["bytes"]


async def kept(psql: Psql, project: str) -> list[str]:
    rows = await psql.fetch(
        "select content from memcube.memory_payloads where project_id = $1 order by content", project
    )
    return [row["content"] for row in rows]


async def test_what_a_language_model_finds_is_stored_and_the_messages_are_forgotten(
    reading: Room, server: OpenAIServer, gateway_db: Database, psql: Psql, project: HouseProject
) -> None:
    known = an_insight("Ada lives in Lyon.")
    assert await keep(project.slug, [known], reading) is None
    talk = a_talk("I fly home to Lyon tomorrow, canary.", "Fine.", " ")
    await accept(gateway_db, project.slug, talk)
    assert await used(reading, project.slug) == (3, 18 + 41)
    server.converse(found("Ada flies to Lyon on 2026-05-05.", "Ada lives in Lyon"))
    await work(reading, psql)

    assert await kept(psql, project.slug) == ["Ada flies to Lyon on 2026-05-05.", "Ada lives in Lyon."]
    assert await used(reading, project.slug) == (2, 18 + 32)
    receipt = await receipt_of(reading, project.slug, talk)
    assert (receipt.state, receipt.memory_id, receipt.reason, receipt.decided_because) == ("stored", None, None, None)
    assert receipt.insights is not None
    first, second = (derive_nth(talk.id, "insight", n) for n in range(2))
    assert [(one.insight_id, one.memory_id) for one in receipt.insights] == [
        (first, derive(first, "memory")),
        (second, known.memory_id),
    ]
    row = await psql.fetchrow("select * from memcube.insights where id = $1", first)
    assert row is not None
    assert (row["agent_id"], row["label"], row["tags"], row["evidence_refs"]) == (
        "ada", "A name", ["talk", "trip"], [f"conversation:{talk.id}"],
    )  # fmt: skip
    assert orjson.loads(row["metadata"]) == {"thread": 7, "kind": "event", "confidence": 0.8}
    left = await psql.fetchrow("select messages, said from memcube.conversations where id = $1", talk.id)
    assert tuple(left or ()) == (None, "{}")
    assert "canary" in server.conversed[-1].data
    await psql.execute("update memcube.memories set embedding_state = 'ready', embedded_at = now()")
    assert (await receipt_of(reading, project.slug, talk)).state == "searchable"


async def test_a_redelivery_changes_nothing(
    reading: Room,
    server: OpenAIServer,
    gateway_db: Database,
    psql: Psql,
    project: HouseProject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = a_talk("Once, please.")
    await accept(gateway_db, project.slug, talk)

    def anew(_: Conversed) -> Turn:
        return found(f"Answer {len(server.conversed)}.")  # never twice the same

    monkeypatch.setattr(server, "says", anew)
    claim = Claim(project.slug, talk.id, 1)
    await asyncio.gather(*(conversations.keep_conversation(claim, reading) for _ in range(3)))
    assert len(await kept(psql, project.slug)) == 1
    assert (await used(reading, project.slug))[0] == 1
    await conversations.keep_conversation(claim, reading)
    receipt = await receipt_of(reading, project.slug, talk)
    assert receipt.insights is not None
    assert len(receipt.insights) == 1


async def test_without_a_language_model_each_message_is_an_insight(
    room: Room, gateway_db: Database, psql: Psql, project: HouseProject
) -> None:
    talk = a_talk("I like figs.", "Noted.", "\n", "i like FIGS")
    await accept(gateway_db, project.slug, talk)
    await work(room, psql)
    assert await kept(psql, project.slug) == ["I like figs.", "Noted."]
    labels = await psql.fetch("select label from memcube.memories where project_id = $1 order by label", project.slug)
    assert [row["label"] for row in labels] == ["Ada: I like figs.", "assistant: Noted."]
    receipt = await receipt_of(room, project.slug, talk)
    assert receipt.decided_because == "kept as they are: no language model is set"
    assert (receipt.state, receipt.reason) == ("stored", None)
    assert receipt.insights is not None
    first, noted, again = receipt.insights
    assert (first.decision, noted.decision, first.decided_because) == ("new", "new", None)
    assert (again.decision, again.supports, again.memory_id) == ("duplicate", first.insight_id, first.memory_id)
    assert again.decided_because == f"same words as insight {first.insight_id}"
    assert (await used(room, project.slug))[0] == 2


@pytest.mark.parametrize(
    ("turn", "because"),
    [
        (Status(401), "the language model answered 401: check its key, address and name"),
        (Status(429, retry_after="60"), "the language model answered 429"),
        (Answer.SILENCE, "the language model did not answer in time"),
        (Completion("garbage"), "the language model's answer was not understood"),
    ],
    ids=str,
)
async def test_a_language_model_that_does_not_answer_is_asked_again_then_messages_are_kept_as_they_are(
    reading: Room,
    server: OpenAIServer,
    gateway_db: Database,
    psql: Psql,
    project: HouseProject,
    turn: Turn,
    because: str,
) -> None:
    talk = a_talk("Canary sings.")
    await accept(gateway_db, project.slug, talk)
    server.converse(turn, turn)
    await work(reading, psql)
    receipt = await receipt_of(reading, project.slug, talk)
    assert (receipt.state, receipt.insights) == ("accepted", None)
    put_off = "select due_at > now() + interval '0.5 s' from memcube.work_queue where item_id = $1"
    assert await psql.fetchval(put_off, talk.id)
    await work(reading, psql)
    receipt = await receipt_of(reading, project.slug, talk)
    assert (receipt.state, receipt.decided_because) == ("stored", f"kept as they are: {because}")
    assert await kept(psql, project.slug) == ["Canary sings."]


@pytest.mark.parametrize("turn", [Status(400), Completion(None, refusal="No.")], ids=str)
async def test_what_a_language_model_refuses_is_kept_as_it_is_at_once(
    reading: Room, server: OpenAIServer, gateway_db: Database, psql: Psql, project: HouseProject, turn: Turn
) -> None:
    talk = a_talk("Refused.")
    await accept(gateway_db, project.slug, talk)
    server.converse(turn)
    await work(reading, psql)
    assert await kept(psql, project.slug) == ["Refused."]


async def test_nothing_worth_remembering_is_said_on_the_receipt(
    reading: Room, server: OpenAIServer, gateway_db: Database, psql: Psql, project: HouseProject
) -> None:
    talk = a_talk("Hello!", "Hello.")
    await accept(gateway_db, project.slug, talk)
    server.converse(found())
    await work(reading, psql)
    receipt = await receipt_of(reading, project.slug, talk)
    assert (receipt.state, receipt.insights) == ("stored", [])
    assert receipt.reason == "the language model found nothing to remember"
    assert await used(reading, project.slug) == (0, 0)


async def test_what_is_confidential_is_never_sent_out(
    reading: Room, server: OpenAIServer, gateway_db: Database, psql: Psql, project: HouseProject
) -> None:
    asked = len(server.conversed)
    talk = a_talk("Top secret.", governance=Governance(sensitivity="confidential").model_dump_json())
    await accept(gateway_db, project.slug, talk)
    await work(reading, psql)
    assert len(server.conversed) == asked
    assert await kept(psql, project.slug) == ["Top secret."]


async def test_more_than_the_quota_allows_is_kept_as_it_was_said(
    reading: Room,
    server: OpenAIServer,
    gateway_db: Database,
    psql: Psql,
    project: HouseProject,
    database: HouseDatabase,
) -> None:
    operator = await Database.open(database.admin_dsn, room="operator", size=1)
    try:
        async with operator.transaction(replace(Principal.operator(), project=project.slug)) as tx:
            await set_quota(tx, resource="memories", maximum=1)
    finally:
        await operator.close()
    talk = a_talk("One and two.")
    await accept(gateway_db, project.slug, talk)
    server.converse(found("One.", "Two."))
    await work(reading, psql)
    assert await kept(psql, project.slug) == ["One and two."]
    because = (await receipt_of(reading, project.slug, talk)).decided_because
    assert because == "kept as they are: This would exceed the project's quota of 1 memories."


async def test_one_that_cannot_be_kept_is_parked_with_its_messages(
    room: Room, gateway_db: Database, psql: Psql, project: HouseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = a_talk("Trouble.")
    await accept(gateway_db, project.slug, talk)

    def surprise(_: Talk) -> None:
        raise RuntimeError

    monkeypatch.setattr(conversations, "as_they_are", surprise)
    tried = conversations.line_of(room).attempts - 1
    await psql.execute("update memcube.work_queue set attempts = $2 where item_id = $1", talk.id, tried - 1)
    await work(room, psql)
    assert (await receipt_of(room, project.slug, talk)).state == "accepted"
    await work(room, psql)
    receipt = await receipt_of(room, project.slug, talk)
    assert (receipt.state, receipt.reason) == ("parked", "could not be kept: RuntimeError")
    messages = await psql.fetchval("select messages from memcube.conversations where id = $1", talk.id)
    assert "Trouble." in messages


async def test_one_that_takes_long_keeps_nobody_waiting_but_for_its_own_place(
    room: Room, gateway_db: Database, psql: Psql, database: HouseDatabase, project: HouseProject
) -> None:
    other = await database.project()
    slow, quick = a_talk("Slow."), [a_talk(f"Quick {n}.") for n in range(3)]
    await accept(gateway_db, project.slug, slow)
    begun = asyncio.Event()

    async def do(claim: Claim, room: Room) -> None:
        if claim.item_id == slow.id:
            begun.set()
            await asyncio.Event().wait()
        await conversations.keep_conversation(claim, room)

    bell = await room.bus.bell("rooms.test.nobody-rings")
    async with task(work_off(replace(conversations.line_of(room), do=do, at_once=2), bell, room), "conversations"):
        await begun.wait()
        for talk in quick:
            await accept(gateway_db, other.slug, talk)
        bell.ring()

        async def all_kept() -> bool:
            return len(await kept(psql, other.slug)) == len(quick)

        await eventually(all_kept)
    assert await kept(psql, project.slug) == []
    await psql.execute("delete from memcube.work_queue where item_id = $1", slow.id)


async def test_what_waits_is_taken_as_soon_as_a_place_is_free(
    reading: Room, server: OpenAIServer, gateway_db: Database, psql: Psql, project: HouseProject
) -> None:
    """However long the room lets the bell ring where there was nothing to do."""
    talks = [a_talk(f"One of many: {n}.") for n in range(4)]
    for talk in talks:
        await accept(gateway_db, project.slug, talk)
        server.converse(Completion(orjson.dumps({"insights": []}).decode()))
    done: list[Claim] = []

    async def do(claim: Claim, room: Room) -> None:
        await conversations.keep_conversation(claim, room)
        done.append(claim)

    bell = await reading.bus.bell("rooms.test.nobody-rings")
    line = replace(conversations.line_of(reading), do=do, at_once=1, gather=60.0)
    async with task(work_off(line, bell, reading), "conversations"):
        await eventually(lambda: len(done) == len(talks), within=5.0)


async def test_what_a_language_model_says_is_screened_before_it_is_kept(
    reading: Room, server: OpenAIServer, gateway_db: Database, psql: Psql, project: HouseProject
) -> None:
    """It may join what stood apart in the conversation, and was nothing there."""
    await psql.execute("update memcube.projects set screening = 'redact' where id = $1", project.slug)
    talk = a_talk("My card begins with 4111 1111.", "And it ends with 1111 1111.")
    await accept(gateway_db, project.slug, talk)
    card, mail = "4111 1111 1111 1111", "ada@example.org"
    said = {"text": f"Her card is {card}.", "label": card, "tags": [mail], "kind": mail, "confidence": 0.8}
    server.converse(Completion(orjson.dumps({"insights": [said]}).decode()))
    await work(reading, psql)

    assert await kept(psql, project.slug) == ["Her card is [redacted:credit_card]."]
    for table in ("insights", "memories", "memory_payloads", "conversations"):
        rows = await psql.fetch(f"select t::text as row from memcube.{table} t where project_id = $1", project.slug)
        assert rows
        assert not [row for row in rows if "1111 1111 1111" in row["row"] or mail in row["row"]]
    row = await psql.fetchrow(
        "select label, tags, governance from memcube.memories where project_id = $1", project.slug
    )
    assert row is not None
    assert (row["label"], row["tags"]) == ("[redacted:credit_card]", ["talk", "[redacted:email]"])
    assert orjson.loads(row["governance"])["pii_kinds"] == ["credit_card", "email"]
