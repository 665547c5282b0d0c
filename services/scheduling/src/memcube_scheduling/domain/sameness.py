"""Which texts say the same: the cosine of their words, each weighed by how few of the candidates have it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIMILAR: Final = 0.4
"""Below this, two texts have nothing to do with each other: what is shared is how people write."""

WORDS_MAX: Final = 400
"""So many words of a text are compared: what texts of 64 KiB cost beyond that, everybody would wait for."""

_ROWS: Final = 96
_COLUMNS: Final = 24

Similarities = dict[tuple[int, int], float]
"""How much two of the candidates say the same, by their places (lower, higher), where it is 0.4 or more."""


def words_of(lines: str) -> list[str]:
    """The words of a text, given one a line: at most 400, the last. A text may have none, and resembles nothing."""
    return lines.rsplit("\n", WORDS_MAX)[-WORDS_MAX:] if lines else []


def similarities(words: Sequence[Sequence[str]]) -> Similarities:
    """The pairs that are alike, 0.4 … 1; words: of each text, every word once, in any order.

    Cosine of binary vectors under idf = ln(1 + n / df), as texts are compared in information retrieval; what one text
    alone has counts in its length only. Rounded to two decimals, so that no machine adds up otherwise.
    """
    size = len(words)
    numbers: dict[str, int] = {}
    sizes = [len(text) for text in words]
    flat = np.fromiter(
        (numbers.setdefault(word, len(numbers)) for word in chain.from_iterable(words)),
        dtype=np.int64,
        count=sum(sizes),
    )
    if not flat.size:
        return {}
    texts = np.repeat(np.arange(size), sizes)
    counted = np.bincount(flat, minlength=len(numbers))
    idf = np.log1p(size / counted)
    lengths = np.sqrt(np.bincount(texts, weights=idf[flat] ** 2, minlength=size))
    shared = counted[flat] > 1
    columns = np.cumsum(counted > 1) - 1
    vectors = np.zeros((size, int((counted > 1).sum())), dtype=np.float32)
    vectors[texts[shared], columns[flat[shared]]] = (idf[flat] / lengths[texts])[shared]
    alike = np.round(np.triu(_products(vectors), 1), 2)
    return {
        (int(one), int(other)): min(1.0, round(float(alike[one, other]), 2))
        for one, other in np.argwhere(alike >= SIMILAR - 1e-6)
    }


def _products(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every dot product of two rows, the first of which stands before the other.

    In pieces too small for the BLAS to share out over processors: on a busy machine its threads wait for each other
    (100 rows: 0.4 ms alone, 13 ms beside others).
    """
    size = len(vectors)
    products = np.zeros((size, size), dtype=np.float32)
    for column in range(0, vectors.shape[1], _COLUMNS):
        piece = np.ascontiguousarray(vectors[:, column : column + _COLUMNS])
        other = np.ascontiguousarray(piece.T)
        for row in range(0, size, _ROWS):
            for after in range(row, size, _ROWS):
                products[row : row + _ROWS, after : after + _ROWS] += (
                    piece[row : row + _ROWS] @ other[:, after : after + _ROWS]
                )
    return products
