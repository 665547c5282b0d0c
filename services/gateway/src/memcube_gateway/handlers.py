"""What the gateway hears on the bus: every change, fanned out in memory to those who follow or wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Final
from uuid import UUID

import orjson
import structlog
from nats.aio.msg import Msg

from memcube_common.bus import Bus
from memcube_common.contracts import subjects
from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.governance.domain import Access, access_from_header
from memcube_common.mailbox.feed import ACCESS_HEADER
from memcube_common.security.principal import Principal
from memcube_gateway import store
from memcube_gateway.domain import NOBODY, Framed, RecentChanges, effect_of, frame, woken_ids

PAGE: Final = 500
LOOK_WHILE_DEAF: Final = 0.5
LOOK_WHILE_HEARING: Final = 5.0
PATIENCE: Final = 1.8
GOVERNED_TYPES: Final = tuple(f"{noun}." for noun in subjects.GOVERNED)
_log = structlog.get_logger(__name__)


class Channel:
    """The changes of one project as this process knows them, kept while anybody follows."""

    __slots__ = ("_news", "behind", "filling", "followers", "project", "recent")

    def __init__(self, project: str) -> None:
        self.project = project
        self.recent: RecentChanges | None = None
        self.followers = 0
        self.behind = True
        self.filling: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def news(self) -> asyncio.Event:
        """Set when something new is there; the next news is another event."""
        return self._news

    def wake(self) -> None:
        """Wake everyone who waits for news."""
        self._news.set()
        self._news = asyncio.Event()


class Changes:
    """Every change, as it happens: one subscription per process, filled up from Postgres wherever the bus was silent.

    NATS is only the quick way: a position that is not the next one shows that something was missed, and what was
    missed is read from the feed. While NATS is away the feed is looked at twice a second.
    """

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus
        self._channels: dict[str, Channel] = {}
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._streams: Counter[str] = Counter()
        self._look = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def closing(self) -> bool:
        """Whether the gateway is going down, so that streams should end."""
        return self._closing.is_set()

    @property
    def followers(self) -> int:
        """How many follow at this moment."""
        return sum(channel.followers for channel in self._channels.values())

    def followers_of(self, project: str) -> int:
        """How many follow one project."""
        channel = self._channels.get(project)
        return 0 if channel is None else channel.followers

    def streams_of(self, credential: str) -> int:
        """How many streams one credential keeps open."""
        return self._streams[credential]

    @contextlib.contextmanager
    def counted(self, credential: str) -> Generator[None]:
        """One more stream of `credential`, as long as the block lasts."""
        self._streams[credential] += 1
        try:
            yield
        finally:
            self._streams[credential] -= 1
            if not self._streams[credential]:
                del self._streams[credential]

    async def open(self) -> None:
        """Listen on the bus, now or as soon as it is there."""
        for subject in subjects.CHANGES:
            await self._bus.listen(subject, self.on_change)
        self._bus.on_reconnect(self._look.set)

    def close(self) -> None:
        """End every stream: the readers resume elsewhere, where they left off."""
        self._closing.set()
        for channel in self._channels.values():
            channel.wake()
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def run(self) -> None:
        """Look for what was not heard, for ever: often while NATS is away, rarely while it is there."""
        while True:
            pause = LOOK_WHILE_HEARING if self._bus.connected else LOOK_WHILE_DEAF
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look.wait()
            self._look.clear()
            for channel in tuple(self._channels.values()):
                await self._fill_once(channel)

    async def on_change(self, message: Msg) -> None:
        """A change happened: hand it to whom it concerns, if anybody follows or waits at all."""
        if not self._waiting and message.subject.split(".")[1] not in self._channels:
            return
        try:
            event = orjson.loads(message.data)
            project, position, type_ = str(event["project"]), int(event["position"]), str(event["type"])
            ids = woken_ids(event)
        except (ValueError, TypeError, KeyError):
            _log.warning("change_unreadable")
            return
        for memory_or_receipt in ids:
            for waiting in self._waiting.get(memory_or_receipt, ()):
                waiting.set()
        channel = self._channels.get(project)
        if channel is None:
            return
        if channel.recent is None:
            channel.behind = True
            return
        change = Framed(
            position,
            frame(type_, message.data, position),
            _access(message),
            ids[0] if type_.startswith(GOVERNED_TYPES) and ids else None,
            effect_of(type_, event.get("changed")),
        )
        match channel.recent.offer(change):
            case "taken":
                channel.wake()
            case "gap":
                channel.behind = True
                self._fill(channel)
            case "known":
                pass

    @contextlib.contextmanager
    def waiting_for(self, *ids: UUID) -> Generator[asyncio.Event]:
        """An event that is set whenever a change speaks of one of `ids`."""
        event = asyncio.Event()
        for one in ids:
            self._waiting.setdefault(one, set()).add(event)
        try:
            yield event
        finally:
            for one in ids:
                events = self._waiting[one]
                events.discard(event)
                if not events:
                    del self._waiting[one]

    @contextlib.asynccontextmanager
    async def following(self, principal: Principal) -> AsyncGenerator[tuple[Channel, store.FeedEnds]]:
        """The channel of the principal's project, kept while the block lasts, and where the feed begins and ends.

        Raises TryAgain where Postgres is away.
        """
        project = principal.project
        channel = self._channels.setdefault(project, Channel(project))
        channel.followers += 1
        try:
            async with self._db.transaction(principal, deadline=PATIENCE) as tx:
                ends = await store.feed_ends(tx, project=project)
            if channel.recent is None:
                channel.recent = RecentChanges(ends.head)
                if channel.behind:
                    self._fill(channel)
            yield channel, ends
        finally:
            channel.followers -= 1
            if channel.followers == 0:
                del self._channels[project]
                if channel.filling is not None:
                    channel.filling.cancel()

    async def read_after(self, principal: Principal, position: int) -> Sequence[Framed]:
        """A page of changes after `position`, out of Postgres, as `principal` may see them. Raises TryAgain."""
        async with self._db.transaction(principal, deadline=PATIENCE) as tx:
            return await store.read_frames(tx, project=principal.project, after=position, at_most=PAGE)

    def _fill(self, channel: Channel) -> None:
        if channel.filling is None or channel.filling.done():
            channel.filling = asyncio.create_task(self._fill_while_behind(channel), name="fill-channel")

    async def _fill_while_behind(self, channel: Channel) -> None:
        while channel.behind and channel.followers:
            if not await self._fill_once(channel):
                return

    async def _fill_once(self, channel: Channel) -> bool:
        """Read what follows the channel's head; False where Postgres is away (the next look tries again)."""
        recent = channel.recent
        if recent is None or not channel.followers:
            return False
        channel.behind = False
        reader = Principal.user(channel.project, "room:gateway", "SERVICE")
        try:
            page = await self.read_after(reader, recent.head)
        except TryAgain:
            channel.behind = True
            return False
        for change in page:
            recent.offer(change)
        if page:
            channel.behind = channel.behind or len(page) == PAGE
            channel.wake()
        if channel.behind:
            self._fill(channel)
        return True


def _access(message: Msg) -> Access:
    """Whom a change on the bus concerns; one that does not say so is for nobody but the privileged."""
    try:
        return access_from_header((message.headers or {}).get(ACCESS_HEADER, ""))
    except ValueError:
        return NOBODY


async def next_news(event: asyncio.Event, at_most: float) -> bool:
    """Wait for `event`; False if it did not come within `at_most` seconds."""
    try:
        async with asyncio.timeout(at_most):
            await event.wait()
    except TimeoutError:
        return False
    return True
