"""What a memory is before it is kept: its label, its payload, its size in tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import zstandard

from memcube_common.contracts.fields import Priority
from memcube_common.tokens import count_tokens

INLINE_MAX_BYTES = 4 * 1024
LABEL_LENGTH = 80

StorageMode = Literal["INLINE", "COMPRESSED", "COLD"]


@dataclass(frozen=True, slots=True)
class Payload:
    """The content of one memory version: in the row as text, or in the row as zstd beyond 4 KiB."""

    storage_mode: StorageMode
    content: str | None
    content_zstd: bytes | None
    size_bytes: int
    token_count: int
    checksum: bytes


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A PLAINTEXT memory about to be kept. `governance` and `metadata` are JSON texts already validated."""

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


def pack(content: str) -> Payload:
    """Choose how `content` is stored by its size, count its tokens (o200k) and take its SHA-256."""
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


def unpack(content: str | None, content_zstd: bytes | None) -> str | None:
    """The text that `pack` stored, or None where the payload is not text in the row."""
    if content is not None:
        return content
    return zstandard.decompress(content_zstd).decode() if content_zstd is not None else None


def label_from(content: str) -> str:
    """A label for a memory that came without one: its first line, cut at a word within 80 characters."""
    line = " ".join(content.strip()[: 4 * LABEL_LENGTH].splitlines()[0].split())
    if not line.isprintable():
        line = "".join(character for character in line if character.isprintable()).strip()
    if len(line) <= LABEL_LENGTH:
        return line or "untitled"
    cut = line[: LABEL_LENGTH - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"
