"""What schedules told is noted at once, what they used is counted in batches; never while somebody waits for one."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.feedback import store
from memcube_common.feedback.domain import settle
from memcube_common.insights.store import note_recalled
from memcube_common.security.principal import Principal
from memcube_scheduling.cache import Deliveries

LOOK_SECONDS: Final = 1.0
FEEDBACK_SECONDS: Final = 2.0
_ROOM: Final = "scheduling"
_LOOKED: Final = 1_000
"""Of so many schedules that wait the projects are told in one look."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SettlingMeters:
    """What is counted about settling."""

    recalled: Counter
    settled: Counter

    @classmethod
    def fresh(cls, registry: CollectorRegistry) -> SettlingMeters:
        """Meters that stand at zero, in `registry`."""
        return cls(
            Counter("memcube_schedules_recalled", "Schedules whose agents' echoes are known.", registry=registry),
            Counter("memcube_schedules_settled", "Schedules and outcomes that were counted.", registry=registry),
        )


@dataclass(frozen=True, slots=True)
class Settling:
    """What settling needs. every: seconds that use waits to be counted with others. clock: monotonic seconds."""

    db: Database
    deliveries: Deliveries
    meters: SettlingMeters
    every: float
    clock: Callable[[], float] = time.monotonic


async def keep_recalling(settling: Settling) -> None:
    """Note once a second, for ever, what agents were told: they must not learn it as news."""
    while True:
        await _patiently(recall_due(settling))


async def keep_settling(settling: Settling) -> None:
    """Count for ever what was used and said: outcomes within seconds, use in batches of `every` seconds."""
    flushed = settling.clock()
    while True:
        due = settling.clock() - flushed >= settling.every
        if due:
            flushed = settling.clock()
        await _patiently(settle_due(settling, usage=settling.every, feedback=FEEDBACK_SECONDS, deliveries=due))


async def recall_due(settling: Settling) -> bool:
    """One look: note what agents were told in schedules that wait for it; True if there may be more at once."""
    async with settling.db.transaction(Principal.worker(_ROOM)) as tx:
        projects = await store.projects_to_recall(tx, at_most=_LOOKED)
    return await each_project(projects, functools.partial(recall_project, settling))


async def recall_project(settling: Settling, project: str) -> int:
    """Note what was told in some schedules of one project, once, in one transaction; how many schedules."""
    async with settling.db.transaction(Principal.worker(_ROOM, project)) as tx:
        many, told = await store.take_recalls(tx, project=project)
        for agent, recalled in told.items():
            await note_recalled(tx, project=project, agent=agent, recalled=recalled)
    settling.meters.recalled.inc(many)
    return many


async def settle_due(settling: Settling, *, usage: float, feedback: float, deliveries: bool) -> bool:
    """One look: count schedules older than `usage` seconds and outcomes older than `feedback`, by project.

    deliveries: whether what was given out of the cache is counted too. True if there may be more at once.
    """
    async with settling.db.transaction(Principal.worker(_ROOM)) as tx:
        projects = await store.projects_to_settle(tx, usage=usage, feedback=feedback, at_most=_LOOKED)
    if deliveries:
        projects += [project for project in settling.deliveries.projects if project not in projects]
    return await each_project(projects, functools.partial(settle_project, settling))


async def settle_project(settling: Settling, project: str) -> int:
    """Count what waits in one project, once, in one transaction; how many schedules and outcomes it was.

    Whoever else settles the project at this moment does it alone. What was given out of the cache is counted with the
    rest; if the transaction fails, it waits for the next.
    """
    delivered = settling.deliveries.take(project)
    counted = False
    try:
        async with settling.db.transaction(Principal.worker(_ROOM, project)) as tx:
            if not await store.hold_mark(tx, project=project):
                return 0
            taken = await store.take_unsettled(tx, project=project, delivered=delivered)
            if taken.told or taken.said:
                settlement = settle(taken.told, taken.said)
                await store.keep_settlement(tx, project=project, settlement=settlement, there=taken.there)
        counted = True
    finally:
        if not counted:
            settling.deliveries.give_back(project, delivered)
    many = len(taken.told) + len(taken.said)
    settling.meters.settled.inc(many)
    return many


async def each_project(projects: Iterable[str], do: Callable[[str], Awaitable[int]]) -> bool:
    """Do something for each project; one at which it fails does not keep the others from it. True if any was done.

    Raises TryAgain where Postgres is away.
    """
    many = 0
    for project in projects:
        try:
            many += await do(project)
        except TryAgain:
            raise
        except Exception as error:
            _log.error("project_not_settled", project=project, error=type(error).__name__)
    return many > 0


async def _patiently(look: Awaitable[bool]) -> None:
    """One look, and a pause where it found nothing; one that meets no database is made again soon."""
    try:
        busy = await look
    except TryAgain as error:
        await asyncio.sleep(error.after)
        return
    if not busy:
        await asyncio.sleep(LOOK_SECONDS)
