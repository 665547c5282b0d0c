"""The consumers agents pull from: made once, mended, begun elsewhere, and refused where there is no room for more."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from nats.js.api import ConsumerInfo, StreamConfig
from nats.js.errors import NotFoundError

from memcube_common.bus import Bus
from memcube_common.embedded import EmbeddedNats
from memcube_common.errors import TryAgain
from memcube_gateway.agents.durables import Durables, TooManyFollowers

OPEN, RESTRICTED = "memcube.demo.memory.v1.*", "memcube.demo.memory.v1.restricted.*"


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[EmbeddedNats]:
    async with EmbeddedNats(tmp_path_factory.mktemp("durables"), name="memcube-durables") as server:
        yield server


@pytest_asyncio.fixture
async def operator(server: EmbeddedNats) -> AsyncGenerator[Bus]:
    """A fresh stream that has room for three consumers, with three changes in it."""
    bus = await Bus.open(server.url, name="operator")
    jetstream = bus.client.jetstream()
    with contextlib.suppress(NotFoundError):
        await jetstream.delete_stream("CHANGES")
    await jetstream.add_stream(StreamConfig(name="CHANGES", subjects=["memcube.*.memory.v1.>"], max_consumers=3))
    for place in range(3):
        await jetstream.publish("memcube.demo.memory.v1.created", str(place).encode())
    yield bus
    await bus.close()


@pytest_asyncio.fixture
async def durables(server: EmbeddedNats, operator: Bus) -> AsyncGenerator[Durables]:
    """Under the gateway's own user."""
    bus = await Bus.open(server.url_of("gateway"), name="gateway")
    yield Durables(bus)
    await bus.close()


async def info(operator: Bus, name: str = "p") -> ConsumerInfo:
    return await operator.client.jetstream().consumer_info("CHANGES", name)


async def heard(operator: Bus, name: str = "p") -> list[bytes]:
    """What it has to deliver, acknowledged."""
    consumer = await operator.client.jetstream().pull_subscribe_bind(name, stream="CHANGES")
    messages = await consumer.fetch(10, timeout=0.5) if (await info(operator, name)).num_pending else []
    for message in messages:
        await message.ack_sync()
    return [message.data for message in messages]


async def test_it_begins_now_and_goes_on_where_it_was(durables: Durables, operator: Bus) -> None:
    await durables.follow("p", [OPEN], "resume", instead_of="q")
    assert await heard(operator) == []
    await operator.client.jetstream().publish("memcube.demo.memory.v1.created", b"3")
    await durables.follow("p", [OPEN], "resume", instead_of="q")
    assert await heard(operator) == [b"3"]
    config = (await info(operator)).config
    assert config.inactive_threshold == 7 * 86_400
    assert (config.ack_policy, config.max_ack_pending) == ("explicit", 1_000)


async def test_it_begins_where_it_is_told(durables: Durables, operator: Bus) -> None:
    await durables.follow("p", [OPEN], "all", instead_of="q")
    assert await heard(operator) == [b"0", b"1", b"2"]
    between = datetime.now(UTC)
    await operator.client.jetstream().publish("memcube.demo.memory.v1.created", b"3")
    await durables.follow("p", [OPEN], between, instead_of="q")
    assert await heard(operator) == [b"3"]
    await durables.follow("p", [OPEN], "new", instead_of="q")
    assert await heard(operator) == []


async def test_what_it_delivers_is_brought_up_to_date(durables: Durables, operator: Bus) -> None:
    await durables.follow("p", [OPEN, RESTRICTED], "all", instead_of="q")
    await durables.follow("p", [OPEN], "resume", instead_of="q")
    assert (await info(operator)).config.filter_subjects == [OPEN]
    assert len(await heard(operator)) == 3


async def test_the_consumer_of_another_role_gives_its_place_over_and_is_gone(durables: Durables, operator: Bus) -> None:
    await durables.follow("q", [OPEN, RESTRICTED], "all", instead_of="p")
    await heard(operator, "q")
    await operator.client.jetstream().publish("memcube.demo.memory.v1.created", b"3")
    await durables.follow("p", [OPEN], "resume", instead_of="q")
    assert await heard(operator) == [b"3"]
    with pytest.raises(NotFoundError):
        await info(operator, "q")


async def test_the_last_place_taken_is_said_plainly(durables: Durables) -> None:
    for number in range(3):
        await durables.follow(f"p{number}", [OPEN], "new", instead_of="q")
    with pytest.raises(TooManyFollowers) as refused:
        await durables.follow("p3", [OPEN], "new", instead_of="q")
    assert (refused.value.code, refused.value.after) == ("too_many_followers", 60.0)
    await durables.follow("p2", [OPEN], "all", instead_of="q")
    with pytest.raises(TooManyFollowers):
        await durables.hear("r", OPEN)


async def test_a_stream_that_is_not_there_asks_to_try_again(durables: Durables, operator: Bus) -> None:
    await operator.client.jetstream().delete_stream("CHANGES")
    with pytest.raises(TryAgain):
        await durables.follow("p", [OPEN], "resume", instead_of="q")


async def test_one_project_does_not_take_the_room_of_others(
    operator: Bus, durables: Durables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memcube_gateway.agents.durables.PER_PROJECT", 2)
    for agent in ("a", "b"):
        await durables.follow(f"p_greedy_{agent}_x", [OPEN], "resume", instead_of=f"p_greedy_{agent}_y")
    with pytest.raises(TooManyFollowers, match="a project may have"):
        await durables.follow("p_greedy_c_x", [OPEN], "resume", instead_of="p_greedy_c_y")
    await durables.follow("p_greedy_a_x", [OPEN], "resume", instead_of="p_greedy_a_y")
    await durables.follow("p_greedy_a_x", [OPEN], "all", instead_of="p_greedy_a_y")
    await durables.follow("p_modest_a_x", [OPEN], "resume", instead_of="p_modest_a_y")
