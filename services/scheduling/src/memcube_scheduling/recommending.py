"""Recommendations, computed now and then for the projects in which something was used since."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.feedback import store
from memcube_common.feedback.likeness import recommend
from memcube_common.security.principal import Principal
from memcube_scheduling.settling import each_project

LOOK_SECONDS: Final = 10.0
USES_MAX: Final = 50_000
"""Uses of one project that one run looks at: the newest of the last 30 days."""

WITHIN: Final = timedelta(days=30)
_PROJECTS_AT_ONCE: Final = 20
_ROOM: Final = "scheduling"


@dataclass(frozen=True, slots=True)
class Recommending:
    """What recommending needs. every: seconds between two runs for one project. clock: the time now, in UTC."""

    db: Database
    every: float
    clock: Callable[[], datetime]


async def keep_recommending(recommending: Recommending) -> None:
    """Look every few seconds, for ever, for projects whose recommendations are to be computed."""
    while True:
        try:
            busy = await recommend_due(recommending)
        except TryAgain as error:
            await asyncio.sleep(error.after)
            continue
        if not busy:
            await asyncio.sleep(LOOK_SECONDS)


async def recommend_due(recommending: Recommending) -> bool:
    """One look; True if there may be more at once."""
    async with recommending.db.transaction(Principal.worker(_ROOM)) as tx:
        projects = await store.projects_to_recommend(tx, every=recommending.every, at_most=_PROJECTS_AT_ONCE)
    return await each_project(projects, functools.partial(recommend_project, recommending))


async def recommend_project(recommending: Recommending, project: str) -> int:
    """Compute what is recommended in one project and put it in the place of what was; 1 if it was done.

    Whoever else computes it at this moment does it alone. The work is bounded, and done beside what the room answers.
    """
    now = recommending.clock()
    async with recommending.db.transaction(Principal.worker(_ROOM, project)) as tx:
        settled = await store.read_settled(tx, project=project)
        if settled is None:
            return 0
        uses = await store.read_uses(tx, project=project, since=now - WITHIN, at_most=USES_MAX)
    recommended = await asyncio.to_thread(recommend, uses, now)
    async with recommending.db.transaction(Principal.worker(_ROOM, project)) as tx:
        return await store.replace_recommendations(tx, project=project, settled=settled, recommended=recommended)
