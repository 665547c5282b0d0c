"""The road over NATS, as the rooms themselves: each user at the subjects of the others, all to be refused."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import nats
import nats.errors
from nats.aio.client import Client

from memcube_cli.isolation.agents import ROAD
from memcube_cli.isolation.report import Report
from memcube_common.bus.accounts import ROOM_USERS, inbox_of

BEYOND = (
    "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.AUTH", "$JS.API.STREAM.DELETE.CHANGES", "$JS.API.STREAM.PURGE.INSIGHTS",
    "$JS.API.STREAM.UPDATE.CHANGES", "$JS.API.STREAM.CREATE.VERIFY", "$JS.API.STREAM.MSG.DELETE.CHANGES",
    "$JS.API.CONSUMER.DELETE.INSIGHTS.ingestion-insight-submitted",
)  # fmt: skip
"""What no room may publish to."""
EVERYTHING = (">", "memcube.>", "$JS.>", "$JS.API.>", "$SYS.>", "_INBOX.>", "rooms.>")
"""What no room may listen at."""


@dataclass(frozen=True, slots=True)
class RoomsRoad:
    """Every room's user. `secrets` is the folder in which a local stack keeps their passwords."""

    bus: str
    secrets: Path
    report: Report

    async def attack(self) -> None:
        """Everything this road tries."""
        for room, permissions in ROOM_USERS.items():
            others = [name for name in ROOM_USERS if name != room]
            publish = [
                subject
                for other in others
                for subject in map(concrete, ROOM_USERS[other].publish)
                if not _allowed(subject, permissions.publish)
            ]
            listen = [
                subject
                for other in others
                for subject in (*ROOM_USERS[other].subscribe, f"{inbox_of(other)}.>")
                if not _allowed(subject, permissions.subscribe)
            ]
            async with self._signed_in(room) as signed_in:
                if signed_in is None:
                    self.report.could_not(ROAD, f"as {room}", "its password is not known here")
                    continue
                client, refused = signed_in
                for verb, subjects in (("publish", (*publish, *BEYOND)), ("subscribe", (*listen, *EVERYTHING))):
                    refused.clear()
                    for subject in dict.fromkeys(subjects):
                        self.report.tried(ROAD)
                        if verb == "publish":
                            await client.publish(subject, b"{}")
                        else:
                            await client.subscribe(subject)
                    with contextlib.suppress(nats.errors.Error, TimeoutError):
                        await client.flush(timeout=5)
                        await client.flush(timeout=5)
                    for subject in dict.fromkeys(subjects):
                        if subject.lower() not in refused:
                            self.report.leak(ROAD, f"{verb} {subject}", f"room {room}", "was not refused")

    @asynccontextmanager
    async def _signed_in(self, room: str) -> AsyncGenerator[tuple[Client, set[str]] | None]:
        parts = urlsplit(self.bus)
        refused: set[str] = set()

        async def on_error(error: Exception) -> None:
            if '"' in str(error):
                refused.add(str(error).split('"')[1].lower())

        try:
            password = (self.secrets / f"{room}.password").read_text(encoding="utf-8")
            client = await nats.connect(
                f"{parts.scheme}://{parts.hostname}:{parts.port}",
                user=room,
                password=password,
                inbox_prefix=inbox_of(room).encode(),
                error_cb=on_error,
                allow_reconnect=False,
                connect_timeout=5,
            )
        except (nats.errors.Error, OSError, TimeoutError):
            yield None
            return
        try:
            yield client, refused
        finally:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                await client.close()


def concrete(subject: str) -> str:
    """A subject one may publish to: every wildcard filled."""
    return ".".join("x" if word in {"*", ">"} else word for word in subject.split("."))


def _allowed(subject: str, patterns: Sequence[str]) -> bool:
    return any(_matches(subject.split("."), pattern.split(".")) for pattern in patterns)


def _matches(subject: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether everything `subject` stands for is what `pattern` stands for, by NATS' rules of wildcards."""
    return all(_tokens(subject, pattern))


def _tokens(subject: Sequence[str], pattern: Sequence[str]) -> Iterator[bool]:
    for place, word in enumerate(pattern):
        if word == ">":
            yield len(subject) > place
            return
        if place >= len(subject):
            yield False
            return
        yield (word == "*" and subject[place] != ">") or word == subject[place]
    yield len(subject) == len(pattern)
