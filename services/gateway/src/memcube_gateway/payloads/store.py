"""Where payloads lie, in Postgres."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from memcube_common.contracts.fields import MemoryType
from memcube_common.db import Statements, Transaction
from memcube_common.errors import NotFound
from memcube_common.memories.domain import unpack_bytes

QUERIES = Statements(__package__)


@dataclass(frozen=True, slots=True)
class Lying:
    """A payload and where it lies: `raw` in its row, or the object `key` with the SHA-256 of each MiB (`blocks`)."""

    type: MemoryType
    version: int
    size: int
    checksum: str
    raw: bytes | None
    key: str | None
    blocks: bytes


async def find_payload(tx: Transaction, *, project: str, memory_id: UUID, version: int | None) -> Lying:
    """The payload of a memory the principal may read: in force, or that of a version. Raises NotFound."""
    if version is None:
        row = await tx.fetch_one(QUERIES["read_payload"], project, memory_id)
    else:
        row = await tx.fetch_one(QUERIES["read_version_payload"], project, memory_id, version)
    if row is None:
        raise NotFound
    return Lying(
        type=row["type"],
        version=row["version"],
        size=row["size_bytes"],
        checksum=row["checksum"].hex(),
        raw=unpack_bytes(row["content"], row["content_bytes"], row["content_zstd"]),
        key=row["object_key"],
        blocks=row["blocks"] or b"",
    )


async def find_target(tx: Transaction, *, project: str, memory_id: UUID) -> tuple[MemoryType, int]:
    """The type and version of a memory the principal may read. Raises NotFound."""
    row = await tx.fetch_one(QUERIES["read_target"], project, memory_id)
    if row is None:
        raise NotFound
    return row["type"], row["version"]
