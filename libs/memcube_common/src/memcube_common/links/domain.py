"""What is decided about chains without looking anywhere: where a memory goes, how far a budget reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from memcube_common.contracts.links import ChainGovernance, ChainSpot
from memcube_common.errors import Conflict, NotFound

Arranged = Literal["arranged", "missing", "full"]


@dataclass(frozen=True, slots=True)
class ChainHead:
    """A chain without its items. length: how many of them the reader may read."""

    id: UUID
    name: str
    description: str | None
    governance: ChainGovernance
    version: int
    length: int
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """A memory in a chain, with the o200k tokens of its content; who put it there, and when."""

    memory_id: UUID
    token_count: int
    added_by: str
    added_at: datetime


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which items are read, counted from 0: `first` up to but not including `end`; `tokens` is what they cost."""

    first: int
    end: int
    tokens: int


def added(shown: Sequence[UUID], memory: UUID, spot: ChainSpot) -> list[UUID]:
    """`shown` with `memory` at `spot`, or at the end. Raises Conflict: it is there already, or the neighbour is not."""
    if memory in shown:
        raise Conflict("This memory is in the chain already; move it instead.")
    return _put(list(shown), memory, spot)


def moved(shown: Sequence[UUID], memory: UUID, spot: ChainSpot) -> list[UUID]:
    """`shown` with `memory` taken out and put at `spot`. Raises NotFound, Conflict where the neighbour is not there."""
    return _put(removed(shown, memory), memory, spot)


def removed(shown: Sequence[UUID], memory: UUID) -> list[UUID]:
    """`shown` without `memory`. Raises NotFound."""
    if memory not in shown:
        raise NotFound
    return [one for one in shown if one != memory]


def reordered(shown: Sequence[UUID], wanted: Sequence[UUID]) -> list[UUID]:
    """`wanted`, if it is `shown` in another order. Raises Conflict: it names more, or less, than the caller sees."""
    if set(shown) != set(wanted) or len(shown) != len(wanted):
        raise Conflict("These are not the memories of the chain as you see it: read it again.")
    return list(wanted)


def stretch(members: Sequence[Member], *, start: int, limit: int, budget: int | None) -> Stretch:
    """The longest run of `members` from `start` (0 is the first) that has at most `limit` and costs at most `budget`.

    It ends before the first member that does not fit, even where a later one would.
    """
    first = min(start, len(members))
    end, tokens = first, 0
    for member in members[first : first + limit]:
        if budget is not None and tokens + member.token_count > budget:
            break
        tokens += member.token_count
        end += 1
    return Stretch(first, end, tokens)


def _put(shown: list[UUID], memory: UUID, spot: ChainSpot) -> list[UUID]:
    place = len(shown)
    if spot.position is not None:
        place = min(spot.position - 1, len(shown))
    elif spot.before is not None:
        place = _place_of(shown, spot.before)
    elif spot.after is not None:
        place = _place_of(shown, spot.after) + 1
    return [*shown[:place], memory, *shown[place:]]


def _place_of(shown: Sequence[UUID], neighbour: UUID) -> int:
    try:
        return shown.index(neighbour)
    except ValueError:
        raise Conflict("The memory that this one should stand beside is not in the chain.") from None
