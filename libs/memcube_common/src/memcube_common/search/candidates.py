"""What words and meaning bring for a question, with all that decides about the order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from memcube_common.db import Transaction
from memcube_common.db.pool import Row
from memcube_common.search.domain import WORK_MAX, Blend, Listing, Question
from memcube_common.search.listings import QUERIES, among, walk
from memcube_common.search.scoring import Beside, Candidate, Terms
from memcube_common.search.tiers import Sizes, exact_max, tier

FITTING_MAX: Final = 4_000
"""Up to how many memories that fit a widened search compares just these, rather than all."""
UNBOUNDED: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates in no order, the terms of the question, and how many candidates words and meaning brought.

    work: up to how many places of terms were looked at; terms beyond that brought nothing.
    """

    candidates: list[Candidate]
    terms: Terms
    worded: int
    near: int
    work: int = WORK_MAX

    def may_hide_more(self, question: Question) -> bool:
        """Whether one side brought as many as it was allowed, so that there may be others behind them."""
        full = question.candidates
        left_out = len(self.terms.counts) > 1 and sum(self.terms.counts) > self.work
        if question.blend is Blend.KEYWORD:
            return left_out or self.worded >= full
        if question.floor is not None:  # what is near enough is among the nearest, whatever its words
            return sum(question.is_near_enough(one.similarity) for one in self.candidates) >= full
        return left_out or self.worded >= full or self.near >= full


async def find_candidates(tx: Transaction, project: str, question: Question, sizes: Sizes) -> Pool:
    """The quick way, in one round trip: what is asked for besides words, meaning and tags is not looked at."""
    vector = question.vector
    if vector is None:
        rows = await tx.fetch(
            QUERIES["by_words"],
            project,
            question.text,
            question.names,
            question.tags,
            WORK_MAX,
            question.candidates,
            question.around,
        )
        return _pool(rows)
    small = sizes.is_small(project, vector.generation)
    rows = await tx.fetch(
        QUERIES["by_both"],
        project,
        question.text,
        question.names,
        question.tags,
        WORK_MAX,
        question.candidates,
        vector.value,
        vector.generation,
        small is None,
        exact_max(vector.dimensions) + 1,
        tier(small=small, dimensions=vector.dimensions, candidates=question.candidates),
        question.around,
    )
    if small is None and rows:
        sizes.remember(project, vector.generation, small=rows[0]["vectors"] <= exact_max(vector.dimensions))
    return _pool(rows)


async def widen(tx: Transaction, project: str, question: Question, candidates: int, *, around: int) -> Pool:
    """Candidates among exactly those memories that are asked for, however many others are nearer."""
    fitting = await _find_fitting(tx, project, question)
    if fitting is not None:
        return await _among(tx, project, question, fitting, candidates, around=around)
    vector = question.vector
    rows = await tx.fetch(
        QUERIES["widened"],
        project,
        question.text,
        question.names,
        question.tags,
        candidates,
        vector.value if vector else None,
        vector.generation if vector else 0,
        around,
        *question.filters.values(),
    )
    return _pool(rows, work=UNBOUNDED)


async def count_widened(tx: Transaction, project: str, question: Question, most: int) -> int:
    """How many candidates `widen` would bring that are near enough, without looking at them; counted up to `most`."""
    fitting = await _find_fitting(tx, project, question)
    if fitting is not None:
        pool = await _among(tx, project, question, fitting, most, around=0)
        return sum(question.is_near_enough(one.similarity) for one in pool.candidates)
    vector = question.vector
    return await tx.fetch_value(
        QUERIES["count_widened"],
        project,
        question.text,
        question.names,
        question.tags,
        most,
        vector.value if vector else None,
        vector.generation if vector else 0,
        question.floor,
        *question.filters.values(),
    )


async def find_common_words(tx: Transaction, project: str, words: Sequence[str], share: float) -> list[str]:
    """Those of `words` that stand in more than `share` (0 … 1) of the project's memories."""
    return [row["w"] for row in await tx.fetch(QUERIES["common_words"], project, words, share)]


async def _among(
    tx: Transaction, project: str, question: Question, fitting: Sequence[UUID], candidates: int, *, around: int
) -> Pool:
    if not fitting:
        return _pool([])
    vector = question.vector
    rows = await tx.fetch(
        QUERIES["widened_among"],
        project,
        question.text,
        question.names,
        candidates,
        vector.value if vector else None,
        vector.generation if vector else 0,
        around,
        fitting,
    )
    return _pool(rows, work=UNBOUNDED)


async def _find_fitting(tx: Transaction, project: str, question: Question) -> list[UUID] | None:
    """All memories that fit; None where they are many, or words alone leave fewer to be looked at."""
    listing = Listing(by="created_at", down=True, limit=FITTING_MAX, filters=question.filters)
    rows = None if listing.few is None else await among(tx, project, listing, limit=FITTING_MAX + 1, after=None)
    if rows is None:
        if question.vector is None:
            return None
        rows = await walk(tx, listing, limit=FITTING_MAX + 1, budget=UNBOUNDED)
    return [row["id"] for row in rows] if len(rows) <= FITTING_MAX else None


def _pool(rows: Sequence[Row], *, work: int = WORK_MAX) -> Pool:
    if not rows:  # nothing fits, or the project is gone
        return Pool([], Terms(), 0, 0)
    head = rows[0]
    terms = Terms(head["weights"], head["counts"])
    candidates = [
        Candidate(
            row["memory_id"],
            row["mask"],
            row["tokens"],
            row["traits"],
            row["labelled"],
            row["at"],
            row["similarity"],
            None if row["previous"] is None else Beside(row["previous_mask"], row["previous_similarity"]),
            None if row["following"] is None else Beside(row["following_mask"], row["following_similarity"]),
        )
        for row in rows[1:]
    ]
    return Pool(candidates, terms, head["worded"], head["neared"], work)
