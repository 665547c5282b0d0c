"""Threads that long texts are screened in, and nothing else: piece by piece, by turns, and never longer than asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from memcube_common.errors import TooLarge, TryAgain

T = TypeVar("T")

TURN: Final = 0.02
"""Seconds after which whoever screens lets the next one have its turn; a piece that was begun is ended."""

COST_MOST: Final = 1.5
"""Seconds of a processor that screening what came in one request may take."""


class ScreeningThreads:
    """One thread (screening holds Python's lock, two would not be faster), started at the first text that is long.

    Whoever has much to screen goes to the end of the line after each turn, so that a short text waits for one turn of
    each of the others and not for all they have. Other work that is done in threads never waits for screening.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="screening")

    async def each(
        self, pieces: Sequence[Callable[[], T]], *, within: float | None, cost_most: float = COST_MOST
    ) -> list[T]:
        """What each of `pieces` returns, in order.

        within: seconds, waiting for a turn included; None for as long as it takes. Once it is cancelled or late, no
        further piece is begun. Raises TryAgain where the time is over, TooLarge where the pieces took `cost_most`
        seconds of a processor, and what a piece raises.
        """
        done: list[T] = []
        left, cost = iter(pieces), 0.0
        try:
            async with asyncio.timeout(within):
                while len(done) < len(pieces):
                    if cost >= cost_most:
                        raise TooLarge("It takes too long to look through: send less in one request.")
                    some, took = await asyncio.get_running_loop().run_in_executor(self._threads, _turn, left)
                    done += some
                    cost += took
        except TimeoutError:
            raise TryAgain("Too much is being looked through at this moment.") from None
        return done

    def close(self) -> None:
        """End the thread, after the piece that is under way."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _turn(left: Iterator[Callable[[], T]]) -> tuple[list[T], float]:
    """What one turn gets done, and the processor's seconds it took."""
    until, started = time.monotonic() + TURN, time.thread_time()
    done: list[T] = []
    for piece in left:
        done.append(piece())
        if time.monotonic() >= until:
            break
    return done, time.thread_time() - started
