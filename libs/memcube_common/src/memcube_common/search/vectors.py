"""A question's vector as its asker gave it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pgvector import HalfVector


def direction(numbers: Sequence[float]) -> HalfVector:
    """The vector of length 1 that points the same way, whatever the size of the numbers; not all may be zero."""
    given = np.asarray(numbers, dtype=np.float64)
    given = given / np.abs(given).max()
    return HalfVector((given / np.linalg.norm(given)).astype(np.float32))
