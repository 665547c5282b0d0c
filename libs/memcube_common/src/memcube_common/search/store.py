"""Search in Postgres: by words and by meaning, or in an order; everything under the policies of whoever asks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from memcube_common.db import Statements, Transaction
from memcube_common.db.pool import Row
from memcube_common.memories.store import memory_fields
from memcube_common.search.domain import (
    DEPTH_MAX,
    RANKED_MAX,
    Blend,
    Candidate,
    Filters,
    Listing,
    Place,
    Question,
    Ranked,
    exact_max,
    fuse,
    rerank_size,
)

QUERIES = Statements(__package__)

FEW_MAX: Final = 2_000
"""Up to how many memories that come into question are looked up, rather than the listing walked."""
WALKED_MAX: Final = 20_000
"""How many memories a page of a listing looks at before it is broken off."""
FITTING_MAX: Final = 4_000
"""Up to how many memories that fit a widened search compares just these, rather than all."""
UNBOUNDED: Final = 2**31 - 1
COUNT_MAX: Final = 10_000
COUNT_WALKED_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class Found:
    """A memory that was found: the fields of a contract Memory, and its scores."""

    fields: dict[str, Any]
    score: float
    text_score: float | None
    similarity: float | None


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


class Sizes:
    """Whether a project has few vectors or many, remembered for `keep` seconds, for at most `most` projects.

    Either way of searching is right for every size; the choice only decides which is quicker.
    """

    def __init__(self, *, keep: float = 30.0, most: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep = keep
        self._most = most
        self._clock = clock
        self._known: OrderedDict[tuple[str, int], tuple[bool, float]] = OrderedDict()

    def is_small(self, project: str, generation: int) -> bool | None:
        """True for so few vectors that all are compared, False for more, None where it has to be counted."""
        known = self._known.get((project, generation))
        return None if known is None or known[1] < self._clock() else known[0]

    def remember(self, project: str, generation: int, *, small: bool) -> None:
        """Keep what was counted."""
        self._known[project, generation] = (small, self._clock() + self._keep)
        self._known.move_to_end((project, generation))
        if len(self._known) > self._most:
            self._known.popitem(last=False)


async def search(
    tx: Transaction, *, project: str, question: Question, sizes: Sizes, content: bool = True
) -> RankedPage:
    """The best `question.limit` memories for a question, best first; fewer only where no more can be shown.

    Two statements as a rule: candidates, then what of them is asked for and may be seen. Where archived, later, hidden
    or other memories took the places of those asked for, the search is made again with them left out first.
    content: without it nothing that was written is read, and nothing is marked as read.
    """
    candidates = await _find_candidates(tx, project, question, sizes)
    ranked = _takeable(question, candidates)
    widen = _may_hide_more(candidates, question)
    found = await _read_ranked(tx, project, question, ranked, enough=widen, content=content)
    if widen and len(found) < question.limit:
        candidates = await _widen(tx, project, question, question.candidates)
        ranked = _takeable(question, candidates)
        widen = _may_hide_more(candidates, question)
        found = await _read_ranked(tx, project, question, ranked, enough=False, content=content)
    full = len(found) == question.limit
    return RankedPage(found, more=full and (widen or found[-1].fields["id"] != ranked[-1].memory_id))


async def list_memories(tx: Transaction, *, project: str, listing: Listing, content: bool = True) -> ListedPage:
    """A page of the memories that fit, in the listing's order, each with the time it is ordered by as its score.

    Looks at 20,000 memories at most: where that ends it, the page is short, and goes on behind the last one looked at.
    """
    places, after = await _find_places(tx, project, listing)
    rows = await _read(tx, project, list(places), listing.filters, content=content)
    by_label = listing.by == "label"
    found = [Found(memory_fields(r), 0.0 if by_label else places[r["id"]].at.timestamp(), None, None) for r in rows]
    return ListedPage(found, after)


async def list_ranked(
    tx: Transaction, *, project: str, question: Question, listing: Listing, content: bool = True
) -> ListedPage:
    """A page of the 1,000 best memories for a question in the listing's order, each with its relevance as its score."""
    candidates = await _widen(tx, project, question, DEPTH_MAX)
    best = {one.memory_id: one for one in _takeable(question, candidates)[:DEPTH_MAX]}
    among = replace(listing, filters=replace(listing.filters, ids=tuple(best)))
    page = await list_memories(tx, project=project, listing=among, content=content)
    places = [(one, best[one.fields["id"]]) for one in page.found]
    found = [Found(one.fields, place.score, place.text_score, place.similarity) for one, place in places]
    return ListedPage(found, page.after)


async def count_listed(tx: Transaction, *, project: str, listing: Listing) -> Total:
    """How many memories fit, counted up to 10,000, among the newest 50,000."""
    if listing.few is not None:
        rows = await _among(tx, project, listing, limit=FEW_MAX, after=None)
        if rows is not None:
            return Total(len(rows), is_exact=True)
    row = await tx.fetch_one(QUERIES["count_walked"], COUNT_MAX + 1, COUNT_WALKED_MAX, *listing.filters.values())
    count, looked = (0, 0) if row is None else (row["fit"], row["looked"] or 0)
    return Total(min(count, COUNT_MAX), is_exact=count <= COUNT_MAX and looked < COUNT_WALKED_MAX)


