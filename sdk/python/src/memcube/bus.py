"""Agents on NATS: publish what was learned, and hear what became of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from pydantic import ValidationError

from memcube.bodies import encoded, insight_body
from memcube.errors import Invalid, MemCubeError, NotSignedIn, TooLarge, Unavailable, Unreachable
from memcube.models import Published, ReceiptNews
from memcube.patience import Patience

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.js import JetStreamContext

__all__ = ["AgentConnection", "NotAllPublished", "Published", "ReceiptNews", "ReceiptStream"]

STREAM: Final = "INSIGHTS"
PUBLISH_SECONDS: Final = 5.0
WINDOW: Final = 256
_PROJECT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_AGENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")


class NotAllPublished(MemCubeError):
    """Some of the insights were not published; publish those again, with the same ids.

    published: by place in what was given, from 0. failed: the same, with the reason of each.
    """

    usual_code = "not_all_published"

    def __init__(self, published: Mapping[int, Published], failed: Mapping[int, MemCubeError]) -> None:
        first = min(failed)
        super().__init__(
            f"{len(failed)} of {len(published) + len(failed)} insights were not published; "
            f"the first at place {first}: {failed[first]}"
        )
        self.published = published
        self.failed = failed


class AgentConnection:
    """One agent's connection to the bus of a project.

    ```python
    async with AgentConnection("nats://…@127.0.0.1:4222", project="demo", agent="builder") as agent:
        async with agent.receipts() as receipts:
            sent = await agent.publish_insight("The cache must be warmed before the first deploy.")
            async for news in receipts:
                print(news.type, news.receipt_id == sent.id)
    ```

    nats_url: with credentials inside. project: a slug. agent: 1-64 characters of A-Z, a-z, 0-9, '_' and '-'.
    publish_timeout: seconds to wait for one acknowledgement. patience: how long a publish is tried again; a NATS
    cluster may need 7 s for a new leader, so at least 15 s are advised.

    The connection comes back by itself for ever. Raises ValueError for names that may not stand in a subject.
    """

    def __init__(
        self,
        nats_url: str,
        *,
        project: str,
        agent: str,
        publish_timeout: float = PUBLISH_SECONDS,
        patience: Patience | None = None,
    ) -> None:
        if not _PROJECT.match(project):
            raise ValueError("project: 1-63 characters of a-z, 0-9 and '-', beginning with a letter or digit")
        if not _AGENT.match(agent):
            raise ValueError("agent: 1-64 characters of A-Z, a-z, 0-9, '_' and '-', not beginning with '-'")
        self.project = project
        self.agent = agent
        self._url = nats_url
        self._publish_timeout = publish_timeout
        self._patience = patience or Patience()
        self._client = Client()
        self._jetstream: JetStreamContext | None = None

    async def open(self) -> None:
        """Connect, waiting for the server at most as long as patience lasts.

        Raises Unreachable where no server answers, NotSignedIn where it refuses the credentials.
        """
        refused = asyncio.Event()

        async def noticed(error: Exception) -> None:
            if isinstance(error, nats.errors.AuthorizationError) or "Authorization Violation" in str(error):
                refused.set()

        connecting = asyncio.ensure_future(
            self._client.connect(
                self._url,
                name=f"memcube-agent-{self.agent}",
                connect_timeout=max(1, int(self._publish_timeout)),
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.5,  # pyright: ignore[reportArgumentType]
                error_cb=noticed,
            )
        )
        refusal = asyncio.ensure_future(refused.wait())
        try:
            within = max(self._patience.total, self._publish_timeout)
            await asyncio.wait({connecting, refusal}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if refused.is_set():
                raise NotSignedIn("the NATS server refuses these credentials")
            if not connecting.done():
                raise Unreachable("no answer from the NATS server")
            connecting.result()
        except (OSError, nats.errors.Error) as error:
            raise Unreachable(f"no answer from the NATS server ({type(error).__name__})") from None
        finally:
            refusal.cancel()
            if not connecting.done():
                connecting.cancel()
                await asyncio.gather(connecting, return_exceptions=True)
                await self._client.close()
        self._jetstream = self._client.jetstream(timeout=self._publish_timeout)

    async def close(self) -> None:
        """Close the connection; what was acknowledged is safe."""
        await self._client.close()

    async def publish_insight(
        self,
        insight: str | Mapping[str, Any],
        *,
        id: UUID | str | None = None,
        label: str | None = None,
        tags: Sequence[str] | None = None,
        evidence_refs: Sequence[str] | None = None,
        sentiment: float | None = None,
        priority: str | None = None,
        governance: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Published:
        """Publish one insight and wait until the stream has it for good; see `Insights.submit` for the fields.

        The sender is the connection's agent. What the stream takes is not checked here: an insight outside the
        limits is parked, and its receipt says so. The id of the receipt is the id of the insight.

        Raises TooLarge beyond 256 KiB, and Unavailable or Unreachable when patience ends: it may or may not have
        arrived, so publish again with the same id.
        """
        return await self._publish(
            insight_body(
                insight,
                id=id,
                label=label,
                tags=tags,
                evidence_refs=evidence_refs,
                sentiment=sentiment,
                priority=priority,
                governance=governance,
                metadata=metadata,
            )
        )

    async def publish_many(
        self, insights: Iterable[str | Mapping[str, Any]], *, window: int = WINDOW
    ) -> list[Published]:
        """Publish any number of insights, at most `window` waiting for their acknowledgement at a time.

        Returns in the order given. Raises NotAllPublished, after all were tried, where some were refused or
        patience ended; give ids to be able to publish those again without doubling any.
        """
        waiting = enumerate(insights)
        published: dict[int, Published] = {}
        failed: dict[int, MemCubeError] = {}

        async def work() -> None:
            for place, insight in waiting:
                try:
                    published[place] = await self._publish(insight_body(insight))
                except MemCubeError as error:
                    failed[place] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, window)):
                group.create_task(work())
        if failed:
            raise NotAllPublished(published, failed)
        return [published[place] for place in range(len(published))]

    def receipts(self, state: str = "*") -> ReceiptStream:
        """What becomes of this agent's insights, from the moment the stream is opened on.

        state: `stored`, `searchable`, `failed`, `parked`, or `*` for all. What happens while nobody listens is not
        repeated here; ask the gateway for a receipt.
        """
        return ReceiptStream(self._client, f"memcube.{self.project}.receipt.v1.{state}.{self.agent}")

    async def _publish(self, body: dict[str, Any]) -> Published:
        if self._jetstream is None:
            raise RuntimeError("the connection is not open: use `async with` or `await open()`")
        body.pop("agent_id", None)
        identity = UUID(str(body["id"]))
        payload = encoded(body)
        subject = f"memcube.{self.project}.insight.v1.submitted.{self.agent}"
        clock = asyncio.get_running_loop().time
        give_up = clock() + self._patience.total
        attempt = 0
        while True:
            attempt += 1
            try:
                ack = await self._jetstream.publish(
                    subject,
                    payload,
                    timeout=self._publish_timeout,
                    stream=STREAM,
                    headers={"Nats-Msg-Id": str(identity)},
                )
                return Published(id=identity, sequence=ack.seq, duplicate=bool(ack.duplicate))
            except Exception as error:
                failure = _what_next(error)
            pause = self._patience.pause(attempt, failure.after)
            if not isinstance(failure, Unavailable) or clock() + pause > give_up:
                raise failure
            await asyncio.sleep(pause)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class ReceiptStream:
    """Receipts as they come. `async with` listens from that moment on; `async for` alone from its first step."""

    def __init__(self, client: Client, subject: str) -> None:
        self._client = client
        self._subject = subject
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Begin to listen; when this returns, the server knows of it."""
        if self._subscription is None:
            self._subscription = await self._client.subscribe(self._subject)
            await self._client.flush()

    async def close(self) -> None:
        """Stop listening."""
        if self._subscription is not None and not self._client.is_closed:
            await self._subscription.unsubscribe()
        self._subscription = None

    def __aiter__(self) -> AsyncIterator[ReceiptNews]:
        return self

    async def __anext__(self) -> ReceiptNews:
        await self.open()
        assert self._subscription is not None
        while True:
            try:
                message: Msg = await self._subscription.next_msg(timeout=None)
            except (nats.errors.ConnectionClosedError, nats.errors.BadSubscriptionError):
                raise StopAsyncIteration from None
            try:
                said = json.loads(message.data)
                return ReceiptNews.model_validate({"type": ".".join(message.subject.split(".")[2:5]), **said})
            except (ValueError, TypeError, ValidationError):
                continue

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _what_next(error: Exception) -> MemCubeError:
    """What a failed publish means: try again (Unavailable), or never (anything else). Raises what is not NATS'."""
    match error:
        case nats.errors.MaxPayloadError():
            return TooLarge("an insight may take at most 256 KiB on the bus")
        case nats.js.errors.APIError() if error.err_code == 10054:
            return TooLarge("an insight may take at most 256 KiB on the bus")
        case nats.js.errors.APIError() if error.code is not None and error.code < 500:
            return Invalid(f"the stream refuses this insight ({error.err_code})")
        case nats.errors.AuthorizationError():
            return NotSignedIn("the NATS server refuses these credentials")
        case nats.js.errors.Error() | nats.errors.NoRespondersError():
            return Unavailable(f"the stream does not take insights now ({type(error).__name__})")
        case nats.errors.Error() | TimeoutError() | OSError():
            return Unreachable(f"no acknowledgement from the NATS server ({type(error).__name__})")
        case _:
            raise error
