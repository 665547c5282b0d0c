"""An answer larger than a message arrives as it was, or is refused by who answers; nothing else is unpacked."""

from __future__ import annotations

import random

import pytest
import zstandard

from memcube_common.bus.packing import UNPACKED_MAX, packed, unpacked
from memcube_common.errors import TooLarge, TryAgain


def test_what_fits_goes_as_it_is_and_what_does_not_is_smaller_on_the_way() -> None:
    small, large = b'{"id":1}', b'{"prompt":"' + b"words and more words " * 100_000 + b'"}'
    assert packed(small, most=len(small)) == unpacked(small) == small
    on_the_way = packed(large, most=1_000_000)
    assert len(on_the_way) < 1_000_000 < len(large)
    assert unpacked(on_the_way) == large


def test_what_does_not_become_smaller_is_refused() -> None:
    with pytest.raises(TooLarge, match="1000 bytes"):
        packed(random.Random(1).randbytes(5_000), most=1_000)


@pytest.mark.parametrize(
    "answer",
    [
        zstandard.compress(b"x" * 5_000)[:-4],
        zstandard.compress(bytes(UNPACKED_MAX + 1)),
        zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 5_000),
    ],
    ids=["cut", "a bomb", "of no said size"],
)
def test_what_cannot_be_unpacked_within_bounds_is_tried_again(answer: bytes) -> None:
    with pytest.raises(TryAgain):
        unpacked(answer)
