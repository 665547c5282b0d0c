"""Attempts that may fail only so often in a minute: sign-ins by e-mail and by address."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from memcube_common.errors import TooManyRequests

REMEMBERED_MAX: Final = 50_000


class Attempts:
    """Counts attempts under a name as failed until they are forgiven, so that many at once count as many.

    at_most: failures within `within` seconds, after which the next attempt waits. clock: monotonic seconds.
    """

    def __init__(self, *, at_most: int, within: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_most = at_most
        self._within = within
        self._clock = clock
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, name: str) -> None:
        """Count an attempt. Raises TooManyRequests, with the seconds until the next may be made."""
        now = self._clock()
        failed = self._failed.setdefault(name, deque())
        self._failed.move_to_end(name)
        while failed and failed[0] <= now - self._within:
            failed.popleft()
        if len(failed) >= self._at_most:
            raise TooManyRequests(
                "Too many failed attempts; try again later.", after=math.ceil(failed[0] + self._within - now)
            )
        failed.append(now)
        while len(self._failed) > REMEMBERED_MAX:
            self._failed.popitem(last=False)

    def forgive(self, name: str) -> None:
        """The newest attempt under `name` did not fail."""
        failed = self._failed.get(name)
        if failed:
            failed.pop()
        if not failed:
            self._failed.pop(name, None)

    def forget_all(self) -> None:
        """Nobody has failed yet."""
        self._failed.clear()
