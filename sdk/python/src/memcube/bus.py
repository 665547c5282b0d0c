"""Agents on NATS: publish what was learned, hear what became of it, follow what changes, and ask."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, Unpack
from uuid import UUID

import nats.errors
import nats.js.errors
from pydantic import ValidationError

from memcube.bodies import encoded, insight_body
from memcube.errors import (
    Invalid,
    MemCubeError,
    NotAllowed,
    NotSignedIn,
    TooLarge,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from memcube.link import Key, Link
from memcube.models import Found, Published, ReceiptNews
from memcube.news import ChangeStream, Pulled, ReceiptStream, Start
from memcube.patience import Patience
from memcube.queries import QueryOptions, answer_of, found_in, query_body
from memcube.scheduled import Schedule
from memcube.schedules import ScheduleOptions, schedule_body

__all__ = ["AgentConnection", "ChangeStream", "NotAllPublished", "Published", "ReceiptNews", "ReceiptStream"]

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
    async with AgentConnection("nats://127.0.0.1:4222", project="demo", agent="builder", key="mc_sec_…") as agent:
        async with agent.receipts() as receipts:
            sent = await agent.publish_insight("The cache must be warmed before the first deploy.")
            async for news in receipts:
                print(news.type, news.receipt_id == sent.id)
    ```

    nats_url: the server's address. project: a slug. agent: 1-64 characters of A-Z, a-z, 0-9, '_' and '-': your own
    name in the project, or any where the key's role is OWNER, ADMIN or SERVICE. key: a project key or an access token,
    or a function that returns the one that is good now. Without `key`, nats_url holds the credentials of a user of the
    house's own account: that one publishes and hears receipts, nothing else.
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
        key: Key | None = None,
        publish_timeout: float = PUBLISH_SECONDS,
        patience: Patience | None = None,
    ) -> None:
        if not _PROJECT.match(project):
            raise ValueError("project: 1-63 characters of a-z, 0-9 and '-', beginning with a letter or digit")
        if not _AGENT.match(agent):
            raise ValueError("agent: 1-64 characters of A-Z, a-z, 0-9, '_' and '-', not beginning with '-'")
        self.project = project
        self.agent = agent
        self._publish_timeout = publish_timeout
        self._patience = patience or Patience()
        self._link = Link(nats_url, project=project, agent=agent, key=key, seconds=publish_timeout)
        self._opened = False

    async def open(self) -> None:
        """Connect, waiting for the server at most as long as patience lasts.

        Raises Unreachable where no server answers, NotSignedIn where it refuses the credentials.
        """
        await self._link.open(max(self._patience.total, self._publish_timeout))
        self._opened = True

    async def close(self) -> None:
        """Close the connection; what was acknowledged is safe."""
        await self._link.close()

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
        return ReceiptStream(self._link, f"memcube.{self.project}.receipt.v1.{state}.{self.agent}", state)

    def changes(self, start: Start = "resume") -> ChangeStream:
        """The project's changes as far as this agent may hear of them, and what becomes of its own insights.

        start: `resume` goes on behind what this agent heard last, and begins now the first time; `new`, `all` (the last
        30 days) or a moment begin there. Every connection of the same agent takes from the same place: each change
        goes to one of them. A place nobody comes back to is forgotten after seven days.

        Raises NotAllowed, when it is opened, for a key whose role may not follow.
        """
        self._must_be_agent()
        return ChangeStream(Pulled(self._link, "changes", start))

    async def query(
        self, words: str | None = None, /, *, timeout: float = 5.0, **options: Unpack[QueryOptions]
    ) -> Found:
        """Find memories; `words` are the `text` of `QueryOptions`. Raises Invalid, Unavailable, Unreachable."""
        self._must_be_agent()
        body = query_body({} if words is None else {"text": words}, options)
        said = await self._link.ask("query", encoded(body), timeout=timeout)
        try:
            return found_in(answer_of(body).model_validate(said))
        except ValidationError:
            raise Unavailable("the answer could not be read") from None

    async def schedule(
        self, request: Mapping[str, Any] | None = None, /, *, timeout: float = 5.0, **options: Unpack[ScheduleOptions]
    ) -> Schedule:
        """Have memories chosen for this agent inside its budget; see `ScheduleOptions`, without `agent_id`.

        Raises Invalid, TooLarge beyond what one message holds (1 MB: ask for less, or over HTTP), NotAllowed,
        Unavailable, Unreachable.
        """
        self._must_be_agent()
        said = await self._link.ask("schedule", encoded(schedule_body(request, options)), timeout=timeout)
        try:
            return Schedule.model_validate(said)
        except ValidationError:
            raise Unavailable("the answer could not be read") from None

    def _must_be_agent(self) -> None:
        if not self._link.is_agent:
            raise NotAllowed("this needs a connection that was opened with `key`")

    async def _publish(self, body: dict[str, Any]) -> Published:
        if not self._opened:
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
                ack = await self._link.client.jetstream(timeout=self._publish_timeout).publish(
                    subject,
                    payload,
                    timeout=self._publish_timeout,
                    stream=STREAM,
                    headers={"Nats-Msg-Id": str(identity)},
                )
                return Published(id=identity, sequence=ack.seq, duplicate=bool(ack.duplicate))
            except NotSignedIn as error:
                failure = error
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


def _what_next(error: Exception) -> MemCubeError:
    """What a failed publish means: try again (Unavailable), or never (anything else). Raises what is not NATS'."""
    match error:
        case nats.errors.MaxPayloadError():
            return TooLarge("an insight may take at most 256 KiB on the bus")
        case nats.js.errors.APIError() if error.err_code == 10054:
            return TooLarge("an insight may take at most 256 KiB on the bus")
        case nats.js.errors.APIError() if error.code == 403:
            return NotAllowed("this key may not publish insights")
        case nats.js.errors.APIError() if error.code == 429:
            return TooManyRequests("this key or project publishes more often than its limit allows")
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
