"""The one place that builds subscribers: durable pull consumers in batches, and asks in queue groups."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

import nats.errors
import structlog
from faststream import AckPolicy
from faststream.nats import ConsumerConfig, JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from memcube_common.bus.accounts import inbox_of
from memcube_common.bus.encoding import correct_subjects
from memcube_common.bus.fetch import correct_fetch

ACK_WAIT: Final = 4.0
HEARTBEAT: Final = 1.0
MAX_DELIVER: Final = 20
LOOK_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)

BatchHandler = Callable[[Sequence[Msg]], Awaitable[None]]
AskHandler = Callable[[bytes], Awaitable[bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Durable:
    """A consumer as it must be on the server."""

    stream: str
    name: str
    config: ConsumerConfig


class Subscribers:
    """What a room hears on the bus. Opened after everything its handlers need, closed before it."""

    def __init__(self, url: str, name: str) -> None:
        correct_fetch()
        correct_subjects()
        self._durables: list[_Durable] = []
        self._inbox = inbox_of(name)
        self._broker = NatsBroker(
            url,
            name=f"memcube-{name}-subscribers",
            inbox_prefix=self._inbox,
            connect_timeout=2,
            reconnect_time_wait=1,
            max_reconnect_attempts=-1,
            ping_interval=5,
            max_outstanding_pings=2,
            graceful_timeout=5,
            logger=logging.getLogger("memcube.bus"),
            log_level=logging.DEBUG,
        )

    def on_batch(
        self, handler: BatchHandler, *, stream: str, subject: str, durable: str, size: int = 500, linger: float = 0.05
    ) -> None:
        """Give `handler` up to `size` messages at a time, after at most `linger` seconds of gathering.

        The handler acknowledges each message itself, after its commit; while it works, the server is told so every
        second. Messages it leaves alone come back after 4 s. Up to 20 batches may be out: what one project has to wait
        for keeps nobody else's messages from coming.
        """

        async def batch(message: NatsMessage) -> None:
            raw = message.raw_message
            messages: list[Msg] = raw if isinstance(raw, list) else [raw]
            async with _kept_in_progress(messages):
                await handler(messages)

        config = ConsumerConfig(ack_wait=ACK_WAIT, max_deliver=MAX_DELIVER, max_ack_pending=size * 20)
        named = dataclasses.replace(config, name=durable, durable_name=durable, filter_subject=subject)
        self._durables.append(_Durable(stream, durable, named))
        self._broker.subscriber(
            subject,
            stream=JStream(stream, declare=False),
            durable=durable,
            inbox_prefix=f"{self._inbox}.".encode(),  # a pull subscriber does not take the connection's
            pull_sub=PullSub(batch_size=size, timeout=linger, batch=True),
            config=config,
            decoder=_undecoded,
            ack_policy=AckPolicy.MANUAL,
        )(batch)

    def on_ask(self, handler: AskHandler, *, subject: str, queue: str) -> None:
        """Answer questions on `subject`, each by one process of `queue`."""

        async def ask(message: NatsMessage) -> bytes:
            return await handler(message.raw_message.data)

        self._broker.subscriber(subject, queue=queue, decoder=_undecoded, ack_policy=AckPolicy.MANUAL, max_workers=32)(
            ask
        )

    async def open(self) -> None:
        """Connect and begin to hear; waits for the server as long as it takes.

        A durable consumer that an older version or other settings left is brought up to date first.
        """
        jetstream = (await self._broker.connect()).jetstream()
        for durable in self._durables:
            await jetstream.add_consumer(durable.stream, durable.config)
        await self._broker.start()

    async def run(self) -> None:
        """Open, and go on for ever: a consumer that the server lost (its store was) is made again."""
        await self.open()
        jetstream = (await self._broker.connect()).jetstream(timeout=LOOK_SECONDS)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for durable in self._durables:
                with contextlib.suppress(nats.errors.Error, TimeoutError):  # away: the next look will do
                    await _ensure(durable, jetstream)

    async def close(self) -> None:
        """Stop hearing; handlers in flight get five seconds."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._broker.stop(), 6)


async def _undecoded(message: NatsMessage) -> bytes:
    """The body as it came. The framework's own decoder believes the sender's content-type header and, where that
    lies, drops the whole batch before the handler sees it.
    """
    return message.body


async def _ensure(durable: _Durable, jetstream: JetStreamContext) -> None:
    try:
        await jetstream.consumer_info(durable.stream, durable.name)
    except NotFoundError:
        await jetstream.add_consumer(durable.stream, durable.config)
        _log.warning("consumer_made_again", consumer=durable.name)


@contextlib.asynccontextmanager
async def _kept_in_progress(messages: Sequence[Msg]) -> AsyncGenerator[None]:
    """Tell the server every second that these messages are being worked on."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            for message in messages:
                if not message._ackd:  # pyright: ignore[reportPrivateUsage]
                    with contextlib.suppress(Exception):
                        await message.in_progress()

    beating = asyncio.create_task(beat(), name="in-progress")
    try:
        yield
    finally:
        beating.cancel()
