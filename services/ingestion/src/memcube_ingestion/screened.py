"""What comes in is screened as its project decided, outside any transaction, and kept if that still holds then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from memcube_common.contracts.fields import Screening
from memcube_common.db import Transaction
from memcube_common.errors import Invalid, TryAgain
from memcube_common.insights.domain import Insight
from memcube_common.projects.domain import ProjectSettings
from memcube_common.projects.store import find_settings
from memcube_common.screening.insights import is_long, screen_insight
from memcube_common.security.principal import Principal
from memcube_ingestion.room import Room
from memcube_ingestion.turns import Turn

CHANGES_MAX: Final = 4
"""How often a project may change its mind while we screen, before we come back later."""

S = TypeVar("S")
T = TypeVar("T")


class Unfit(Exception):
    """Insights that can never be kept as their project wants them screened; `reasons` by id, without what they say."""

    def __init__(self, reasons: Mapping[UUID, str]) -> None:
        super().__init__(f"{len(reasons)} insights")
        self.reasons = reasons


async def screen_insights(insights: Sequence[Insight], how: Screening, turn: Turn) -> list[Insight]:
    """Insights as they may be stored, marked with what was found. Raises Unfit, and NotNow as `turn` does."""
    if how == "off":
        return list(insights)
    pieces = [partial(_screened, one, how) for one in insights]
    looked = await turn.look(pieces) if is_long(insights) else [piece() for piece in pieces]
    unfit = {one.id: found for one, found in zip(insights, looked, strict=True) if isinstance(found, str)}
    if unfit:
        raise Unfit(unfit)
    return [one for one in looked if not isinstance(one, str)]


def _screened(insight: Insight, how: Screening) -> Insight | str:
    """The insight, or which of its fields it cannot be kept for."""
    try:
        return screen_insight(insight, how)
    except Invalid as error:
        return "; ".join(f"{fault.field} {fault.message}" for fault in error.errors)


async def write_screened(
    project: str,
    room: Room,
    screen: Callable[[Screening], Awaitable[S]],
    write: Callable[[Transaction, S, bool], Awaitable[T]],
) -> T:
    """What `write` returns of what `screen` made, in a transaction in which the project still wants it screened so.

    Nothing is screened inside a transaction, however long it takes; where screening is off this is one transaction.
    `write` is told whether the project exists. Raises what both raise, and TryAgain.
    """
    how: Screening = "off"
    for _ in range(1 + CHANGES_MAX):
        ready = await screen(how)
        async with room.writing, room.db.transaction(Principal.worker("ingestion", project)) as tx:
            found = await find_settings(tx, project=project)
            wanted = (found or ProjectSettings()).screening
            if wanted == how:
                return await write(tx, ready, found is not None)
        how = wanted
    raise TryAgain("The project's settings change again and again.")
