"""What a payload is while it arrives and when it is read again: sizes, limits, hashes, the name of its object."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from memcube_common.contracts.fields import CONTENT_MAX_BYTES, MemoryType
from memcube_common.errors import FieldError, Invalid, TooLarge

BLOCK: Final = 1024 * 1024
"""Bytes of one block: what is hashed by itself, so that any range can be checked before it is sent."""

ROW_MAX: Final = 64 * 1024
"""Bytes up to which a payload lies in its row; a larger one is an object."""

PAYLOAD_MAX: Final[Mapping[MemoryType, int]] = {
    "PLAINTEXT": CONTENT_MAX_BYTES,
    "ACTIVATION": 256 * 1024,
    "PARAMETER": 50 * 1024 * 1024,
}
"""Most bytes of a payload, by the type of its memory."""

DIGEST: Final = 32
_PATH: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9a-f]{32}\Z")


@dataclass(frozen=True, slots=True)
class Arrived:
    """A payload that is there as a whole. checksum: SHA-256 of all of it; blocks: SHA-256 of each MiB, joined."""

    size: int
    checksum: bytes
    blocks: bytes


class Arriving:
    """Measures a payload while its bytes pass by; it keeps none of them."""

    def __init__(self, type: MemoryType) -> None:
        self.type: MemoryType = type
        self.limit = PAYLOAD_MAX[type]
        self.size = 0
        self._whole = hashlib.sha256()
        self._block = hashlib.sha256()
        self._room = BLOCK
        self._blocks = bytearray()

    def take(self, chunk: bytes) -> None:
        """Count and hash the next bytes. Raises TooLarge where the payload is now larger than its type allows."""
        self.size += len(chunk)
        if self.size > self.limit:
            raise too_large(self.type)
        self._whole.update(chunk)
        rest = memoryview(chunk)
        while rest:
            self._block.update(rest[: self._room])
            taken = min(self._room, len(rest))
            rest = rest[taken:]
            self._room -= taken
            if self._room == 0:
                self._end_block()

    def arrived(self) -> Arrived:
        """What has come, once nothing more does. Raises Invalid where nothing came at all."""
        if self.size == 0:
            raise Invalid(errors=[FieldError("payload", "must not be empty")])
        if self._room < BLOCK:
            self._end_block()
        return Arrived(self.size, self._whole.digest(), bytes(self._blocks))

    def _end_block(self) -> None:
        self._blocks += self._block.digest()
        self._block = hashlib.sha256()
        self._room = BLOCK


def too_large(type: MemoryType) -> TooLarge:
    """What a payload beyond its type's limit is answered."""
    return TooLarge(f"The payload of {type} memories may be at most {PAYLOAD_MAX[type]} bytes.")


def is_block(content: memoryview, number: int, blocks: bytes) -> bool:
    """Whether `content` is block `number` (from 0) of the payload that `blocks` were taken of."""
    return hashlib.sha256(content).digest() == blocks[number * DIGEST : (number + 1) * DIGEST]


def new_key(memory_id: UUID) -> str:
    """A key that no object ever had: the memory's id and 128 random bits."""
    return f"{memory_id}/{secrets.token_hex(16)}"


def object_path(project: str, key: str) -> str:
    """Where the object lies in the store: `<project>/<memory>/<random>`.

    Raises ValueError for anything else, so that no key leads out of the store.
    """
    path = f"{project}/{key}"
    if not _PATH.match(path):
        raise ValueError("not the key of an object")
    return path
