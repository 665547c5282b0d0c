"""Ending rooms by force, and measuring how long it takes until what they do is done again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import httpx
from tests.e2e.load import Ledger, text_of
from tests.e2e.running_stack import RunningStack, eventually

from memcube_common.ids import new_id

PROBE: Final = "probe"


@dataclass
class Killer:
    """Kills rooms of `stack` and asks afterwards, through the probe project, for the very thing the room does."""

    stack: RunningStack
    ledger: Ledger
    key: str
    seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    async def kill(self, room: str, *, within: float = 30) -> float:
        """SIGKILL one room; returns the seconds until its first success for somebody who came after the kill.

        The gateway's success is an insight accepted, ingestion's one stored, embedding's one searchable.
        """
        await eventually(lambda: self._runs(room), within=within, what=f"{room} runs before it is killed")
        self.stack.send(room, signal.SIGKILL)
        began = time.monotonic()
        probe = new_id()
        self.ledger.send(PROBE, [probe])
        headers = {"authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(5, connect=1)) as client:
            await eventually(lambda: self._accepted(client, probe), within=within, what="a probe accepted")
            self.ledger.ack(PROBE, [probe], "http")
            if room != "gateway":
                wanted = {"ingestion": {"stored", "searchable"}, "embedding": {"searchable"}}[room]
                await eventually(
                    lambda: self._reached(client, probe, wanted), within=within, what=f"a probe {' or '.join(wanted)}"
                )
        took = time.monotonic() - began
        self.seconds.setdefault(room, []).append(took)
        return took

    async def _runs(self, room: str) -> bool:
        process = self.stack.now.services[room].process
        return process is not None and process.is_alive()

    async def _accepted(self, client: httpx.AsyncClient, probe: UUID) -> bool:
        body = {"id": str(probe), "insight": text_of(probe)}
        return await _answers(202, lambda: client.post(f"{self._address}/insights", json=body)) is not None

    async def _reached(self, client: httpx.AsyncClient, probe: UUID, wanted: set[str]) -> bool:
        answer = await _answers(200, lambda: client.get(f"{self._address}/receipts/{probe}"))
        return answer is not None and answer.json()["state"] in wanted

    @property
    def _address(self) -> str:
        return f"{self.stack.gateway}/v1/projects/{PROBE}"


async def _answers(status: int, ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response | None:
    """The answer if there is one and it has this status."""
    try:
        async with asyncio.timeout(5):
            answer = await ask()
    except (httpx.TransportError, TimeoutError):
        return None
    return answer if answer.status_code == status else None
