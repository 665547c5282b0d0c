"""Gathers single texts asked for at about the same time into one call, and remembers the latest answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from memcube_embedding.embedders.protocol import (
    Embedder,
    EmbedderUnavailable,
    EmbeddingModel,
    TextRefused,
    Vector,
    embed_each,
)


@dataclass(frozen=True, slots=True)
class _Waiting:
    key: bytes
    text: str
    answer: asyncio.Future[Vector]


class MicroBatcher:
    """Answers one text at a time while the embedder behind works in batches.

    A text asked for waits at most `window` seconds for company, then goes out in a call of at most `max_batch` texts
    (by default the model's own); at most `flights` calls are under way at once, and what gathers meanwhile leaves
    with the next. Equal texts under way share one answer; the last `cache_entries` answers are kept. More than
    `max_waiting` different texts waiting are turned away. `sleep` takes seconds.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        window: float = 0.003,
        max_batch: int | None = None,
        max_waiting: int = 1024,
        flights: int = 2,
        cache_entries: int = 4096,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._embedder = embedder
        self._window = window
        self._max_batch = max_batch or embedder.model.max_batch
        self._max_waiting = max_waiting
        self._flights_allowed = flights
        self._cache_entries = cache_entries
        self._sleep = sleep
        self._cache: OrderedDict[bytes, Vector] = OrderedDict()
        self._answers: dict[bytes, asyncio.Future[Vector]] = {}
        self._waiting: list[_Waiting] = []
        self._gathering: asyncio.Task[None] | None = None
        self._flights: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def model(self) -> EmbeddingModel:
        """The model behind."""
        return self._embedder.model

    async def embed_one(self, text: str) -> Vector:
        """The unit vector of `text`, shape (dimensions,); shared with other askers and therefore read-only.

        Raises `TextRefused` when it can never have one and `EmbedderUnavailable` when the model does not answer or
        too many texts wait already. A cancelled asker does not disturb the others.
        """
        key = self._key(text)
        known = self._cache.get(key)
        if known is not None:
            self._cache.move_to_end(key)
            return known
        answer = self._answers.get(key)
        if answer is None:
            answer = self._enqueue(key, text)
        return await asyncio.shield(answer)

    async def aclose(self) -> None:
        """Stop; whoever still waits gets `EmbedderUnavailable`. The embedder behind stays open."""
        self._closed = True
        tasks = [*self._flights, *([self._gathering] if self._gathering else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for answer in list(self._answers.values()):
            _fail(answer, EmbedderUnavailable("the embedding room is closing"))
        self._waiting.clear()

    def _key(self, text: str) -> bytes:
        digest = hashlib.sha256(self._embedder.model.fingerprint.encode())
        digest.update(b"\0")
        digest.update(text.encode(errors="surrogatepass"))
        return digest.digest()

    def _enqueue(self, key: bytes, text: str) -> asyncio.Future[Vector]:
        if self._closed:
            raise EmbedderUnavailable("the embedding room is closing")
        if len(self._waiting) >= self._max_waiting:
            raise EmbedderUnavailable("too many texts wait for their vectors", after=1.0)
        answer: asyncio.Future[Vector] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: self._settled(key, done))
        self._answers[key] = answer
        self._waiting.append(_Waiting(key, text, answer))
        if len(self._waiting) >= self._max_batch:
            self._depart()
        elif self._gathering is None:
            self._gathering = asyncio.create_task(self._gather())
        return answer

    def _settled(self, key: bytes, answer: asyncio.Future[Vector]) -> None:
        del self._answers[key]
        if not answer.cancelled():
            answer.exception()  # every asker may have left; an error nobody hears is not worth a warning

    async def _gather(self) -> None:
        await self._sleep(self._window)
        self._gathering = None
        self._depart()

    def _depart(self) -> None:
        """Send off as many batches as may fly now."""
        while self._waiting and len(self._flights) < self._flights_allowed:
            batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
            flight = asyncio.create_task(self._fly(batch))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        if not self._closed:
            self._depart()

    async def _fly(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = await embed_each(self._embedder, [waiting.text for waiting in batch])
        except Exception as error:
            for waiting in batch:
                _fail(waiting.answer, error)
            return
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, TextRefused):
                _fail(waiting.answer, TextRefused(0, outcome.reason))
            elif not waiting.answer.done():
                outcome.flags.writeable = False
                waiting.answer.set_result(outcome)
                self._remember(waiting.key, outcome)

    def _remember(self, key: bytes, vector: Vector) -> None:
        self._cache[key] = vector
        while len(self._cache) > self._cache_entries:
            self._cache.popitem(last=False)


def _fail(answer: asyncio.Future[Vector], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
