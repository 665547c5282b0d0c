"""Vectors as the embedding room sends them: read exactly, refused where no distance can be taken of them."""

from __future__ import annotations

import base64
import struct

import pytest

from memcube_common.errors import TryAgain
from memcube_common.search.embedding_room import read_vector


def encoded(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_a_vector_is_read_as_sent() -> None:
    assert read_vector(encoded(0.5, -0.25), 2).to_list() == [0.5, -0.25]


@pytest.mark.parametrize(
    ("sent", "dimensions"),
    [
        (encoded(1.0), 2),
        (encoded(1.0, 0.0, 0.0), 2),
        (encoded(float("nan"), 1.0), 2),
        (encoded(float("inf"), 1.0), 2),
        (encoded(0.0, 0.0), 2),
        ("not base64!", 2),
        ("", 2),
    ],
)
def test_a_vector_that_cannot_be_compared_is_refused(sent: str, dimensions: int) -> None:
    with pytest.raises(TryAgain):
        read_vector(sent, dimensions)
