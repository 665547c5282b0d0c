"""Every room's own user on NATS: it does its work, and everything else is denied."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator

import nats
import pytest
from nats.aio.msg import Msg
from tests.integration.nats_accounts.conftest import House, Raw

from memcube_common.bus.accounts import ROOM_USERS, inbox_of
from memcube_common.provision import ROOMS

SUBJECTS = {
    "memcube.demo.insight.v1.submitted.bot": {"gateway"},
    "memcube.demo.memory.v1.created": {"ingestion"},
    "memcube.demo.memory.v1.restricted.created": {"ingestion"},
    "memcube.demo.receipt.v1.stored.bot": {"ingestion"},
    "memcube.demo.ask.v1.query.bot": set[str](),
    "memcube.demo.ask.v1.schedule.bot": set[str](),
    "rooms.gateway.v1.keep_insight.demo.bot": set[str](),
    "rooms.embedding.v1.embed_texts": {"gateway", "scheduling"},
    "rooms.scheduling.v1.make_schedule": {"gateway"},
    "rooms.bell.insights": {"gateway"},
    "rooms.bell.memories": {"gateway", "ingestion"},
    "rooms.bell.changes": {"gateway", "ingestion", "embedding"},
    "$JS.API.CONSUMER.CREATE.CHANGES.p_demo_bot_x": {"gateway"},
    "$JS.API.CONSUMER.DELETE.CHANGES.p_demo_bot_x": {"gateway"},
    "$JS.API.CONSUMER.INFO.CHANGES.p_demo_bot_x": {"gateway"},
    "$JS.API.CONSUMER.MSG.NEXT.CHANGES.p_demo_bot_x": set[str](),
    "$JS.ACK.CHANGES.p_demo_bot_x.1.1.1.1.1": set[str](),
    "$JS.API.CONSUMER.INFO.INSIGHTS.ingestion-insight-submitted": {"ingestion"},
    "$JS.API.CONSUMER.INFO.INSIGHTS.other": set[str](),
    "$JS.API.CONSUMER.CREATE.INSIGHTS.ingestion-insight-submitted": set[str](),
    "$JS.API.CONSUMER.CREATE.INSIGHTS.other": set[str](),
    "$JS.API.CONSUMER.DELETE.INSIGHTS.ingestion-insight-submitted": set[str](),
    "$JS.API.STREAM.MSG.GET.INSIGHTS": {"ingestion"},
    "$JS.API.STREAM.MSG.GET.CHANGES": set[str](),
    "$JS.API.DIRECT.GET.INSIGHTS": set[str](),
    "$JS.API.STREAM.INFO.INSIGHTS": set[str](),
    "$JS.API.STREAM.PURGE.INSIGHTS": set[str](),
    "$JS.API.STREAM.DELETE.CHANGES": set[str](),
    "$JS.API.STREAM.UPDATE.CHANGES": set[str](),
    "$JS.API.STREAM.CREATE.OTHER": set[str](),
    "$JS.API.INFO": set[str](),
    "$SYS.REQ.USER.AUTH": set[str](),
    "$SYS.REQ.SERVER.PING.CONNZ": set[str](),
    "$SYS.REQ.SERVER.X.KICK": set[str](),
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.INSIGHTS.x": set[str](),
    "anything": set[str](),
}
"""Who may publish what: said here once more, in other words than the declaration's."""

HEARD = {
    "memcube.*.memory.v1.>": {"gateway"},
    "memcube.*.receipt.v1.>": {"gateway"},
    "memcube.*.ask.v1.*.*": {"gateway"},
    "rooms.gateway.v1.keep_insight.*.*": {"gateway"},
    "memcube.*.insight.v1.submitted.*": set[str](),
    "rooms.embedding.v1.embed_texts": {"embedding"},
    "rooms.scheduling.v1.make_schedule": {"scheduling"},
    "rooms.bell.insights": {"ingestion"},
    "rooms.bell.memories": {"embedding"},
    "rooms.bell.changes": {"ingestion"},
    "rooms.>": set[str](),
    "memcube.>": set[str](),
    ">": set[str](),
    "_INBOX.>": set[str](),
    "$SYS.>": set[str](),
    "$JS.>": set[str](),
    "$JS.ACK.>": set[str](),
    "_R_.>": set[str](),
}


@contextlib.asynccontextmanager
async def signed_in(house: House, room: str) -> AsyncGenerator[Raw]:
    """A room's connection, used for what rooms do not do."""
    raw = Raw()
    raw.client = await nats.connect(house.nats.url_of(room), allow_reconnect=False, error_cb=raw.noticed)
    try:
        yield raw
    finally:
        await raw.client.close()


def inboxes() -> Iterator[str]:
    """Where the rooms hear their answers."""
    return (inbox_of(room) for room in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
async def test_a_room_publishes_and_hears_what_is_its_own_and_nothing_else(house: House, room: str) -> None:
    async with signed_in(house, room) as raw:
        published = {subject for subject in SUBJECTS if await raw.may_publish(subject, b"{}")}
        heard = {subject for subject in HEARD if await raw.may_subscribe(subject, "test")}
        own = {inbox for inbox in inboxes() if await raw.may_subscribe(f"{inbox}.>")}
        answered = [inbox for inbox in inboxes() if await raw.may_publish(f"{inbox}.x")]

    assert published == {subject for subject, rooms in SUBJECTS.items() if room in rooms}
    assert heard == {subject for subject, rooms in HEARD.items() if room in rooms}
    assert own == {inbox_of(room)}
    assert answered == []


def test_every_room_has_a_user() -> None:
    assert set(ROOM_USERS) == set(ROOMS)


async def test_the_accounts_are_apart(house: House) -> None:
    """What the callout and the system users hear and say stays in their own accounts."""
    for url in (house.nats.callout_url, house.nats.system_url):
        raw, heard = Raw(), list[str]()

        async def overheard(message: Msg, heard: list[str] = heard) -> None:
            heard.append(message.subject)

        raw.client = await nats.connect(url, allow_reconnect=False, error_cb=raw.noticed)
        try:
            await raw.client.subscribe("memcube.>", cb=overheard)
            await raw.client.flush()
            async with house.operator() as operator:
                await operator.publish("memcube.demo.anything", b"")
                await operator.flush()
                with pytest.raises(Exception, match=r"not enabled|no responders|NoRespond|503"):
                    await raw.client.jetstream(timeout=1).account_info()
                await raw.client.flush()
            assert heard == []
        finally:
            await raw.client.close()


async def test_the_rooms_at_work_were_never_denied_anything(house: House) -> None:
    member = await house.member("worker")
    async with member.connection() as agent, agent.changes("all") as changes, agent.receipts("stored") as receipts:
        await agent.publish_insight("All rooms have something to do.")
        async with asyncio.timeout(15):
            await anext(receipts)
            await anext(changes)
    log = (house.nats.log).read_text()
    working = [
        line for line in log.splitlines() if "Violation" in line and "memcube-" in line and "memcube-agent-" not in line
    ]
    assert working == []
