"""The one place that builds subscribers: durable pull consumers in batches, and asks in queue groups."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

from faststream import AckPolicy
from faststream.nats import ConsumerConfig, JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.msg import Msg

from memcube_common.bus.fetch import correct_fetch

ACK_WAIT: Final = 4.0
HEARTBEAT: Final = 1.0
MAX_DELIVER: Final = 20

BatchHandler = Callable[[Sequence[Msg]], Awaitable[None]]
AskHandler = Callable[[bytes], Awaitable[bytes]]


class Subscribers:
    """What a room hears on the bus. Opened after everything its handlers need, closed before it."""

    def __init__(self, url: str, name: str) -> None:
        correct_fetch()
        self._broker = NatsBroker(
            url,
            name=f"memcube-{name}-subscribers",
            connect_timeout=2,
            reconnect_time_wait=1,
            max_reconnect_attempts=-1,
            graceful_timeout=5,
            logger=logging.getLogger("memcube.bus"),
            log_level=logging.DEBUG,
        )

    def on_batch(
        self, handler: BatchHandler, *, stream: str, subject: str, durable: str, size: int = 500, linger: float = 0.05
    ) -> None:
        """Give `handler` up to `size` messages at a time, after at most `linger` seconds of gathering.

        The handler acknowledges each message itself, after its commit; while it works, the server is told so every
        second. Messages it leaves alone come back after 4 s.
        """

        async def batch(message: NatsMessage) -> None:
            raw = message.raw_message
            messages: list[Msg] = raw if isinstance(raw, list) else [raw]
            async with _kept_in_progress(messages):
                await handler(messages)

        self._broker.subscriber(
            subject,
            stream=JStream(stream, declare=False),
            durable=durable,
            pull_sub=PullSub(batch_size=size, timeout=linger, batch=True),
            config=ConsumerConfig(ack_wait=ACK_WAIT, max_deliver=MAX_DELIVER, max_ack_pending=size * 4),
            ack_policy=AckPolicy.MANUAL,
        )(batch)

    def on_ask(self, handler: AskHandler, *, subject: str, queue: str) -> None:
        """Answer questions on `subject`, each by one process of `queue`."""

        async def ask(message: NatsMessage) -> bytes:
            return await handler(message.raw_message.data)

        self._broker.subscriber(subject, queue=queue, ack_policy=AckPolicy.MANUAL, max_workers=32)(ask)

    async def open(self) -> None:
        """Connect and begin to hear; waits for the server as long as it takes."""
        await self._broker.start()

    async def close(self) -> None:
        """Stop hearing; handlers in flight get five seconds."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._broker.stop(), 6)


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
