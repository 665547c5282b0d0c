"""Callers who keep asking while something is broken, and write down how long each answer took."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx
from tests.e2e.load import Ledger, text_of

from memcube_common.ids import new_id

PAUSE: Final = 0.2
_LONG_AGO: Final = "2024-03-01T09:00:00Z"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: what was asked, what came (0 for nothing at all), when it was asked, and how long it took."""

    question: str
    status: int
    retry_after: str | None
    degraded: bool
    asked_at: float
    seconds: float


@dataclass
class Callers:
    """One caller for each kind of question, asking one after the other until the block ends."""

    gateway: str
    project: str
    key: str
    ledger: Ledger
    answers: list[Answer] = field(default_factory=list[Answer])
    _asking: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def __aenter__(self) -> Callers:
        for question in ("submit", "query", "import", "receipt", "project", "changes"):
            self._asking.append(asyncio.create_task(self._ask_on(question), name=f"caller-{question}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for asking in self._asking:
            asking.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def since(self, moment: float, until: float = float("inf")) -> list[Answer]:
        """Answers to what was asked in this time (by time.monotonic)."""
        return [answer for answer in self.answers if moment <= answer.asked_at < until]

    async def _ask_on(self, question: str) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        base = f"{self.gateway}/v1/projects/{self.project}"
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=20) as client:
            while True:
                began = time.monotonic()
                status, retry_after, degraded = await self._ask(client, question)
                took = time.monotonic() - began
                self.answers.append(Answer(question, status, retry_after, degraded, began, took))
                await asyncio.sleep(PAUSE)

    async def _ask(self, client: httpx.AsyncClient, question: str) -> tuple[int, str | None, bool]:
        try:
            match question:
                case "submit":
                    id = new_id()
                    self.ledger.send(self.project, [id])
                    answer = await client.post("insights", json={"id": str(id), "insight": text_of(id)})
                    if answer.status_code == 202:
                        self.ledger.ack(self.project, [id], "http")
                case "query":
                    answer = await client.post("memories/query", json={"text": f"{time.time_ns()} harbour lantern"})
                    return answer.status_code, answer.headers.get("retry-after"), bool(answer.json().get("degraded"))
                case "import":
                    # The same memory each time: the database is asked, and nothing is added after the first.
                    one = {
                        "id": "note",
                        "content": "The kettle is in the garden.",
                        "created_at": "2024-03-01T09:00:00Z",
                    }
                    answer = await client.post("memories/import", json={"memories": [one]})
                case "receipt":
                    answer = await client.get(f"receipts/{new_id()}")
                case "changes":
                    async with client.stream("GET", "changes") as answer:
                        return answer.status_code, answer.headers.get("retry-after"), False
                case _:
                    answer = await client.get(f"{self.gateway}/v1/projects/{self.project}")
        except httpx.TransportError:
            return 0, None, False
        return answer.status_code, answer.headers.get("retry-after"), False


def slowest(answers: list[Answer]) -> Mapping[str, float]:
    """The longest wait for each kind of question, in seconds."""
    found: dict[str, float] = {}
    for answer in answers:
        found[answer.question] = max(found.get(answer.question, 0.0), round(answer.seconds, 2))
    return found


def statuses(answers: list[Answer]) -> Mapping[str, dict[int, int]]:
    """How often each kind of question got each status."""
    return {
        question: dict(Counter(answer.status for answer in answers if answer.question == question))
        for question in sorted({answer.question for answer in answers})
    }


def refused_without_a_time(answers: list[Answer]) -> list[Answer]:
    """Refusals that do not say when to come again: no Retry-After, or one of more than two seconds."""
    return [
        answer
        for answer in answers
        if answer.status >= 500
        and (answer.status != 503 or answer.retry_after is None or not 1 <= int(answer.retry_after) <= 2)
    ]
