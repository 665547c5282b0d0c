"""Schedules made a moment ago, given out again while Postgres says that nothing has changed since."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from memcube_common.contracts.scheduling import Schedule, ScheduleRequest
from memcube_common.db import Transaction
from memcube_common.feedback.store import Mark, mark_holds

ENTRY_SECONDS: Final = 30.0
_OVERHEAD: Final = 400
"""Bytes an entry takes besides its answer, about."""


def key_of(
    *,
    project: str,
    reader: str,
    role: str,
    request: ScheduleRequest,
    weights: Mapping[str, float],
    generation: int | None,
) -> bytes:
    """32 bytes that differ where anything differs that a schedule follows from, but for what the project holds.

    generation: of the vectors that are searched.
    """
    asked = [project, reader, role, request.model_dump(mode="json"), dict(weights), generation]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A schedule as it was answered, and what must still be so for it to be the answer.

    body: its JSON but for the time it took and the end. until: when the first memory that was weighed expires.
    """

    schedule_id: UUID
    body: bytes
    mark: Mark
    until: datetime | None
    made: float

    def answer(self, took_ms: float) -> bytes:
        """The JSON of the Schedule, given out again after `took_ms`."""
        return self.body + b',"took_ms":%.3f}' % took_ms

    @property
    def size(self) -> int:
        """Bytes it takes, about."""
        return len(self.body) + _OVERHEAD

    async def holds(self, tx: Transaction) -> bool:
        """Whether it is still the answer, asked of Postgres in a transaction of its reader: one statement."""
        return await mark_holds(tx, mark=self.mark, until=self.until)


class Cache:
    """The schedules made last, bounded by their number, their bytes and their age. It never says that one still holds.

    clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float], *, entries: int, size: int) -> None:
        self._clock = clock
        self._entries = entries
        self._most = size
        self._held: OrderedDict[bytes, Entry] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size(self) -> int:
        """Bytes of all that is held, about."""
        return self._size

    def get(self, key: bytes) -> Entry | None:
        """The schedule made under `key`, if it is young enough; whether it holds is asked of the entry."""
        entry = self._held.get(key)
        if entry is None:
            return None
        if self._clock() - entry.made >= ENTRY_SECONDS:
            self.drop(key)
            return None
        self._held.move_to_end(key)
        return entry

    def keep(self, key: bytes, *, schedule: Schedule, mark: Mark | None, until: datetime | None) -> bool:
        """Keep what was just made; the oldest make room. False where it is not kept.

        mark: taken before anything of the project was read. until: when the first of all memories that were weighed
        expires, or None. A schedule that had to do without something is never kept. Not for what does not
        follow from memories alone (insights), nor for what must be read anew each time (audited memories).
        """
        if mark is None or schedule.degraded is not None:
            return False
        self._drop_old()
        body = schedule.model_copy(update={"cached": True}).model_dump_json(exclude={"took_ms"}).encode()
        entry = Entry(schedule.id, body[:-1], mark, until, self._clock())
        self.drop(key)
        if entry.size > self._most or not self._entries:
            return False
        self._held[key] = entry
        self._size += entry.size
        while len(self._held) > self._entries or self._size > self._most:
            self.drop(next(iter(self._held)))
        return True

    def _drop_old(self) -> None:
        """Forget what nobody asked for again in time: what memories said is not held longer than it is of use."""
        while self._held:
            key, entry = next(iter(self._held.items()))
            if self._clock() - entry.made < ENTRY_SECONDS:
                return
            self.drop(key)

    def drop(self, key: bytes) -> None:
        """Forget what was made under `key`."""
        entry = self._held.pop(key, None)
        if entry is not None:
            self._size -= entry.size


class Deliveries:
    """How often schedules were given out again since it was last counted, by project; `most` schedules at once."""

    def __init__(self, *, most: int = 50_000) -> None:
        self._most = most
        self._many = 0
        self._by_project: dict[str, dict[UUID, int]] = {}

    def add(self, project: str, schedule_id: UUID, times: int = 1) -> None:
        """A schedule was given out again. Beyond what is remembered it is not counted."""
        counted = self._by_project.setdefault(project, {})
        if schedule_id not in counted:
            if self._many >= self._most:
                return
            self._many += 1
        counted[schedule_id] = counted.get(schedule_id, 0) + times

    def take(self, project: str) -> dict[UUID, int]:
        """What was given out in `project`; it starts again with nothing."""
        taken = self._by_project.pop(project, {})
        self._many -= len(taken)
        return taken

    def give_back(self, project: str, taken: Mapping[UUID, int]) -> None:
        """What was taken and could not be counted."""
        for schedule_id, times in taken.items():
            self.add(project, schedule_id, times)

    @property
    def projects(self) -> list[str]:
        """Projects in which something was given out again."""
        return list(self._by_project)
