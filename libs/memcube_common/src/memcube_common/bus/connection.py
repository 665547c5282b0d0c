"""One connection to NATS: it comes and goes, and what hangs on it only rings, asks and publishes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from uuid_utils.compat import uuid7

from memcube_common.bus.accounts import inbox_of
from memcube_common.bus.encoding import correct_subjects
from memcube_common.errors import TryAgain

ATOMIC_BATCH_MAX: Final = 1000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Letter:
    """One message for a stream: `msg_id` lets the server drop a repeat within its window."""

    subject: str
    body: bytes
    msg_id: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Bell:
    """Rung from elsewhere when there may be work: a hint that saves a wait, never the only sign of it."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits, or the next one who does."""
        self._rung.set()

    async def wait(self, at_most: float) -> None:
        """Return when rung, or after `at_most` seconds."""
        # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the ring.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await self._rung.wait()
        self._rung.clear()


class Bus:
    """A connection to NATS that reconnects for ever. Nothing here waits for a server that is away."""

    def __init__(self, url: str, name: str) -> None:
        correct_subjects()
        self._url = url
        self._name = name
        self._client = Client()
        self._connecting: asyncio.Task[None] | None = None
        self._subscriptions: list[tuple[str, str, Callable[[Msg], Awaitable[None]]]] = []
        self._answering: set[asyncio.Task[None]] = set()
        self._on_reconnect: list[Callable[[], None]] = []

    @classmethod
    async def open(cls, url: str, *, name: str, patience: float = 2.0) -> Bus:
        """Connect as `name`; after `patience` seconds without a server, go on connecting in the background."""
        bus = cls(url, name)
        bus._connecting = asyncio.create_task(bus._connect(), name="bus-connect")
        await asyncio.wait({bus._connecting}, timeout=patience)
        return bus

    @property
    def connected(self) -> bool:
        """Whether the server is there at this moment."""
        return self._client.is_connected

    @property
    def client(self) -> Client:
        """The nats-py client, for JetStream's management calls."""
        return self._client

    async def check(self) -> None:
        """Return if the server answers; raise TryAgain if not."""
        if not self.connected:
            raise TryAgain("NATS is away")
        try:
            await self._client.flush(timeout=1)
        except (nats.errors.Error, TimeoutError) as error:
            raise TryAgain("NATS does not answer") from error

    async def close(self) -> None:
        """Say good-bye; what is buffered is sent if the server is there."""
        if self._connecting is not None:
            self._connecting.cancel()
        for working in tuple(self._answering):
            working.cancel()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.drain() if self.connected else self._client.close(), 2)

    async def ring(self, subject: str) -> None:
        """Ring a bell, if anybody can hear it."""
        if self.connected:
            with contextlib.suppress(nats.errors.Error):
                await self._client.publish(subject)

    async def bell(self, subject: str) -> Bell:
        """A bell that rings on `subject`, and when the connection comes back."""
        bell = Bell()

        async def heard(_: Msg) -> None:
            bell.ring()

        await self.listen(subject, heard)
        self._on_reconnect.append(bell.ring)
        return bell

    async def listen(self, subject: str, heard: Callable[[Msg], Awaitable[None]], *, queue: str = "") -> None:
        """Call `heard` for each message on `subject`, now or as soon as there is a connection.

        Of all that listen in one `queue`, one hears each message.
        """
        self._subscriptions.append((subject, queue, heard))
        if self.connected:
            await self._client.subscribe(subject, queue, cb=heard)

    async def answer(
        self, subject: str, answered: Callable[[Msg], Awaitable[bytes]], *, queue: str, at_once: int = 64
    ) -> None:
        """Answer the questions on `subject`, each by one process of `queue`; this one works at `at_once` at most.

        `answered` answers failures too: whatever it raises is only logged, and the asker waits in vain.
        """
        places = asyncio.Semaphore(at_once)

        async def work(message: Msg) -> None:
            try:
                answer = await answered(message)
                if message.reply and self.connected:
                    await self._client.publish(message.reply, answer)
            except Exception as error:
                _log.error("question_not_answered", error=type(error).__name__)
            finally:
                places.release()

        async def heard(message: Msg) -> None:
            await places.acquire()
            working = asyncio.create_task(work(message), name="answer")
            self._answering.add(working)
            working.add_done_callback(self._answering.discard)

        await self.listen(subject, heard, queue=queue)

    def on_reconnect(self, call: Callable[[], None]) -> None:
        """Call `call` each time the connection comes back: what was said meanwhile was not heard."""
        self._on_reconnect.append(call)

    async def ask(self, subject: str, body: bytes, *, timeout: float) -> bytes:
        """The answer to a question; `timeout` in seconds.

        Raises TryAgain where nobody listens or the answer does not come in time.
        """
        if not self.connected:
            raise TryAgain("NATS is away")
        try:
            return (await self._client.request(subject, body, timeout=timeout)).data
        except (nats.errors.Error, TimeoutError) as error:
            raise TryAgain("nobody answered on the bus") from error

    async def ask_everybody(self, subject: str, body: bytes, *, within: float) -> list[bytes]:
        """Every answer to a question that comes `within` seconds. Raises TryAgain."""
        if not self.connected:
            raise TryAgain("NATS is away")
        answers: list[bytes] = []

        async def heard(message: Msg) -> None:
            answers.append(message.data)

        try:
            inbox = self._client.new_inbox()
            hearing = await self._client.subscribe(inbox, cb=heard)
            try:
                await self._client.publish(subject, body, reply=inbox)
                await asyncio.sleep(within)
            finally:
                await hearing.unsubscribe()
        except (nats.errors.Error, TimeoutError) as error:
            raise TryAgain("nobody could be asked on the bus") from error
        return answers

    async def publish(self, stream: str, letter: Letter, *, timeout: float = 5.0) -> None:
        """Put one message into `stream`; returns when the server has it on disk. Raises TryAgain."""
        await self._publish(stream, letter, timeout)

    async def publish_all(self, stream: str, letters: Sequence[Letter], *, timeout: float = 10.0) -> None:
        """Put messages into `stream` in order, in atomic batches (one fsync each); a repeat is dropped by its id.

        Raises TryAgain where the server does not confirm all of them; sending all again is harmless.
        """
        for start in range(0, len(letters), ATOMIC_BATCH_MAX):
            batch = letters[start : start + ATOMIC_BATCH_MAX]
            if len(batch) == 1 or not await self._publish_atomic(batch, timeout):
                for letter in batch:
                    await self._publish(stream, letter, timeout)

    async def _publish(self, stream: str, letter: Letter, timeout: float) -> None:
        if not self.connected:
            raise TryAgain("NATS is away")
        try:
            await self._client.jetstream(timeout=timeout).publish(
                letter.subject,
                letter.body,
                stream=stream,
                headers={**letter.headers, "Nats-Msg-Id": letter.msg_id},
                timeout=timeout,
            )
        except (nats.errors.Error, TimeoutError) as error:
            raise TryAgain("NATS did not confirm a message") from error

    async def _publish_atomic(self, batch: Sequence[Letter], timeout: float) -> bool:
        """One atomic batch (nats-server ≥ 2.12); False where the server refused it, e.g. because of a repeat."""
        if not self.connected:
            raise TryAgain("NATS is away")
        batch_id = uuid7().hex
        try:
            for number, letter in enumerate(batch[:-1], start=1):
                headers = {
                    **letter.headers,
                    "Nats-Batch-Id": batch_id,
                    "Nats-Batch-Sequence": str(number),
                    "Nats-Msg-Id": letter.msg_id,
                }
                await self._client.publish(letter.subject, letter.body, headers=headers)
            last = batch[-1]
            headers = {
                **last.headers,
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(len(batch)),
                "Nats-Batch-Commit": "1",
                "Nats-Msg-Id": last.msg_id,
            }
            answer = await self._client.request(last.subject, last.body, timeout=timeout, headers=headers)
        except (nats.errors.Error, TimeoutError) as error:
            raise TryAgain("NATS did not confirm a batch") from error
        return b'"error"' not in answer.data

    async def _connect(self) -> None:
        await self._client.connect(
            self._url,
            name=f"memcube-{self._name}",
            inbox_prefix=inbox_of(self._name).encode(),
            connect_timeout=2,
            reconnect_time_wait=1,
            max_reconnect_attempts=-1,
            ping_interval=5,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            reconnected_cb=self._on_back,
        )
        for subject, queue, heard in self._subscriptions:
            await self._client.subscribe(subject, queue, cb=heard)
        for call in self._on_reconnect:
            call()

    async def _on_error(self, error: Exception) -> None:
        _log.debug("bus_error", error=type(error).__name__)

    async def _on_back(self) -> None:
        _log.info("bus_back")
        for call in self._on_reconnect:
            call()
