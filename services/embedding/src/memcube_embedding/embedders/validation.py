"""What may go into a model and what may come out of one; pure, and silent about content."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from memcube_embedding.embedders.protocol import Vector


class InvalidVector(ValueError):
    """A model answered with something that is not a usable vector; the message names which one and why."""


def why_refused(text: str) -> str | None:
    """Why no model could embed `text`, or None when one may try."""
    if not text or text.isspace():
        return "it is blank"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "it holds a lone surrogate and is not valid Unicode"
    return None


def unit_vector(numbers: ArrayLike, *, dimensions: int, index: int) -> Vector:
    """`numbers` as a float32 array of shape (dimensions,) and length 1.

    Raises `InvalidVector` when the shape is wrong, a number is not finite, or the vector has no direction.
    `index` is the text's place in the call and only serves the message.
    """
    vector = np.asarray(numbers, dtype=np.float64)
    if vector.shape != (dimensions,):
        raise InvalidVector(f"vector {index} has shape {vector.shape}, expected ({dimensions},)")
    if not np.isfinite(vector).all():
        raise InvalidVector(f"vector {index} holds a number that is not finite")
    largest = float(np.abs(vector).max())
    if largest == 0.0:
        raise InvalidVector(f"vector {index} is zero")
    scaled = vector / largest  # so that neither the squares of 1e300 nor those of 1e-300 leave the range of a float
    return (scaled / np.linalg.norm(scaled)).astype(np.float32)
