"""The extractive summary: whole sentences of the sources, word for word, the same every time, within a budget.

Sentences are vectors of tf·idf weights over their words (Salton and Buckley, "Term-weighting approaches in automatic
text retrieval", IPM 24(5), 1988): tf the count in the sentence, idf = ln(1 + N / df) over all N sentences, length 1.
What a sentence is worth is its cosine to the centroid of all (Radev et al., "Centroid-based summarization of multiple
documents", IPM 40(6), 2004) and a little for standing early (Edmundson, "New methods in automatic extracting", JACM
16(2), 1969). They are taken by maximal marginal relevance, 0.7 · worth - 0.3 · likeness to what is taken already
(Carbonell and Goldstein, "The use of MMR", SIGIR 1998), after every source has one sentence where the budget allows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from memcube_common.contracts.fields import CONTENT_MAX_BYTES
from memcube_common.tokens import count_tokens

RELEVANCE: Final = 0.7
ALIKE: Final = 0.9
"""Cosine from which a sentence says nothing that one taken already does not say."""

CANDIDATES: Final = 400
"""Most sentences that are compared with each other: beyond, the least worth are left out first."""

SENTENCES: Final = 8_000
"""Most sentences that are weighed (a second's work): of very long sources, only as many from the beginning of each."""

_UNENDED_LENGTH: Final = 8
"""Characters of the longest unended word, with its dot and what stands before it."""

_LEAD: Final = 0.15
_FEW_WORDS: Final = 4
_WORD: Final = re.compile(r"\w+")
_END: Final = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W_a-z])|(?<=[。！？])")
_ENDING: Final = re.compile(r"[.!?…][\"'”’)\]]*(?=\s|\Z)|[。！？]")
_UNENDED: Final = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|e\.g|i\.e|cf|vs|etc|approx|Dr|Mr|Mrs|Ms|Prof|St|No|Fig|Nr|z\.B|bzw)\.$"
)

Vector = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as it stands in source `source` (from 0), the `place`-th there; what it costs in o200k tokens."""

    source: int
    place: int
    text: str
    vector: Vector
    worth: float
    tokens: int

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands among all."""
        return (self.source, self.place)


def sentences_of(text: str, most: int = SENTENCES) -> list[str]:
    """The first `most` sentences of a text as they stand there, without the space around them; a line ends one too.

    A dot behind a single letter or a common abbreviation ends none. The time is linear in the length of the text.
    """
    return list(
        islice((one for one in _pieces(text) if one and any(c.isprintable() and not c.isspace() for c in one)), most)
    )


def _pieces(text: str) -> Iterator[str]:
    for line in text.splitlines():
        begin = 0
        for end in _END.finditer(line):
            if _UNENDED.search(line[max(begin, end.start() - _UNENDED_LENGTH) : end.start()]):
                continue
            yield line[begin : end.end()].strip()
            begin = end.end()
        yield line[begin:].strip()


def summary(texts: Sequence[str], max_tokens: int, *, among: int | None = None) -> str:
    """At most `max_tokens` o200k tokens and 64 KiB of the sentences of `texts`, in their order; a line for each source.

    Every text has a sentence in it where the budget allows; where not one sentence fits, it is the beginning of the
    first. Texts without a word that can be shown give ''. Of so many texts
    that each has its share of the work: `among`, these where it is absent.
    """
    most = SENTENCES // max(1, among or len(texts))
    candidates = _candidates([sentences_of(text, most) for text in texts])
    if not candidates:
        return ""
    taken = _fill(_cover(candidates, max_tokens), candidates, max_tokens)
    while taken:
        text = _joined(taken)
        if _fits(text, max_tokens):
            return text
        taken = taken[:-1]
    return beginning(min(candidates, key=lambda one: one.order).text, max_tokens)


def beginning(text: str, max_tokens: int) -> str:
    """As much of the beginning of `text` as has at most `max_tokens` o200k tokens and 64 KiB, up to a word's end."""
    low, high = 0, min(len(text), CONTENT_MAX_BYTES)
    while low < high:  # more text is not always more tokens, so what is found is looked at again below
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(text[:middle], max_tokens) else (low, middle - 1)
    while low and not _fits(text[:low].rstrip(), max_tokens):
        low -= 1
    cut = text[:low].rstrip()
    if low < len(text) and not text[low].isspace():
        cut = (cut.rpartition(" ")[0] or cut).rstrip()
    while cut and not _fits(cut, max_tokens):
        cut = cut[:-1].rstrip()
    return cut


def shortened(text: str, max_tokens: int) -> str:
    """`text`, or its beginning where it has more than `max_tokens` tokens or 64 KiB: whole sentences where it can."""
    cut = beginning(text, max_tokens)
    if cut == text.rstrip():
        return cut
    ends = [end.end() for end in _ENDING.finditer(cut)]
    return cut[: ends[-1]] if ends else cut


