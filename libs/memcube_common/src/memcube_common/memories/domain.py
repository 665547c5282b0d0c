"""What a memory is before it is kept: its label, its payload, its size in tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import zstandard

from memcube_common.contracts.fields import MemoryType, Priority, Trust
from memcube_common.tokens import count_tokens

INLINE_MAX_BYTES = 4 * 1024
COMPRESSED_MAX_BYTES = 64 * 1024
LABEL_LENGTH = 80

StorageMode = Literal["INLINE", "COMPRESSED", "COLD"]


@dataclass(frozen=True, slots=True)
class Payload:
    """The content of one memory version: text or bytes in the row, zstd in the row, or an object outside it.

    `content_zstd` holds text or bytes, as the memory's type says. blocks: of an object, the SHA-256 of each MiB, one
    after the other. checksum: SHA-256 of the whole.
    """

    storage_mode: StorageMode
    size_bytes: int
    token_count: int
    checksum: bytes
    content: str | None = None
    content_bytes: bytes | None = None
    content_zstd: bytes | None = None
    object_key: str | None = None
    blocks: bytes | None = None


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A memory about to be kept. `governance` and `metadata` are JSON texts already validated.

    content: the text of a PLAINTEXT memory; empty for the other types, whose `payload` was packed before.
    """

    id: UUID
    label: str
    content: str
    origin: str
    provenance_id: UUID
    tags: tuple[str, ...]
    governance: str
    metadata: str
    priority: Priority
    created_by: str
    created_at: datetime
    parents: tuple[UUID, ...] = ()
    type: MemoryType = "PLAINTEXT"
    kv_hint: str | None = None
    trust: Trust = "trusted"
    payload: Payload | None = None

    def packed(self) -> Payload:
        """Its payload, packed if it was not."""
        return self.payload or pack(self.content)


@dataclass(frozen=True, slots=True)
class Revision:
    """What is to be different from now on; what is None stays as it is.

    governance, metadata: JSON texts already validated. kv_hint: an empty one takes the hint away. words: what the
    memory is found by beside its label, given with `payload`.
    """

    label: str | None = None
    tags: tuple[str, ...] | None = None
    metadata: str | None = None
    governance: str | None = None
    priority: Priority | None = None
    kv_hint: str | None = None
    payload: Payload | None = None
    words: str = ""


def pack(content: str) -> Payload:
    """Choose how a text is stored by its size, count its tokens (o200k) and take its SHA-256."""
    raw = content.encode()
    inline = len(raw) <= INLINE_MAX_BYTES
    return Payload(
        storage_mode="INLINE" if inline else "COMPRESSED",
        content=content if inline else None,
        content_zstd=None if inline else zstandard.compress(raw),
        size_bytes=len(raw),
        token_count=count_tokens(content),
        checksum=hashlib.sha256(raw).digest(),
    )


def pack_bytes(raw: bytes) -> Payload:
    """Choose how bytes are stored in the row by their size, 64 KiB at most; larger ones are objects. No tokens."""
    if len(raw) > COMPRESSED_MAX_BYTES:
        raise ValueError(f"{len(raw)} bytes do not go into a row")
    inline = len(raw) <= INLINE_MAX_BYTES
    return Payload(
        storage_mode="INLINE" if inline else "COMPRESSED",
        content_bytes=raw if inline else None,
        content_zstd=None if inline else zstandard.compress(raw),
        size_bytes=len(raw),
        token_count=0,
        checksum=hashlib.sha256(raw).digest(),
    )


def unpack(content: str | None, content_zstd: bytes | None) -> str | None:
    """The text that `pack` stored, or None where the payload is not text in the row."""
    if content is not None:
        return content
    return zstandard.decompress(content_zstd).decode() if content_zstd is not None else None


def unpack_bytes(content: str | None, content_bytes: bytes | None, content_zstd: bytes | None) -> bytes | None:
    """The bytes of a payload that lies in its row, whatever its type; None for an object."""
    if content_bytes is not None:
        return content_bytes
    if content is not None:
        return content.encode()
    return zstandard.decompress(content_zstd) if content_zstd is not None else None


def label_from(content: str) -> str:
    """A label for a memory that came without one: its first line, cut at a word within 80 characters."""
    line = " ".join(content.strip()[: 4 * LABEL_LENGTH].splitlines()[0].split())
    if not line.isprintable():
        line = "".join(character for character in line if character.isprintable()).strip()
    if len(line) <= LABEL_LENGTH:
        return line or "untitled"
    cut = line[: LABEL_LENGTH - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"
