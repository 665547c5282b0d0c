"""The resources that are counted, and how much of each a piece of work needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias, get_args

from memcube_common.contracts.fields import QuotaResource

Resource: TypeAlias = QuotaResource
Need: TypeAlias = Mapping[Resource, int]
"""How much of each resource something takes; what is not named, it does not take."""

RESOURCES: Final[tuple[Resource, ...]] = get_args(Resource)
ORDER: Final[tuple[Resource, ...]] = ("insights_per_day", "memories", "bytes", "packs")
"""Every writer takes in this order, so that two who meet wait for each other instead of deadlocking."""

DAILY: Final[frozenset[Resource]] = frozenset({"insights_per_day"})
"""Counted anew every day, UTC."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One resource of a project: how much is used, how much may be (None: unlimited), what was announced of it."""

    resource: Resource
    used: int
    max: int | None
    warned_at: datetime | None
    exhausted_at: datetime | None


def of_memories(contents: Iterable[str]) -> Need:
    """What keeping memories with these texts takes; bytes are those of their UTF-8."""
    sizes = [len(content.encode()) for content in contents]
    return {"memories": len(sizes), "bytes": sum(sizes)}
