"""The bus: it comes and goes, and nothing that hangs on it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from tests.eventually import eventually, stopped
from tests.rooms import bus_client

from memcube_common.bus import Bus, Subscribers
from memcube_common.bus.connection import ATOMIC_BATCH_MAX, Letter
from memcube_common.bus.subscribers import ACK_WAIT, MAX_DELIVER
from memcube_common.embedded import EmbeddedNats
from memcube_common.errors import TryAgain
from memcube_common.ids import new_id
from memcube_common.testing.servers import Servers


@pytest_asyncio.fixture
async def bus(servers: Servers) -> AsyncGenerator[Bus]:
    """A connection of a room."""
    bus = await Bus.open(servers.nats_url, name="test")
    yield bus
    await bus.close()


@pytest_asyncio.fixture
async def client(servers: Servers) -> AsyncGenerator[Client]:
    """A connection beside it."""
    async with bus_client(servers.nats_url) as client:
        yield client


@pytest_asyncio.fixture
async def stream(client: Client) -> AsyncGenerator[str]:
    """A stream of the test's own, like CHANGES; its name is its subjects' first word."""
    name = f"test{uuid4().hex[:8]}"
    await client.jetstream().add_stream(StreamConfig(name=name, subjects=[f"{name}.>"], allow_atomic=True))
    yield name
    await client.jetstream().delete_stream(name)


async def bodies(client: Client, stream: str) -> list[bytes]:
    state = (await client.jetstream().stream_info(stream)).state
    held = [await client.jetstream().get_msg(stream, n) for n in range(state.first_seq, state.last_seq + 1)]
    return [message.data or b"" for message in held]


def letters(stream: str, *names: str) -> list[Letter]:
    return [Letter(f"{stream}.a", name.encode(), f"id-{name}") for name in names]


async def test_a_batch_is_put_into_the_stream_in_order(bus: Bus, client: Client, stream: str) -> None:
    await bus.publish_all(stream, letters(stream, "a", "b", "c"))
    assert await bodies(client, stream) == [b"a", b"b", b"c"]


async def test_a_batch_with_a_repeat_is_refused_as_a_whole_and_sent_one_by_one(
    bus: Bus, client: Client, stream: str
) -> None:
    await bus.publish_all(stream, letters(stream, "a", "b"))
    await bus.publish_all(stream, letters(stream, "a", "b", "c", "d"))
    await bus.publish_all(stream, letters(stream, "d", "e"))
    assert await bodies(client, stream) == [b"a", b"b", b"c", b"d", b"e"]


async def test_one_message_repeated_is_one(bus: Bus, client: Client, stream: str) -> None:
    for _ in range(2):
        await bus.publish(stream, letters(stream, "a")[0])
        await bus.publish_all(stream, letters(stream, "a"))
    assert await bodies(client, stream) == [b"a"]


async def test_more_than_the_server_takes_at_once_is_sent_in_several_batches(
    bus: Bus, client: Client, stream: str
) -> None:
    names = [str(n) for n in range(ATOMIC_BATCH_MAX * 2 + 1)]
    await bus.publish_all(stream, letters(stream, *names))
    assert (await client.jetstream().stream_info(stream)).state.messages == len(names)


async def test_a_message_no_stream_takes_is_try_again(bus: Bus) -> None:
    with pytest.raises(TryAgain):
        await bus.publish("nowhere", Letter("nowhere.at.all", b"", "1"), timeout=0.5)
    with pytest.raises(TryAgain):
        await bus.publish_all("nowhere", [Letter("nowhere.at.all", b"", str(n)) for n in range(3)], timeout=0.5)


async def test_an_ask_nobody_hears_is_try_again_at_once(bus: Bus) -> None:
    began = asyncio.get_running_loop().time()
    with pytest.raises(TryAgain):
        await bus.ask(f"nobody.{uuid4().hex}", b"", timeout=5)
    assert asyncio.get_running_loop().time() - began < 2


async def test_an_ask_nobody_answers_is_try_again_in_time(bus: Bus, client: Client) -> None:
    subject = f"silent.{uuid4().hex}"

    async def hear(_: Msg) -> None:
        return

    await client.subscribe(subject, cb=hear)
    await client.flush()
    with pytest.raises(TryAgain):
        await bus.ask(subject, b"", timeout=0.2)


async def test_a_bell_rings_and_is_silent_again(bus: Bus, client: Client) -> None:
    loop = asyncio.get_running_loop()
    subject = f"bell.{uuid4().hex}"
    bell = await bus.bell(subject)
    await bus.client.flush()
    began = loop.time()
    await client.publish(subject)
    await bell.wait(5)
    assert loop.time() - began < 2
    began = loop.time()
    await bell.wait(0.1)
    assert loop.time() - began >= 0.09


async def test_a_bell_rung_before_one_waits_is_not_missed(bus: Bus) -> None:
    bell = await bus.bell(f"bell.{uuid4().hex}")
    bell.ring()
    began = asyncio.get_running_loop().time()
    await bell.wait(5)
    assert asyncio.get_running_loop().time() - began < 1


async def test_a_bus_opened_before_its_server_connects_when_it_comes(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path, name="late")
    await server.start()
    url = server.url
    await server.stop()
    bus = await Bus.open(url, name="early", patience=0.1)
    try:
        assert not bus.connected
        bell = await bus.bell("bell.early")
        for attempt in (
            bus.check(),
            bus.ask("x", b"", timeout=1),
            bus.publish("x", Letter("x", b"", "1")),
            bus.publish_all("x", [Letter("x", b"", "1"), Letter("x", b"", "2")]),
        ):
            with pytest.raises(TryAgain):
                await asyncio.wait_for(attempt, 2)
        await bus.ring("bell.early")
        await server.start()
        await eventually(lambda: bus.connected, within=10)
        await eventually(lambda: checks(bus), within=5)
        await bell.wait(2)
        async with bus_client(server.url) as client:
            await client.publish("bell.early")
        began = asyncio.get_running_loop().time()
        await bell.wait(5)
        assert asyncio.get_running_loop().time() - began < 2
    finally:
        await bus.close()
        await server.stop()


async def checks(bus: Bus) -> bool:
    try:
        await bus.check()
    except TryAgain:
        return False
    return True


async def test_every_consumer_acknowledges_explicitly_in_bounded_time_and_number(
    servers: Servers, client: Client, stream: str
) -> None:
    subscribers = Subscribers(servers.nats_url, "test")

    async def handle(_: Sequence[Msg]) -> None:
        return

    subscribers.on_batch(handle, stream=stream, subject=f"{stream}.>", durable="test-consumer", size=50)
    await subscribers.open()
    try:
        config = (await client.jetstream().consumer_info(stream, "test-consumer")).config
    finally:
        await subscribers.close()
    assert config.ack_policy == AckPolicy.EXPLICIT
    assert config.ack_wait is not None
    assert 0 < config.ack_wait <= 4 == ACK_WAIT
    assert config.max_deliver is not None
    assert 5 <= config.max_deliver <= 100
    assert config.max_deliver == MAX_DELIVER
    assert config.max_ack_pending == 1_000


async def test_nobody_builds_a_subscriber_with_the_frameworks_own_ack_policy() -> None:
    """RELIABILITY 1 and 2: its defaults delete a message on an error, or deliver it in a hot loop."""
    root = Path(__file__).parents[3]
    built = [
        path.relative_to(root).as_posix()
        for folder in ("libs", "services")
        for path in (root / folder).rglob("*.py")
        if ".subscriber(" in path.read_text()
    ]
    assert built == ["libs/memcube_common/src/memcube_common/bus/subscribers.py"]
    text = (root / built[0]).read_text()
    assert text.count(".subscriber(") == text.count("ack_policy=AckPolicy.MANUAL")


async def test_work_that_takes_longer_than_the_server_waits_is_not_given_to_another_process(
    servers: Servers, client: Client, stream: str
) -> None:
    deliveries: list[int] = []
    done = asyncio.Event()

    async def slow(messages: Sequence[Msg]) -> None:
        deliveries.extend(message.metadata.num_delivered for message in messages)
        await asyncio.sleep(ACK_WAIT + 1)  # the very thing under test is time
        for message in messages:
            await message.ack()
        done.set()

    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            subscribers = Subscribers(servers.nats_url, "test")
            subscribers.on_batch(slow, stream=stream, subject=f"{stream}.>", durable="slow")
            await subscribers.open()
            stack.push_async_callback(subscribers.close)
        await client.jetstream().publish(f"{stream}.a", b"x")
        await asyncio.wait_for(done.wait(), 10)
        info = await client.jetstream().consumer_info(stream, "slow")
    assert deliveries == [1]
    assert info.num_redelivered == 0


async def test_a_handler_that_fails_leaves_the_message_for_another_try(
    servers: Servers, client: Client, stream: str
) -> None:
    seen: list[int] = []

    async def fails_once(messages: Sequence[Msg]) -> None:
        for message in messages:
            seen.append(message.metadata.num_delivered)
            if message.metadata.num_delivered == 1:
                raise RuntimeError("the first time")
            await message.ack()

    subscribers = Subscribers(servers.nats_url, "test")
    subscribers.on_batch(fails_once, stream=stream, subject=f"{stream}.>", durable="fails-once")
    await subscribers.open()
    try:
        await client.jetstream().publish(f"{stream}.a", b"x")
        await eventually(lambda: seen == [1, 2], within=8)
        assert (await client.jetstream().stream_info(stream)).state.messages == 1
    finally:
        await subscribers.close()


async def test_subscribers_go_on_after_the_server_was_killed_and_came_back(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path, name="comes-and-goes") as server:
        async with bus_client(server.url) as client:
            await client.jetstream().add_stream(StreamConfig(name="s", subjects=["s.>"]))
        seen: list[bytes] = []

        async def handle(messages: Sequence[Msg]) -> None:
            for message in messages:
                seen.append(message.data)
                await message.ack()

        async def answer(body: bytes) -> bytes:
            return b"answer to " + body

        subscribers = Subscribers(server.url, "test")
        subscribers.on_batch(handle, stream="s", subject="s.>", durable="d")
        subscribers.on_ask(answer, subject="ask", queue="q")
        await subscribers.open()
        bus = await Bus.open(server.url, name="asks")
        try:
            await bus.publish("s", Letter("s.a", b"before", str(new_id())))
            await eventually(lambda: seen == [b"before"], within=5)
            assert await bus.ask("ask", b"1", timeout=2) == b"answer to 1"
            process = server.process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            await server.ended()
            with pytest.raises(TryAgain):
                await bus.publish("s", Letter("s.a", b"lost", str(new_id())), timeout=0.5)
            await server.start()
            await eventually(lambda: checks(bus), within=10)
            await bus.publish("s", Letter("s.a", b"after", str(new_id())))
            await eventually(lambda: b"after" in seen, within=10)
            assert await bus.ask("ask", b"2", timeout=2) == b"answer to 2"
        finally:
            await subscribers.close()
            await bus.close()


async def test_a_durable_made_otherwise_before_is_what_this_code_says_now(
    servers: Servers, client: Client, stream: str
) -> None:
    """A consumer left by an older version must not go on acknowledging as it did."""
    await client.jetstream().add_consumer(
        stream, ConsumerConfig(durable_name="old", ack_policy=AckPolicy.EXPLICIT, filter_subject=f"{stream}.>")
    )

    async def handle(_: Sequence[Msg]) -> None:
        return

    subscribers = Subscribers(servers.nats_url, "test")
    subscribers.on_batch(handle, stream=stream, subject=f"{stream}.>", durable="old")
    await subscribers.open()
    try:
        config = (await client.jetstream().consumer_info(stream, "old")).config
    finally:
        await subscribers.close()
    assert config.ack_wait is not None
    assert config.ack_wait <= 4


async def test_a_consumer_the_server_lost_is_made_again_and_heard(
    servers: Servers, client: Client, stream: str
) -> None:
    seen: list[bytes] = []

    async def handle(messages: Sequence[Msg]) -> None:
        for message in messages:
            seen.append(message.data)
            await message.ack()

    subscribers = Subscribers(servers.nats_url, "test")
    subscribers.on_batch(handle, stream=stream, subject=f"{stream}.>", durable="lost")
    running = asyncio.create_task(subscribers.run())
    try:
        await client.jetstream().publish(f"{stream}.a", b"before")
        await eventually(lambda: b"before" in seen, within=5)
        await client.jetstream().delete_consumer(stream, "lost")
        await client.jetstream().publish(f"{stream}.a", b"after")
        await eventually(lambda: b"after" in seen, within=10)
        assert not running.done()
    finally:
        await stopped(running)
        await subscribers.close()


async def test_questions_are_answered_several_at_once_and_a_failure_silences_none(servers: Servers) -> None:
    subject, together = f"ask.{uuid4().hex}", asyncio.Barrier(2)

    async def answered(message: Msg) -> bytes:
        if message.data == b"broken":
            raise ValueError("broken")
        await together.wait()
        return b"answer to " + message.data

    answering = await Bus.open(servers.nats_url, name="answers")
    asking = await Bus.open(servers.nats_url, name="asks")
    try:
        await answering.answer(subject, answered, queue="q", at_once=2)
        await answering.client.flush()
        with pytest.raises(TryAgain):
            await asking.ask(subject, b"broken", timeout=0.3)
        answers = await asyncio.gather(*(asking.ask(subject, body, timeout=5) for body in (b"1", b"2")))
        assert answers == [b"answer to 1", b"answer to 2"]
    finally:
        await asking.close()
        await answering.close()


async def test_everybody_is_asked_and_each_answer_is_there(servers: Servers) -> None:
    subject = f"ask.{uuid4().hex}"
    asking = await Bus.open(servers.nats_url, name="asks")
    others = [await Bus.open(servers.nats_url, name=f"other-{number}") for number in range(3)]
    try:
        for number, other in enumerate(others):

            async def answer(message: Msg, other: Bus = other, number: int = number) -> None:
                await other.client.publish(message.reply, str(number).encode())

            await other.listen(subject, answer)
            await other.client.flush()
        assert sorted(await asking.ask_everybody(subject, b"", within=0.3)) == [b"0", b"1", b"2"]
    finally:
        for bus in (asking, *others):
            await bus.close()