def _fits(text: str, max_tokens: int) -> bool:
    return len(text.encode()) <= CONTENT_MAX_BYTES and count_tokens(text) <= max_tokens


def _candidates(sources: Sequence[Sequence[str]]) -> list[Sentence]:
    """The sentences worth comparing, in order: of those with the same words the first, of a source four at least."""
    told: set[str] = set()
    rows: list[tuple[int, int, str, Counter[str]]] = []
    for source, sentences in enumerate(sources):
        for place, text in enumerate(sentences):
            words = _WORD.findall(text.casefold())
            key = " ".join(words) or text
            if key not in told:
                told.add(key)
                rows.append((source, place, text, Counter(words)))
    appears = Counter(word for *_, words in rows for word in words)
    weights = {word: math.log(1 + len(rows) / many) for word, many in appears.items()}
    vectors = [_unit({word: many * weights[word] for word, many in words.items()}) for *_, words in rows]
    centroid: dict[str, float] = {}
    for vector in vectors:
        for word, weight in vector.items():
            centroid[word] = centroid.get(word, 0.0) + weight
    centre = _unit(centroid)
    worth = [
        _likeness(vector, centre) * min(1.0, len(words) / _FEW_WORDS) + _LEAD / math.sqrt(1 + place)
        for (_, place, _, words), vector in zip(rows, vectors, strict=True)
    ]
    best = sorted(range(len(rows)), key=lambda row: (-worth[row], row))
    many_of: Counter[int] = Counter()
    kept: list[int] = []
    for rank, row in enumerate(best):
        if rank < CANDIDATES - 4 * len(sources) or many_of[rows[row][0]] < 4:
            kept.append(row)
            many_of[rows[row][0]] += 1
    return [
        Sentence(rows[row][0], rows[row][1], rows[row][2], vectors[row], worth[row], count_tokens(rows[row][2]) + 1)
        for row in sorted(kept)
    ]


def _cover(candidates: Sequence[Sentence], budget: int) -> list[Sentence]:
    """The best sentence of every source, as many sources as the budget can cover, the cheapest of them surely."""
    by_source: dict[int, list[Sentence]] = {}
    for one in candidates:
        by_source.setdefault(one.source, []).append(one)
    least = {source: min(one.tokens for one in sentences) for source, sentences in by_source.items()}
    covered: list[int] = []
    reserved = 0
    for source in sorted(least, key=lambda source: (least[source], source)):
        if reserved + least[source] <= budget:
            covered.append(source)
            reserved += least[source]
    taken: list[Sentence] = []
    left = budget
    for source in sorted(covered):
        reserved -= least[source]
        fitting = [one for one in by_source[source] if one.tokens <= left - reserved]
        best = max(fitting, key=lambda one: (one.worth, -one.place))
        taken.append(best)
        left -= best.tokens
    return taken


def _fill(taken: list[Sentence], candidates: Sequence[Sentence], budget: int) -> list[Sentence]:
    """`taken`, and what maximal marginal relevance adds to it, in the order in which it was taken."""
    chosen = {one.order for one in taken}
    left = budget - sum(one.tokens for one in taken)
    waiting = [one for one in candidates if one.order not in chosen]
    nearest = {one.order: max((_likeness(one.vector, other.vector) for other in taken), default=0.0) for one in waiting}
    while waiting:
        waiting = [one for one in waiting if one.tokens <= left and nearest[one.order] < ALIKE]
        if not waiting:
            break
        best = max(
            waiting,
            key=lambda one: (RELEVANCE * one.worth - (1 - RELEVANCE) * nearest[one.order], -one.source, -one.place),
        )
        taken = [*taken, best]
        left -= best.tokens
        waiting = [one for one in waiting if one is not best]
        for one in waiting:
            nearest[one.order] = max(nearest[one.order], _likeness(one.vector, best.vector))
    return taken


def _joined(taken: Sequence[Sentence]) -> str:
    lines: dict[int, list[str]] = {}
    for one in sorted(taken, key=lambda one: one.order):
        lines.setdefault(one.source, []).append(one.text)
    return "\n".join(" ".join(line) for line in lines.values())


def _unit(weights: Mapping[str, float]) -> dict[str, float]:
    length = math.sqrt(math.fsum(weight * weight for weight in weights.values()))
    return {word: weight / length for word, weight in weights.items()} if length else {}


def _likeness(one: Vector, other: Vector) -> float:
    """The cosine of two vectors of length 1."""
    few, many = (one, other) if len(one) <= len(other) else (other, one)
    return math.fsum(weight * many[word] for word, weight in few.items() if word in many)
