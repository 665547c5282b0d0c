"""Answers that are larger than a message may be: packed by who answers, unpacked by who asked."""

from __future__ import annotations

from typing import Final

import zstandard

from memcube_common.errors import TooLarge, TryAgain

UNPACKED_MAX: Final = 32 * 1024 * 1024
_PACKED: Final = b"\x28\xb5\x2f\xfd"
"""How a frame of Zstandard begins (RFC 8878, 3.1.1), and no JSON does."""


def packed(answer: bytes, *, most: int) -> bytes:
    """The answer as it is where it fits into `most` bytes, else compressed. Raises TooLarge where that does not fit."""
    if len(answer) <= most:
        return answer
    smaller = zstandard.ZstdCompressor(level=3).compress(answer)
    if len(smaller) > most or len(answer) > UNPACKED_MAX:
        raise TooLarge(f"The answer is larger than the {most} bytes of a message: ask for less.")
    return smaller


def unpacked(answer: bytes) -> bytes:
    """The answer as it was before `packed`. Raises TryAgain where it cannot be read, or is over 32 MiB."""
    if not answer.startswith(_PACKED):
        return answer
    try:
        if not 0 < zstandard.frame_content_size(answer) <= UNPACKED_MAX:
            raise TryAgain("an answer on the bus is too large")
        return zstandard.ZstdDecompressor().decompress(answer)
    except zstandard.ZstdError as error:
        raise TryAgain("an answer on the bus could not be read") from error
