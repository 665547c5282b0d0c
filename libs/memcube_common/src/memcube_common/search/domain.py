"""What is asked of memories, and how what words and meaning found becomes one order: pure, the same every time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal
from uuid import UUID

from pgvector import HalfVector

from memcube_common.search.scoring import Candidate, Scorer, Terms
from memcube_common.search.signals import signals_of, written_as_names

WORK_MAX: Final = 3_000
"""How many places of terms in memories a search by words looks at."""
CANDIDATES_MIN: Final = 100
DEPTH_MAX: Final = 1_000
"""How far down a ranking can be paged, in memories."""
MARK_BYTES: Final = 5
LIVE: Final = ("NEW", "ACTIVE", "STALE")
AROUND_MIN: Final = 60
"""How many of the best have their neighbours looked at."""

OrderBy = Literal["created_at", "updated_at", "label"]


class Blend(Enum):
    """Which scores make the order."""

    HYBRID = "hybrid"
    SEMANTIC = "semantic"
    KEYWORD = "keyword"


@dataclass(frozen=True, slots=True)
class QuestionVector:
    """A question's vector, made by the model of `generation`; comparable with that generation's vectors only."""

    generation: int
    dimensions: int
    value: HalfVector


@dataclass(frozen=True, slots=True)
class Filters:
    """Which memories come into question, by everything but words and meaning; None was not asked.

    The names and their order are those of the type `memcube.filters`, and `memcube.fits` says what they mean.
    metadata: a JSON object that the memory's own must contain, as text. label_*: literally; `contains` in any case.
    """

    lifecycles: tuple[str, ...] = LIVE
    tags_all: tuple[str, ...] | None = None
    tags_any: tuple[str, ...] | None = None
    tags_none: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    priorities: tuple[str, ...] | None = None
    trusts: tuple[str, ...] | None = None
    label_is: str | None = None
    label_prefix: str | None = None
    label_contains: str | None = None
    metadata: str | None = None
    makers: tuple[str, ...] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    as_of: datetime | None = None
    ids: tuple[UUID, ...] | None = None

    def values(self) -> tuple[Any, ...]:
        """As parameters of a statement, in order."""
        return tuple(getattr(self, name) for name in _FILTERS)

    @property
    def label_until(self) -> str | None:
        """The first label, by its characters' numbers, behind all that could fit; None where there is no such."""
        if self.label_is is not None:
            return self.label_is + "\x01"  # no label has control characters
        return None if self.label_prefix is None else _behind(self.label_prefix)


_FILTERS: Final = tuple(field.name for field in fields(Filters))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of a listing ended: the last memory that was looked at, by what the listing is ordered by."""

    at: datetime
    label: str
    memory_id: UUID


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the memories that fit, in an order of their own; `after` is where the page before it ended."""

    by: OrderBy
    down: bool
    limit: int
    filters: Filters
    after: Place | None = None

    @property
    def few(self) -> Literal["ids", "tags", "labels"] | None:
        """What may narrow the listing to few memories before any is looked at; None where nothing does."""
        asked = self.filters
        if asked.ids is not None:
            return "ids"
        if asked.tags_all or asked.tags_any:
            return "tags"
        labelled = asked.label_is is not None or asked.label_prefix is not None
        return "labels" if labelled and self.by != "label" and set(asked.lifecycles) <= set(LIVE) else None


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for. `vector` is None where the search is by words only; `text` None where by meaning only.

    floor: least cosine similarity. seen: marks of what earlier pages showed, which is not shown again. now: when it is
    asked, for recency and for times it speaks of; None is this moment. without: stages that are switched off.
    """

    text: str | None
    limit: int
    vector: QuestionVector | None
    filters: Filters = Filters()
    floor: float | None = None
    seen: frozenset[bytes] = frozenset()
    now: datetime | None = None
    without: frozenset[str] = frozenset()

    @property
    def names(self) -> str:
        """What of the text is written as names."""
        return "" if self.text is None else " ".join(written_as_names(self.text))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that candidates are chosen by."""
        return self.filters.tags_all or ()

    def takes(self, one: Ranked) -> bool:
        """Whether a candidate may be shown: near enough, and not shown before."""
        return self.is_near_enough(one.similarity) and not (self.seen and mark(one.memory_id) in self.seen)

    def is_near_enough(self, similarity: float | None) -> bool:
        """Whether a similarity reaches the floor; what has none reaches only where there is no floor."""
        return self.floor is None or (similarity is not None and similarity >= self.floor)

    @property
    def blend(self) -> Blend:
        """Which scores make the order, given what there is to search with."""
        if self.vector is None:
            return Blend.KEYWORD
        return Blend.SEMANTIC if self.text is None else Blend.HYBRID

    @property
    def around(self) -> int:
        """How many of the best share scores with their neighbours; none by meaning alone."""
        if self.blend is Blend.SEMANTIC or "neighbours" in self.without:
            return 0
        return max(AROUND_MIN, min(self.limit + len(self.seen), DEPTH_MAX))

    @property
    def candidates(self) -> int:
        """How many candidates each side brings: enough that what is left out rarely empties the answer."""
        return max(CANDIDATES_MIN, 2 * (self.limit + len(self.seen)))


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its place in the order: a higher `score` is better.

    text_score: the share of the question's information that its words carry, 0 … 1. similarity: cosine, −1 … 1.
    parts: what the score is made of.
    """

    memory_id: UUID
    score: float
    text_score: float | None
    similarity: float | None
    parts: Mapping[str, float] | None = None


def order(candidates: Sequence[Candidate], terms: Terms, question: Question, now: datetime) -> list[Ranked]:
    """The candidates, best first; equal scores are ordered by id, so that the same answer comes out every time.

    By meaning alone the score is the similarity itself; else the sum of all parts that are not switched off, where
    what there is to search with decides which there are.
    """
    without = question.without if question.vector is not None else question.without | {"meaning"}
    scorer = Scorer(terms, candidates, signals_of(question.text, now), without)
    ranked: list[Ranked] = []
    for one in candidates:
        if question.blend is Blend.SEMANTIC:
            similarity = -1.0 if one.similarity is None else one.similarity
            ranked.append(Ranked(one.memory_id, similarity, None, one.similarity, {"meaning": similarity}))
        else:
            scored = scorer.score(one)
            ranked.append(Ranked(one.memory_id, scored.score, scored.coverage, one.similarity, scored.parts))
    return sorted(ranked, key=lambda r: (-r.score, r.memory_id.int))


def mark(memory_id: UUID) -> bytes:
    """A few bytes that tell a memory from the thousand others of one ranking: 1 in a billion is taken for another."""
    return hashlib.blake2b(memory_id.bytes, digest_size=MARK_BYTES).digest()


def _behind(prefix: str) -> str | None:
    """The first text, by its characters' numbers, behind all that begin with `prefix`; None where there is none."""
    for place in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[place]) + 1
        if following == 0xD800:
            following = 0xE000  # surrogates are no characters
        if following <= 0x10FFFF:
            return prefix[:place] + chr(following)
    return None
