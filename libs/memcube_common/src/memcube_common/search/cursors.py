"""Where the next page begins, as bytes to be signed: a place in a listing, or marks of what a ranking has shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from memcube_common.search.domain import MARK_BYTES, Place

DIGEST: Final = 16
"""Bytes of the digest of a query."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LISTED: Final = b"l"
_RANKED: Final = b"r"


def after_place(asked: bytes, place: Place) -> bytes:
    """The cursor behind `place` in the listing of the query whose digest is `asked` (16 bytes)."""
    micros = (place.at - _EPOCH) // timedelta(microseconds=1)
    return _LISTED + asked + micros.to_bytes(8, "big", signed=True) + place.memory_id.bytes + place.label.encode()


def after_marks(asked: bytes, seen: frozenset[bytes]) -> bytes:
    """The cursor behind what a ranking of the query whose digest is `asked` (16 bytes) has shown."""
    return _RANKED + asked + b"".join(sorted(seen))


def read_place(asked: bytes, cursor: bytes) -> Place | None:
    """The place in a listing; None where this is not a cursor of that query."""
    rest = _of(_LISTED, asked, cursor)
    if rest is None:
        return None
    at = _EPOCH + timedelta(microseconds=int.from_bytes(rest[:8], "big", signed=True))
    return Place(at, rest[24:].decode(), UUID(bytes=rest[8:24]))


def read_marks(asked: bytes, cursor: bytes) -> frozenset[bytes] | None:
    """The marks of what was shown; None where this is not a cursor of that query."""
    rest = _of(_RANKED, asked, cursor)
    if rest is None:
        return None
    return frozenset(rest[place : place + MARK_BYTES] for place in range(0, len(rest), MARK_BYTES))


def _of(kind: bytes, asked: bytes, cursor: bytes) -> bytes | None:
    head = kind + asked
    return cursor[len(head) :] if cursor.startswith(head) else None
