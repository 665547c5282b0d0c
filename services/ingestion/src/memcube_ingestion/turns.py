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


class Turn:
    """One project's share of one batch: `share` seconds of a processor for looking through what it brought.

    However much a project brings and however long that takes, others wait for it no longer than a share and one portion
    a batch.
    """

    def __init__(self, threads: ScreeningThreads, share: float) -> None:
        self._threads = threads
        self._share = share
        self._one_by_one = asyncio.Lock()
        self._spent = 0.0
        self._looked_through = 0
        self._put_off = 0

    async def look(self, pieces: Sequence[Callable[[], T]]) -> list[T]:
        """What each of `pieces` returns, in order. Raises NotNow where the share is spent, and what a piece raises."""
        async with self._one_by_one:
            if self._spent >= self._share:
                raise NotNow
            return await self._threads.each(
                [lambda piece=piece: self._counted(piece) for piece in pieces], within=None, cost_most=math.inf
            )

    def pause(self) -> float:
        """Seconds after which the next that is put off is worth another try: as long as those before it will take."""
        self._put_off += 1
        return min(LONGEST_PAUSE, 1.0 + self._put_off * self._spent / max(1, self._looked_through))

    def _counted(self, piece: Callable[[], T]) -> T:
        began = time.thread_time()
        try:
            return piece()
        finally:
            self._spent += time.thread_time() - began
            self._looked_through += 1
