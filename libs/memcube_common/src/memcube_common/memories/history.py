"""The past of a memory: its versions, what happened to it, where it comes from and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from memcube_common.contracts.book import Lineage, Relative, TrailEvent, Version, VersionChange
from memcube_common.contracts.fields import Governance
from memcube_common.db import Transaction
from memcube_common.db.pool import Row
from memcube_common.errors import NotFound
from memcube_common.memories.domain import Payload, unpack
from memcube_common.memories.lines import unified
from memcube_common.memories.store import QUERIES

STEPS_MAX: Final = 64
RELATIVES_MAX: Final = 1_000
VERSIONS_END: Final = 2**31 - 1
_COMPARED: Final = ("label", "tags", "metadata", "governance", "priority", "lifecycle", "kv_hint")


@dataclass(frozen=True, slots=True)
class Told:
    """One version of a memory with its content: `text` where it is text, None for bytes."""

    version: Version
    payload: Payload
    text: str | None


async def read_versions(
    tx: Transaction, *, project: str, memory_id: UUID, below: int | None, limit: int
) -> list[Version]:
    """The versions of a memory the principal may read, newest first, below `below`: each with what it changed.

    Raises NotFound.
    """
    below = VERSIONS_END if below is None else below
    rows = await tx.fetch(QUERIES["read_versions"], memory_id, below, limit + 1)
    if not rows and await tx.fetch_one(QUERIES["read_head"], project, memory_id) is None:
        raise NotFound
    return [_version(row, rows[place + 1] if place + 1 < len(rows) else None) for place, row in enumerate(rows[:limit])]


async def read_version(tx: Transaction, *, project: str, memory_id: UUID, version: int) -> Told:
    """One version of a memory the principal may read, with its content. Raises NotFound where there is none."""
    head = await tx.fetch_one(QUERIES["read_head"], project, memory_id)
    content = await tx.fetch_one(QUERIES["read_version_content"], memory_id, version)
    if head is None or content is None:
        raise NotFound
    rows = await tx.fetch(QUERIES["read_versions"], memory_id, version + 1, 2)
    if not rows:  # purged between two statements
        raise NotFound
    payload = Payload(**dict(content))
    text = unpack(payload.content, payload.content_zstd) if head["type"] == "PLAINTEXT" else None
    return Told(_version(rows[0], rows[1] if len(rows) > 1 else None), payload, text)


def compare(before: Told, after: Told) -> list[VersionChange]:
    """What differs between two versions, field by field; of text also a unified diff of its lines.

    The diff is None where the texts differ in too many places (`lines.WORK_MAX`): the time is bounded for any texts.
    """
    changes = [
        VersionChange.model_construct(field=field, before=old, after=new)
        for field in _COMPARED
        if (old := _plain(getattr(before.version, field))) != (new := _plain(getattr(after.version, field)))
    ]
    if before.payload.checksum != after.payload.checksum:
        changes.append(
            VersionChange.model_construct(
                field="content",
                before={"size_bytes": before.payload.size_bytes, "checksum": before.payload.checksum.hex()},
                after={"size_bytes": after.payload.size_bytes, "checksum": after.payload.checksum.hex()},
                diff=_lines_changed(before, after),
            )
        )
    return changes


async def read_trail(
    tx: Transaction, *, project: str, memory_id: UUID, before: int | None, limit: int
) -> list[TrailEvent]:
    """What happened to a memory, newest first, before event number `before`; for who may see the audit trail."""
    rows = await tx.fetch(QUERIES["read_trail"], project, memory_id, before, limit)
    return [TrailEvent.model_construct(**dict(row)) for row in rows]


async def read_lineage(tx: Transaction, *, project: str, memory_id: UUID, steps: int) -> Lineage:
    """What a memory was derived from and what was derived from it, over memories the principal may read.

    Raises NotFound.
    """
    if await tx.fetch_one(QUERIES["read_head"], project, memory_id) is None:
        raise NotFound
    rows = await tx.fetch(QUERIES["read_lineage"], project, memory_id, steps, RELATIVES_MAX)
    return Lineage.model_construct(
        memory_id=memory_id,
        ancestors=[_relative(row) for row in rows if row["distance"] < 0],
        descendants=[_relative(row) for row in rows if row["distance"] > 0],
    )


def _version(row: Row, previous: Row | None) -> Version:
    changed: list[str] = []
    if previous is not None:
        changed = [field for field in _COMPARED if row[field] != previous[field]]
        if row["checksum"] != previous["checksum"]:
            changed.append("content")
    return Version.model_construct(
        version=row["version"],
        by=row["by"],
        at=row["at"],
        changed=changed,
        label=row["label"],
        tags=row["tags"],
        metadata=orjson.loads(row["metadata"]),
        governance=Governance.model_validate_json(row["governance"]),
        priority=row["priority"],
        lifecycle=row["lifecycle"],
        kv_hint=row["kv_hint"],
        size_bytes=row["size_bytes"],
        token_count=row["token_count"],
        checksum=row["checksum"].hex(),
    )


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Governance) else value


def _lines_changed(before: Told, after: Told) -> str | None:
    if before.text is None or after.text is None:
        return None
    names = (f"version {before.version.version}", f"version {after.version.version}")
    return unified(before.text.splitlines(), after.text.splitlines(), names)


def _relative(row: Row) -> Relative:
    return Relative.model_construct(**{**dict(row), "distance": abs(row["distance"])})
