"""Search in Postgres: by words and by meaning, or in an order; everything under the policies of whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from memcube_common.db import Transaction
from memcube_common.db.pool import Row
from memcube_common.memories.store import memory_fields
from memcube_common.search.candidates import Pool, count_widened, find_candidates, widen
from memcube_common.search.domain import DEPTH_MAX, Filters, Listing, Place, Question, Ranked, order
from memcube_common.search.listings import FEW_MAX, QUERIES, among, find_places
from memcube_common.search.tiers import Sizes

COUNT_MAX: Final = 10_000
COUNT_WALKED_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class Found:
    """A memory that was found: the fields of a contract Memory, and its scores."""

    fields: dict[str, Any]
    score: float
    text_score: float | None
    similarity: float | None
    parts: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class RankedPage:
    """Memories best first. `more`: behind them there may be others."""

    found: list[Found]
    more: bool


@dataclass(frozen=True, slots=True)
class ListedPage:
    """Memories in their order. `after`: where to go on; None at the end. Short does not mean at the end."""

    found: list[Found]
    after: Place | None


@dataclass(frozen=True, slots=True)
class Total:
    """How many memories there are; where it is not exact, at least so many."""

    count: int
    is_exact: bool


async def search(
    tx: Transaction, *, project: str, question: Question, sizes: Sizes, content: bool = True
) -> RankedPage:
    """The best `question.limit` memories for a question, best first; fewer only where no more can be shown.

    Two statements as a rule: candidates, then what of them is asked for and may be seen. Where archived, later, hidden
    or other memories took the places of those asked for, the search is made again with them left out first.
    content: without it nothing that was written is read, and nothing is marked as read.
    """
    pool = await find_candidates(tx, project, question, sizes)
    ranked = _takeable(question, pool)
    hides = pool.may_hide_more(question)
    found = await _read_ranked(tx, project, question, ranked, enough=hides, content=content)
    if hides and len(found) < question.limit:
        pool = await widen(tx, project, question, question.candidates, around=question.around)
        ranked = _takeable(question, pool)
        hides = pool.may_hide_more(question)
        found = await _read_ranked(tx, project, question, ranked, enough=False, content=content)
    full = len(found) == question.limit
    return RankedPage(found, more=full and (hides or found[-1].fields["id"] != ranked[-1].memory_id))


async def rank(tx: Transaction, *, project: str, question: Question, sizes: Sizes) -> list[Ranked]:
    """What words and meaning brought for a question, best first, with its scores; nothing is read and nothing marked.

    What the reader may not see is left out; what is not asked for (`question.filters`) is not: who reads them leaves
    it out. Where too few came the quick way, the search is made again as in `search`.
    """
    pool = await find_candidates(tx, project, question, sizes)
    if len(pool.candidates) < question.limit and pool.may_hide_more(question):
        pool = await widen(tx, project, question, question.candidates, around=question.around)
    return _takeable(question, pool)


async def list_memories(tx: Transaction, *, project: str, listing: Listing, content: bool = True) -> ListedPage:
    """A page of the memories that fit, in the listing's order, each with the time it is ordered by as its score.

    Looks at 20,000 memories at most: where that ends it, the page is short, and goes on behind the last one looked at.
    """
    places, after = await find_places(tx, project, listing)
    rows = await _read(tx, project, list(places), listing.filters, content=content)
    by_label = listing.by == "label"
    found = [Found(memory_fields(r), 0.0 if by_label else places[r["id"]].at.timestamp(), None, None) for r in rows]
    return ListedPage(found, after)


async def list_ranked(
    tx: Transaction, *, project: str, question: Question, listing: Listing, content: bool = True
) -> ListedPage:
    """A page of the 1,000 best memories for a question in the listing's order, each with its relevance as its score."""
    pool = await widen(tx, project, question, DEPTH_MAX, around=question.around)
    best = {one.memory_id: one for one in _takeable(question, pool)[:DEPTH_MAX]}
    among = replace(listing, filters=replace(listing.filters, ids=tuple(best)))
    page = await list_memories(tx, project=project, listing=among, content=content)
    places = [(one, best[one.fields["id"]]) for one in page.found]
    found = [Found(one.fields, place.score, place.text_score, place.similarity, place.parts) for one, place in places]
    return ListedPage(found, page.after)


async def count_listed(tx: Transaction, *, project: str, listing: Listing) -> Total:
    """How many memories fit, counted up to 10,000, among the newest 50,000."""
    if listing.few is not None:
        rows = await among(tx, project, listing, limit=FEW_MAX, after=None)
        if rows is not None:
            return Total(len(rows), is_exact=True)
    row = await tx.fetch_one(QUERIES["count_walked"], COUNT_MAX + 1, COUNT_WALKED_MAX, *listing.filters.values())
    count, looked = (0, 0) if row is None else (row["fit"], row["looked"] or 0)
    return Total(min(count, COUNT_MAX), is_exact=count <= COUNT_MAX and looked < COUNT_WALKED_MAX)


async def count_ranked(tx: Transaction, *, project: str, question: Question) -> Total:
    """How many memories a question could rank, counted up to 10,000: what its words match, what has a vector."""
    count = await count_widened(tx, project, question, COUNT_MAX + 1)
    return Total(min(count, COUNT_MAX), is_exact=count <= COUNT_MAX)


async def find_generation(tx: Transaction, *, dimensions: int) -> int | None:
    """The generation of vectors in force, if it has so many dimensions: a vector that a caller brings is one of it."""
    return await tx.fetch_value(QUERIES["generation_in_force"], dimensions)


async def _read_ranked(
    tx: Transaction, project: str, question: Question, ranked: Sequence[Ranked], *, enough: bool, content: bool
) -> list[Found]:
    by_id = {r.memory_id: r for r in ranked}
    rows = await _read(tx, project, list(by_id), question.filters, limit=question.limit, enough=enough, content=content)
    places = [by_id[row["id"]] for row in rows]
    return [
        Found(memory_fields(row), place.score, place.text_score, place.similarity, place.parts)
        for row, place in zip(rows, places, strict=True)
    ]


async def _read(
    tx: Transaction,
    project: str,
    ids: Sequence[UUID],
    filters: Filters,
    *,
    limit: int | None = None,
    enough: bool = False,
    content: bool = True,
) -> Sequence[Row]:
    most = len(ids) if limit is None else limit
    if content:
        return await tx.fetch(QUERIES["read_found"], project, ids, most, enough, *filters.values())
    return await tx.fetch(QUERIES["read_bare"], project, ids, most, *filters.values())


def _takeable(question: Question, pool: Pool) -> list[Ranked]:
    now = question.now or datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # alike within the hour
    return [one for one in order(pool.candidates, pool.terms, question, now) if question.takes(one)]
