"""Looking through what comes in goes by turns: a project that had its share of a batch comes back with the rest."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from memcube_common.screening import ScreeningThreads

T = TypeVar("T")

LONGEST_PAUSE: Final = 600.0


class NotNow(Exception):
    """The project had its share of this batch: what was not looked through yet comes back later."""


class Returns:
    """When what is put off comes back, over all batches: of one project one after the other, as fast as it is done.

    Each behind all that were put off before it: those that came back too soon would fill the batches, and what others
    brought meanwhile would wait behind them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def pause(self, project: str, cost: float) -> float:
        """Seconds after which the next is worth another try, if it takes `cost`: `LONGEST_PAUSE` at most."""
        now = self._clock()
        self._until = {waiting: until for waiting, until in self._until.items() if until > now}
        self._until[project] = min(self._until.get(project, now) + cost, now + LONGEST_PAUSE - 1.0)
        return 1.0 + self._until[project] - now


class Turn:
    """One project's share of one batch: `share` seconds of a processor for looking through what it brought.

    However much a project brings and however long that takes, others wait for it no longer than a share and one portion
    a batch.
    """

    def __init__(self, threads: ScreeningThreads, share: float) -> None:
        self._threads = threads
        self._share = share
        self._one_by_one = asyncio.Lock()
        self._began = time.monotonic()
        self._spent = 0.0
        self._looked_through = 0

    async def look(self, pieces: Sequence[Callable[[], T]]) -> list[T]:
        """What each of `pieces` returns, in order. Raises NotNow where the share is spent, and what a piece raises."""
        async with self._one_by_one:
            if self._spent >= self._share:
                raise NotNow
            return await self._threads.each(
                [lambda piece=piece: self._counted(piece) for piece in pieces], within=None, cost_most=math.inf
            )

    @property
    def cost(self) -> float:
        """Seconds that one piece took, on average, with all that was done beside it: so fast is what waits done."""
        return (time.monotonic() - self._began) / max(1, self._looked_through)

    def _counted(self, piece: Callable[[], T]) -> T:
        began = time.thread_time()
        try:
            return piece()
        finally:
            self._spent += time.thread_time() - began
            self._looked_through += 1
