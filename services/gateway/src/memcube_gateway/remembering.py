"""What was looked up a moment ago is not looked up again: for seconds, bounded, and asked for once by many."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from memcube_gateway.patience import Patience

KNOWN_SECONDS: Final = 3.0
UNKNOWN_SECONDS: Final = 1.0
REMEMBERED_MAX: Final = 10_000

V = TypeVar("V")


class Remembered(Generic[V]):
    """What was looked up, for a while: good answers and misses apart, so that a flood of misses evicts no good one.

    clock: monotonic seconds. most: how many of each are kept.
    """

    def __init__(self, clock: Callable[[], float], *, most: int = REMEMBERED_MAX) -> None:
        self._clock = clock
        self._most = most
        self._good: OrderedDict[Hashable, tuple[V | None, float]] = OrderedDict()
        self._missing: OrderedDict[Hashable, tuple[V | None, float]] = OrderedDict()
        self._asking: dict[Hashable, asyncio.Future[V | None]] = {}
        self._era = 0

    async def get(
        self,
        name: Hashable,
        look: Callable[[Patience], Awaitable[V | None]],
        patience: Patience,
        is_good: Callable[[V], bool] = lambda _: True,
        *,
        anew: bool = False,
    ) -> V | None:
        """The answer of `look`, or the one it gave a moment ago; its age counts from before it was asked for.

        Many who want the same at once look once; who wants it anew looks alone. Raises what `look` raises, to all of
        them.
        """
        if anew:
            async with patience.spent():
                return await self._ask(name, look, Patience(patience.left), is_good)
        found = self._good.get(name) or self._missing.get(name)
        if found is not None and self._clock() < found[1]:
            return found[0]
        async with patience.spent():
            asking = self._asking.get(name)
            if asking is None:
                asking = asyncio.ensure_future(self._ask(name, look, Patience(patience.left), is_good))
                self._asking[name] = asking
                asking.add_done_callback(lambda done: self._asked(name, done))
            return await asyncio.shield(asking)

    async def _ask(
        self,
        name: Hashable,
        look: Callable[[Patience], Awaitable[V | None]],
        patience: Patience,
        is_good: Callable[[V], bool],
    ) -> V | None:
        asked, era = self._clock(), self._era
        value = await look(patience)
        if era != self._era:  # told to forget everything while it was looked up
            return value
        good = value is not None and is_good(value)
        kept, other, seconds = (
            (self._good, self._missing, KNOWN_SECONDS) if good else (self._missing, self._good, UNKNOWN_SECONDS)
        )
        other.pop(name, None)
        kept[name] = (value, asked + seconds)
        kept.move_to_end(name)
        while len(kept) > self._most:
            kept.popitem(last=False)
        return value

    def _asked(self, name: Hashable, done: asyncio.Future[V | None]) -> None:
        if self._asking.get(name) is done:
            del self._asking[name]
        if not done.cancelled():
            done.exception()  # whoever waited has heard it; nobody may be left to

    def forget(self, name: Hashable) -> None:
        """Look `name` up anew; what is being looked up at this moment is not kept."""
        self._era += 1
        for known in (self._asking, self._good, self._missing):
            known.pop(name, None)

    def clear(self) -> None:
        """Look everything up anew."""
        self._era += 1
        self._asking.clear()
        self._good.clear()
        self._missing.clear()
