"""Names that stand nearly everywhere in a project are left out of what a question means.

In a conversation of two, every memory carries one of two names: words tell the two apart, while a question's vector is
drawn to whoever is named most. Left out, the nearest ten bring evidence for 66 of 100 questions instead of 55
(docs/performance.md).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from memcube_common.db import Transaction
from memcube_common.search.candidates import find_common_words
from memcube_common.search.signals import names_in, without_names

COMMON_SHARE: Final = 0.1
"""In more than this share of a project's memories a name is common."""


class CommonNames:
    """Which names are common in which project, remembered for `keep` seconds, at most `most` of them."""

    def __init__(self, *, keep: float = 60.0, most: int = 50_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep = keep
        self._most = most
        self._clock = clock
        self._known: OrderedDict[tuple[str, str, str], tuple[bool, float]] = OrderedDict()

    async def bare(
        self, text: str, transaction: Callable[[], AbstractAsyncContextManager[Transaction]], *, project: str, role: str
    ) -> str:
        """The question without common names; the database is asked only about names that are not known.

        role: of who asks, since what they may read decides what is common to them. Raises TryAgain where Postgres is
        away.
        """
        names = names_in(text)
        if not names:
            return text
        now = self._clock()
        known = {name: self._known.get((project, role, name)) for name in names}
        unknown = [name for name, entry in known.items() if entry is None or entry[1] < now]
        common = {name for name, entry in known.items() if entry is not None and entry[0]} - set(unknown)
        if unknown:
            async with transaction() as tx:
                found = set(await find_common_words(tx, project, unknown, COMMON_SHARE))
            for name in unknown:
                self._remember((project, role, name), (name in found, now + self._keep))
            common |= found
        return without_names(text, [name for name in names if name in common])

    def _remember(self, key: tuple[str, str, str], entry: tuple[bool, float]) -> None:
        self._known[key] = entry
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
