"""Room in memory for payloads on their way: so many bytes at a time, in turn, and never all of it for one project."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator

from memcube_common.errors import TryAgain


class InFlight:
    """Room for `total` bytes at a time, given in the order asked for.

    One project's payloads take three quarters of it at most, or a single one that is larger: however slow its clients
    are, others go past those of it that wait.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._share = total * 3 // 4
        self._held = Counter[str]()
        self._waiting: list[tuple[int, str, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def held(self, size: int, *, project: str, within: float) -> AsyncGenerator[None]:
        """Room for `size` bytes inside the block. Raises TryAgain where there is none within so many seconds."""
        await self._take(size, project, within)
        try:
            yield
        finally:
            self._give(size, project)

    async def _take(self, size: int, project: str, within: float) -> None:
        asked = (size, project, asyncio.get_running_loop().create_future())
        turn = asked[2]
        self._waiting.append(asked)
        self._admit()
        try:
            async with asyncio.timeout(within):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():  # given at the very moment we left
                self._give(size, project)
            else:
                self._waiting.remove(asked)
                self._admit()
            if isinstance(error, TimeoutError):
                raise TryAgain("Too many payloads are under way here.", after=5.0) from None
            raise

    def _give(self, size: int, project: str) -> None:
        self._free += size
        self._held[project] -= size
        if not self._held[project]:
            del self._held[project]
        self._admit()

    def _admit(self) -> None:
        for asked in tuple(self._waiting):
            size, project, turn = asked
            if turn.done():  # it was cancelled, and is about to leave
                continue
            mine = self._held[project]
            if mine and mine + size > self._share:
                continue
            if size > self._free:
                return
            self._waiting.remove(asked)
            self._free -= size
            self._held[project] += size
            turn.set_result(None)
