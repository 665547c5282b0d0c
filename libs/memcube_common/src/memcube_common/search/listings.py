"""Walking and looking up memories in an order of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from memcube_common.db import Statements, Transaction
from memcube_common.db.pool import Row
from memcube_common.search.domain import Listing, Place

QUERIES = Statements(__package__)

FEW_MAX: Final = 2_000
"""Up to how many memories that come into question are looked up, rather than the listing walked."""
WALKED_MAX: Final = 20_000
"""How many memories a page of a listing looks at before it is broken off."""


async def find_places(tx: Transaction, project: str, listing: Listing) -> tuple[dict[UUID, Place], Place | None]:
    """The memories of a page with their places, in order; and where to go on."""
    limit = listing.limit
    rows = None if listing.few is None else await among(tx, project, listing, limit=limit + 1, after=listing.after)
    if rows is None:
        rows = await walk(tx, listing, limit=limit + 1, budget=WALKED_MAX)
        last = rows[-1] if rows and rows[-1]["looked"] == WALKED_MAX else None
        rows = [row for row in rows if row["fit"]]
        if last is not None and len(rows) <= limit:
            return {row["id"]: place_of(row) for row in rows}, place_of(last)
    page = {row["id"]: place_of(row) for row in rows[:limit]}
    return page, place_of(rows[limit - 1]) if len(rows) > limit else None


async def walk(tx: Transaction, listing: Listing, *, limit: int, budget: int) -> Sequence[Row]:
    """What is met on the way from `listing.after` on; where the budget ends it, its last row says so."""
    after = listing.after
    return await tx.fetch(
        QUERIES["walk"],
        listing.by,
        listing.down,
        listing.filters.label_until,
        after and after.at,
        after and after.label,
        after and after.memory_id,
        limit,
        budget,
        *listing.filters.values(),
    )


async def among(
    tx: Transaction, project: str, listing: Listing, *, limit: int, after: Place | None
) -> Sequence[Row] | None:
    """The rows of a page out of few memories; None where they are not few."""
    rows = await tx.fetch(
        QUERIES["among"],
        project,
        listing.few,
        listing.by,
        listing.down,
        listing.filters.label_until,
        after and after.at,
        after and after.label,
        after and after.memory_id,
        limit,
        FEW_MAX,
        *listing.filters.values(),
    )
    return None if rows[0]["few"] > FEW_MAX else [row for row in rows if row["id"] is not None]


def place_of(row: Row) -> Place:
    return Place(row["at"], row["label"], row["id"])
