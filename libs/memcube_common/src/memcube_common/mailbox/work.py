"""Work that waits in Postgres: claimed under a lease, finished in the transaction of its effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from memcube_common.db import Statements, Transaction

QUERIES = Statements(__package__)

Kind = Literal["insight", "embedding", "duplicate", "conversation", "backfill", "vector", "compare", "sweep"]
LONGEST_PAUSE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Claim:
    """One piece of work that is ours until its lease ends; `attempts` counts this one."""

    project: str
    item_id: UUID
    attempts: int


async def claim(tx: Transaction, *, kind: Kind, limit: int, lease: float) -> dict[str, list[Claim]]:
    """At most `limit` pieces of due work, shared fairly over projects, by project; `lease` in seconds."""
    claims: dict[str, list[Claim]] = {}
    for row in await tx.fetch(QUERIES["claim_work"], kind, limit, lease):
        claims.setdefault(row["project_id"], []).append(Claim(row["project_id"], row["item_id"], row["attempts"]))
    return claims


async def finish(tx: Transaction, *, kind: Kind, project: str, ids: Sequence[UUID]) -> set[UUID]:
    """Take finished work off the queue; what somebody else finished meanwhile is not among the ids returned."""
    return {row["item_id"] for row in await tx.fetch(QUERIES["finish_work"], kind, project, ids)}


async def postpone(tx: Transaction, *, kind: Kind, project: str, ids: Sequence[UUID], seconds: float) -> None:
    """Leave work on the queue and try it again in `seconds`."""
    await tx.execute(QUERIES["postpone_work"], kind, project, ids, seconds)


def pause_after(attempts: int) -> float:
    """Seconds to wait after the n-th failed attempt: 1, 2, 4 … 60."""
    return min(LONGEST_PAUSE, 2.0 ** min(attempts - 1, 10))
