"""What an agent hears over NATS: its project's changes, and what becomes of its own insights."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import nats.errors
from pydantic import ValidationError

from memcube.errors import Unavailable
from memcube.link import Link, status_of
from memcube.models import Change, ReceiptNews
from memcube.patience import Patience

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

Start = Literal["resume", "new", "all"] | datetime

API: Final = "MC.API"
ASK_SECONDS: Final = 5.0
PULL_SECONDS: Final = 20.0
AT_ONCE: Final = 64
_RETURN: Final = Patience(total=0.0, first_pause=0.1, longest_pause=5.0)


class Pulled:
    """Messages of the consumer that the gateway names for this agent, over however many connections it takes."""

    def __init__(self, link: Link, of: Literal["changes", "receipts"], start: Start) -> None:
        self._link = link
        self._of = of
        self._start = start
        self._on: Client | None = None
        self._durable = ""
        self._inbox: Subscription | None = None
        self._expected = 0

    async def open(self) -> None:
        """Have the consumer made; when this returns, the server knows of it. Raises MemCubeError."""
        client = await self._link.ready()
        if client is None or self._on is client:
            return
        start = self._start.isoformat() if isinstance(self._start, datetime) else self._start
        said = await self._link.ask(
            "follow", json.dumps({"of": self._of, "start": start}).encode(), timeout=ASK_SECONDS
        )
        self._durable = str(said["durable"])
        self._start = "resume"  # over the next connection it goes on where it was
        self._inbox = await client.subscribe(client.new_inbox())
        self._expected = 0
        self._on = client

    async def next(self) -> Msg | None:
        """The next message, waiting for ever; None when the connection was closed for good. Raises NotAllowed."""
        failures = 0
        while True:
            try:
                if await self._link.ready() is None:
                    return None
                await self.open()
                message = await self._next()
                failures = 0
            except (Unavailable, nats.errors.Error, OSError):
                self._on = None
                failures += 1
                await asyncio.sleep(_RETURN.pause(failures))
                continue
            if message is not None:
                return message

    async def close(self) -> None:
        """Pull no more."""
        if self._inbox is not None and self._on is not None and not self._on.is_closed:
            with contextlib.suppress(nats.errors.Error):
                await self._inbox.unsubscribe()
        self._inbox = self._on = None

    async def _next(self) -> Msg | None:
        """A message, or None where the pull ended without one."""
        assert self._inbox is not None
        assert self._on is not None
        if not self._expected:
            pull = json.dumps({"batch": AT_ONCE, "expires": int(PULL_SECONDS * 1_000_000_000)})
            subject = f"{API}.CONSUMER.MSG.NEXT.CHANGES.{self._durable}"
            await self._on.publish(subject, pull.encode(), reply=self._inbox.subject)
            self._expected = AT_ONCE
        try:
            message = await self._inbox.next_msg(timeout=PULL_SECONDS + 5.0)
        except nats.errors.TimeoutError:
            self._expected = 0
            return None
        status = status_of(message)
        if status is None:
            self._expected -= 1
            return message
        self._expected = 0
        if status not in ("404", "408"):
            raise Unavailable(f"the consumer answers {status}")
        return None


class ChangeStream:
    """Changes as they come. One counts as heard when the next is asked for: until then it is delivered again."""

    def __init__(self, pulled: Pulled) -> None:
        self._pulled = pulled
        self._given: Msg | None = None

    async def open(self) -> None:
        """Have the consumer made; when this returns, what happens from now on is kept for this agent."""
        await self._pulled.open()

    async def close(self) -> None:
        """Acknowledge what was handed out last, and stop; another connection of this agent goes on behind it."""
        await self._acknowledge()
        await self._pulled.close()

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        await self._acknowledge()
        while True:
            message = await self._pulled.next()
            if message is None:
                raise StopAsyncIteration
            self._given = message
            try:
                return Change.model_validate(_said(message))
            except (ValueError, TypeError, ValidationError):
                await self._acknowledge()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self._acknowledge()
        await self._pulled.close()

    async def _acknowledge(self) -> None:
        if self._given is not None:
            with contextlib.suppress(nats.errors.Error, OSError):  # not acknowledged: it comes again
                await self._given.ack()
        self._given = None


class ReceiptStream:
    """Receipts as they come. `async with` listens from that moment on; `async for` alone from its first step."""

    def __init__(self, link: Link, subject: str, state: str) -> None:
        self._link = link
        self._subject = subject
        self._state = state
        self._subscription: Subscription | None = None
        self._pulled = Pulled(link, "receipts", "resume") if link.is_agent else None

    async def open(self) -> None:
        """Begin to listen; when this returns, the server knows of it."""
        if self._pulled is not None:
            await self._pulled.open()
        elif self._subscription is None:
            self._subscription = await self._link.client.subscribe(self._subject)
            await self._link.client.flush()

    async def close(self) -> None:
        """Stop listening."""
        if self._pulled is not None:
            await self._pulled.close()
        elif self._subscription is not None and not self._link.client.is_closed:
            await self._subscription.unsubscribe()
        self._subscription = None

    def __aiter__(self) -> AsyncIterator[ReceiptNews]:
        return self

    async def __anext__(self) -> ReceiptNews:
        while True:
            message = await self._next()
            if message is None:
                raise StopAsyncIteration
            try:
                news = ReceiptNews.model_validate(_said(message))
            except (ValueError, TypeError, ValidationError):
                continue
            if self._state in ("*", news.type.rpartition(".")[2]):
                return news

    async def _next(self) -> Msg | None:
        if self._pulled is not None:
            message = await self._pulled.next()
            if message is not None:
                with contextlib.suppress(nats.errors.Error, OSError):
                    await message.ack()
            return message
        await self.open()
        assert self._subscription is not None
        try:
            return await self._subscription.next_msg(timeout=None)
        except (nats.errors.ConnectionClosedError, nats.errors.BadSubscriptionError):
            return None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _said(message: Msg) -> dict[str, Any]:
    """The event, with its name: the body has it, older ones only in their subject."""
    said: dict[str, Any] = json.loads(message.data)
    return {"type": ".".join(message.subject.split(".")[2:5]), **said}
