"""What comes in is screened as its project decided, outside any transaction, and kept if that still holds then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from memcube_common.contracts.fields import Screening
from memcube_common.db import Transaction
from memcube_common.errors import TryAgain
from memcube_common.projects.domain import ProjectSettings
from memcube_common.projects.store import find_settings
from memcube_common.security.principal import Principal
from memcube_ingestion.room import Room

CHANGES_MAX: Final = 4
"""How often a project may change its mind while we screen, before we come back later."""

S = TypeVar("S")
T = TypeVar("T")


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
        async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
            found = await find_settings(tx, project=project)
            wanted = (found or ProjectSettings()).screening
            if wanted == how:
                return await write(tx, ready, found is not None)
        how = wanted
    raise TryAgain("The project's settings change again and again.")