async def count_ranked(tx: Transaction, *, project: str, question: Question) -> Total:
    """How many memories a question could rank, counted up to 10,000: what its words match, what has a vector."""
    candidates = await _widen(tx, project, question, COUNT_MAX + 1)
    count = sum(question.is_near_enough(one.similarity) for one in candidates)
    return Total(min(count, COUNT_MAX), is_exact=count <= COUNT_MAX)


async def find_generation(tx: Transaction, *, dimensions: int) -> int | None:
    """The newest generation of vectors with so many dimensions."""
    rows = await tx.fetch(QUERIES["generations"])
    return next((row["generation"] for row in rows if row["dimensions"] == dimensions), None)


async def _find_places(tx: Transaction, project: str, listing: Listing) -> tuple[dict[UUID, Place], Place | None]:
    """The memories of a page with their places, in order; and where to go on."""
    limit = listing.limit
    rows = None if listing.few is None else await _among(tx, project, listing, limit=limit + 1, after=listing.after)
    if rows is None:
        rows = await _walk(tx, listing, limit=limit + 1, budget=WALKED_MAX)
        last = rows[-1] if rows and rows[-1]["looked"] == WALKED_MAX else None
        rows = [row for row in rows if row["fit"]]
        if last is not None and len(rows) <= limit:
            return {row["id"]: _place(row) for row in rows}, _place(last)
    page = {row["id"]: _place(row) for row in rows[:limit]}
    return page, _place(rows[limit - 1]) if len(rows) > limit else None


async def _walk(tx: Transaction, listing: Listing, *, limit: int, budget: int) -> Sequence[Row]:
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


async def _among(
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


def _place(row: Row) -> Place:
    return Place(row["at"], row["label"], row["id"])


async def _find_candidates(tx: Transaction, project: str, question: Question, sizes: Sizes) -> list[Candidate]:
    vector = question.vector
    if vector is None:
        rows = await tx.fetch(
            QUERIES["by_words"], project, question.text, question.tags, RANKED_MAX, question.candidates
        )
        return _candidates(rows)
    small = sizes.is_small(project, vector.generation)
    rows = await tx.fetch(
        QUERIES["by_both"],
        project,
        question.text,
        question.tags,
        RANKED_MAX,
        question.candidates,
        vector.value,
        vector.generation,
        small is None,
        exact_max(vector.dimensions) + 1,
        0 if small else rerank_size(vector.dimensions, question.candidates),
    )
    if small is None and rows:
        sizes.remember(project, vector.generation, small=rows[0]["vectors"] <= exact_max(vector.dimensions))
    return _candidates(rows)


async def _widen(tx: Transaction, project: str, question: Question, candidates: int) -> list[Candidate]:
    """Candidates among exactly those memories that are asked for, however many others are nearer."""
    vector = question.vector
    asked = (
        project,
        question.text,
        question.tags,
        candidates,
        vector.value if vector else None,
        vector.generation if vector else 0,
    )
    fitting = await _find_fitting(tx, project, question)
    if fitting is not None:
        return _candidates(await tx.fetch(QUERIES["widened_among"], *asked, fitting))
    return _candidates(await tx.fetch(QUERIES["widened"], *asked, *question.filters.values()))


async def _find_fitting(tx: Transaction, project: str, question: Question) -> list[UUID] | None:
    """All memories that fit; None where they are many, or words alone leave fewer to be looked at."""
    listing = Listing(by="created_at", down=True, limit=FITTING_MAX, filters=question.filters)
    rows = None if listing.few is None else await _among(tx, project, listing, limit=FITTING_MAX + 1, after=None)
    if rows is None:
        if question.vector is None:
            return None
        rows = await _walk(tx, listing, limit=FITTING_MAX + 1, budget=UNBOUNDED)
    return [row["id"] for row in rows] if len(rows) <= FITTING_MAX else None


async def _read_ranked(
    tx: Transaction, project: str, question: Question, ranked: Sequence[Ranked], *, enough: bool, content: bool
) -> list[Found]:
    by_id = {r.memory_id: r for r in ranked}
    rows = await _read(tx, project, list(by_id), question.filters, limit=question.limit, enough=enough, content=content)
    places = [by_id[row["id"]] for row in rows]
    return [
        Found(memory_fields(row), place.score, place.text_score, place.similarity)
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


def _takeable(question: Question, candidates: Sequence[Candidate]) -> list[Ranked]:
    return [one for one in fuse(candidates, question.blend) if question.takes(one)]


def _may_hide_more(candidates: Sequence[Candidate], question: Question) -> bool:
    """Whether one side brought as many candidates as it was allowed, so that there may be others behind them."""
    full = question.candidates
    words = sum(c.text_score is not None for c in candidates)
    if question.blend is Blend.KEYWORD:
        return words >= full
    near = [c.similarity for c in candidates if c.similarity is not None]
    if question.floor is not None:  # what is near enough is among the nearest, whatever its words
        return sum(similarity >= question.floor for similarity in near) >= full
    return words >= full or len(near) >= full


def _candidates(rows: Sequence[Row]) -> list[Candidate]:
    return [Candidate(row["memory_id"], row["text_score"], row["similarity"]) for row in rows]
