"""Search in Postgres: candidates by words and by meaning, read back under the policies of whoever asks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from memcube_common.db import Statements, Transaction
from memcube_common.db.pool import Row
from memcube_common.memories.store import memory_fields
from memcube_common.search.domain import (
    RANKED_MAX,
    Blend,
    Candidate,
    Question,
    Ranked,
    exact_max,
    fuse,
    rerank_size,
)

QUERIES = Statements(__package__)

TAGGED_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Found:
    """A memory that was found: the fields of a contract Memory, and its scores."""

    fields: dict[str, Any]
    score: float
    text_score: float | None
    similarity: float | None


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


async def search(tx: Transaction, *, project: str, question: Question, sizes: Sizes) -> list[Found]:
    """The best `question.limit` memories for a question, best first; fewer only where no more can be shown.

    Two statements as a rule: candidates, then what of them the reader may see. Where archived, expired, later or
    hidden memories took the places of others, the search is made again with those left out first.
    """
    candidates = await _find_candidates(tx, project, question, sizes)
    ranked = fuse(candidates, question.blend)
    widen = _may_hide_more(candidates, question)
    found = await _read(tx, project, question, ranked, "read_enough" if widen else "read_found")
    if widen and len(found) < question.limit:
        ranked = fuse(await _widen(tx, project, question), question.blend)
        found = await _read(tx, project, question, ranked, "read_found")
    return found


async def newest(
    tx: Transaction, *, project: str, tags: Sequence[str], limit: int, as_of: datetime | None
) -> list[Found]:
    """The newest memories, with tags those that carry all of them; the score is the time of creation."""
    rows: Sequence[Row] = []
    complete = False
    if tags:
        rows = await tx.fetch(QUERIES["newest_tagged"], project, tags, as_of, limit, TAGGED_MAX)
        complete = rows[0]["carriers"] <= TAGGED_MAX
    if not complete:
        rows = await tx.fetch(QUERIES["newest"], project, tags, as_of, limit)
    return [
        Found(memory_fields(row), row["created_at"].timestamp(), None, None) for row in rows if row["id"] is not None
    ]


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


async def _widen(tx: Transaction, project: str, question: Question) -> list[Candidate]:
    vector = question.vector
    rows = await tx.fetch(
        QUERIES["widened"],
        project,
        question.text,
        question.tags,
        question.as_of,
        question.candidates,
        vector.value if vector else None,
        vector.generation if vector else 0,
    )
    return _candidates(rows)


async def _read(
    tx: Transaction,
    project: str,
    question: Question,
    ranked: Sequence[Ranked],
    how: Literal["read_found", "read_enough"],
) -> list[Found]:
    rows = await tx.fetch(QUERIES[how], project, [r.memory_id for r in ranked], question.as_of, question.limit)
    by_id = {r.memory_id: r for r in ranked}
    places = [by_id[row["id"]] for row in rows]
    return [
        Found(memory_fields(row), place.score, place.text_score, place.similarity)
        for row, place in zip(rows, places, strict=True)
    ]


def _may_hide_more(candidates: Sequence[Candidate], question: Question) -> bool:
    """Whether one side brought as many candidates as it was allowed, so that there may be others behind them."""
    full = question.candidates
    words = sum(c.text_score is not None for c in candidates)
    if question.blend is Blend.KEYWORD:
        return words >= full
    near = sum(c.similarity is not None for c in candidates)
    return words >= full or near >= full


def _candidates(rows: Sequence[Row]) -> list[Candidate]:
    return [Candidate(row["memory_id"], row["text_score"], row["similarity"]) for row in rows]
