"""Load as agents make it: insights over HTTP and NATS at a steady rate, and a log of every id that was acknowledged."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from memcube import MemCubeClient, Patience
from memcube.bus import AgentConnection, NotAllPublished
from memcube.errors import Unavailable
from memcube_common.ids import new_id

TEXT_BYTES: Final = 1024
TURNS: Final = 4  # a second, of each writer
# fmt: off
_WORDS: Final = (
    "river", "stone", "candle", "orbit", "metal", "garden", "winter", "ledger", "harbour", "signal", "copper",
    "meadow", "lantern", "thread", "summit", "valley", "engine", "paper", "window", "forest", "bridge", "anchor",
    "market", "season", "pocket", "mirror", "ribbon", "canvas", "ladder", "saddle", "kettle", "marble",
)
# fmt: on


def text_of(id: UUID, size: int = TEXT_BYTES) -> str:
    """The text of an insight, made from its id: what was kept can be compared with what was sent."""
    words = random.Random(id.int).choices(_WORDS, k=size // 5)
    return f"{id} {' '.join(words)}"[:size].rstrip()


class Ledger:
    """What the clients know: every id they sent, and (on disk, append-only) every id they were promised."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self.sent: dict[str, set[UUID]] = {}
        self.acked: dict[str, set[UUID]] = {}

    def send(self, project: str, ids: Iterable[UUID]) -> None:
        """These are about to be sent; whether they arrive is not known yet."""
        self.sent.setdefault(project, set()).update(ids)

    def ack(self, project: str, ids: Iterable[UUID], via: str) -> None:
        """These were promised to be kept."""
        known = self.acked.setdefault(project, set())
        for id in ids:
            known.add(id)
            self._file.write(f"{time.time():.3f} {project} {via} {id}\n")

    @property
    def count(self) -> int:
        """How many ids were acknowledged."""
        return sum(map(len, self.acked.values()))

    def close(self) -> None:
        """Close the log."""
        self._file.close()


@dataclass
class Load:
    """Writers for each project of `keys`: half of `rate` insights a second come over HTTP in batches, half over NATS.

    Whoever loses a connection tries again with the same ids, as the SDK does, until it is acknowledged.
    """

    gateway: str
    nats: str
    keys: Mapping[str, str]
    ledger: Ledger
    rate: float
    rejected: int = 0
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def __aenter__(self) -> Load:
        for project, key in self.keys.items():
            self._writers.append(asyncio.create_task(self._over_http(project, key), name=f"http-{project}"))
            self._writers.append(asyncio.create_task(self._over_nats(project), name=f"nats-{project}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)

    async def stop(self, *, within: float = 60) -> None:
        """Send nothing new, and return when everything that was sent is acknowledged."""
        self._stopping.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._writers)

    def fresh(self, project: str, many: int) -> list[UUID]:
        """Ids of insights that will be sent now."""
        ids = [new_id() for _ in range(many)]
        self.ledger.send(project, ids)
        return ids

    async def _over_http(self, project: str, key: str) -> None:
        client = MemCubeClient(self.gateway, key, project, timeout=5, patience=_PATIENT)
        async with client:
            async for many in self._turns():
                ids = self.fresh(project, many)
                receipts = await self._insist(client, ids)
                assert receipts == ids, "receipts must come in the order sent"
                self.ledger.ack(project, receipts, "http")

    async def _insist(self, client: MemCubeClient, ids: Sequence[UUID]) -> list[UUID]:
        while True:
            try:
                return [receipt.id for receipt in await client.insights.submit_many(_bodies(ids))]
            except Unavailable:
                self.rejected += 1

    async def _over_nats(self, project: str) -> None:
        async with AgentConnection(self.nats, project=project, agent="loader", patience=_PATIENT) as agent:
            async for many in self._turns():
                waiting = self.fresh(project, many)
                while waiting:
                    try:
                        done = {sent.id for sent in await agent.publish_many(_bodies(waiting))}
                    except NotAllPublished as error:
                        self.rejected += len(error.failed)
                        done = {sent.id for sent in error.published.values()}
                    self.ledger.ack(project, done, "nats")
                    waiting = [id for id in waiting if id not in done]

    async def _turns(self) -> AsyncGenerator[int]:
        """How many to send at each turn; a writer that was held up catches up."""
        each = self.rate / 2 / len(self.keys) / TURNS
        began, sent = time.monotonic(), 0
        await asyncio.sleep(random.random() / TURNS)
        while not self._stopping.is_set():
            due = int((time.monotonic() - began) * each * TURNS) - sent
            if due > 0:
                sent += min(due, 200)
                yield min(due, 200)
            await asyncio.sleep(1 / TURNS)


_PATIENT: Final = Patience(total=20.0, first_pause=0.1, longest_pause=1.0)


def _bodies(ids: Sequence[UUID]) -> list[dict[str, str]]:
    return [{"id": str(id), "insight": text_of(id)} for id in ids]
