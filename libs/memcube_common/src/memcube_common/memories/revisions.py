"""Memories change: they get another version, are put away, taken back, ended for good."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal
from uuid import UUID

from memcube_common.contracts.api import Memory
from memcube_common.contracts.fields import Lifecycle
from memcube_common.db import Transaction
from memcube_common.errors import Conflict, NotAllowed, NotFound, VersionMismatch
from memcube_common.memories.domain import Payload, Revision
from memcube_common.memories.store import QUERIES, keep_objects, read_memories
from memcube_common.memories.traits import traits_of
from memcube_common.quotas.store import take

DERIVED_MAX: Final = 1_000
"""Most memories that end with their source in one transaction."""


async def update_memory(
    tx: Transaction,
    *,
    project: str,
    memory_id: UUID,
    revision: Revision,
    expected: int | None = None,
    arrived: bool = True,
    kinds: Collection[str] = (),
) -> Memory | None:
    """Make a memory's next version; what was in force before is kept. None where its maker does not see it any more.

    expected: the version it must have. arrived: an object that the payload names has just arrived; False for one that
    the memory had before. kinds: of personal data, which the memory is marked with too. New content is searched by its
    words at once and by meaning once it is embedded; its bytes are taken from the project's quota, since the earlier
    ones stay. Raises NotFound, VersionMismatch, NotAllowed, Frozen, Held, QuotaExceeded, TryAgain; the transaction must
    not be committed then.
    """
    payload = revision.payload
    asked = (
        project,
        memory_id,
        expected,
        revision.label,
        None if revision.tags is None else list(revision.tags),
        revision.metadata,
        revision.governance,
        revision.priority,
        revision.kv_hint,
        payload is not None,
    )
    if revision.governance is not None or kinds:
        await hold_lineage(tx, ids=[memory_id])
    if await tx.fetch_value(QUERIES["update_memory"], *asked) is None:
        await _hold(tx, project, memory_id, expected)
        await tx.execute(QUERIES["update_memory"], *asked)
    if payload is not None:
        if arrived:
            await keep_objects(tx, project=project, payloads=[payload])
        await _revise(tx, memory_id, revision.words, payload)
        await take(tx, need={"bytes": payload.size_bytes})
    memory = (await read_memories(tx, project=project, ids=[memory_id])).get(memory_id)
    if payload is None and revision.label is not None and memory is not None:
        await _revise(tx, memory_id, memory.content or "", None)
    if kinds:
        await tx.execute(QUERIES["mark_personal"], memory_id, sorted(kinds))
        return (await read_memories(tx, project=project, ids=[memory_id])).get(memory_id)
    return memory


async def set_lifecycle(
    tx: Transaction, *, project: str, memory_id: UUID, to: Literal["ARCHIVED", "ACTIVE"], expected: int | None = None
) -> tuple[Memory | None, bool]:
    """Put a memory away, or take it back: the memory, and whether anything changed.

    One that is so already is left as it is. Raises NotFound, VersionMismatch, NotAllowed, Frozen; Conflict for taking
    back what is past its time.
    """
    before: list[Lifecycle] = ["NEW", "ACTIVE", "STALE", "EXPIRED"] if to == "ARCHIVED" else ["ARCHIVED", "EXPIRED"]
    changed = await tx.fetch_one(QUERIES["set_lifecycle"], project, memory_id, to, expected, before)
    memory = (await read_memories(tx, project=project, ids=[memory_id])).get(memory_id)
    if changed is None:
        if memory is None:
            raise NotFound
        if expected is not None and memory.version != expected:
            raise VersionMismatch
        if memory.lifecycle in before:
            await _hold(tx, project, memory_id, expected)
            changed = await tx.fetch_one(QUERIES["set_lifecycle"], project, memory_id, to, expected, before)
            memory = (await read_memories(tx, project=project, ids=[memory_id])).get(memory_id)
    if changed is not None and to == "ACTIVE" and changed["over"]:
        raise Conflict("Its time is over: give it another `ttl_days` or `expires_at` first.")
    return memory, changed is not None


async def hold_lineage(tx: Transaction, *, ids: Sequence[UUID]) -> None:
    """Nobody changes these memories or what was derived from them, or derives more, until the transaction ends.

    Before anything else is held of memories that are to be ended, or governed otherwise: so two who meet only wait.
    """
    await tx.execute(QUERIES["hold_lineage"], ids)


async def find_derived(tx: Transaction, *, memory_id: UUID) -> list[UUID]:
    """Everything that was derived from a memory, also what the principal may not read: for ending all of it.

    Nothing more is derived from it until the transaction ends. Raises Conflict where it is more than can end at once.
    """
    await hold_lineage(tx, ids=[memory_id])
    rows = await tx.fetch(QUERIES["find_derived"], memory_id, DERIVED_MAX + 1)
    if len(rows) > DERIVED_MAX:
        raise Conflict(f"More than {DERIVED_MAX} memories were derived from it: end some of them first.")
    return [row["id"] for row in rows]


async def purge_memories(tx: Transaction, *, project: str, ids: Sequence[UUID], expected: int | None = None) -> None:
    """End memories for good, with every version and trace of their content; all of `ids` or none.

    expected: the version the first must have. What was derived from them stays and keeps what they demanded. Raises
    NotFound or VersionMismatch for the first, NotAllowed, Frozen, Held; the transaction must not be committed then.
    """
    await hold_lineage(tx, ids=ids)
    gone = {row["id"] for row in await tx.fetch(QUERIES["purge_memories"], project, ids, expected)}
    if ids[0] not in gone:
        await _hold(tx, project, ids[0], expected)
        raise NotAllowed
    if len(gone) < len(set(ids)):
        raise NotAllowed("Something that was derived from it is not yours to end.")


async def _revise(tx: Transaction, memory_id: UUID, words: str, payload: Payload | None) -> None:
    await tx.execute(
        QUERIES["revise_content"],
        memory_id,
        words,
        payload and payload.storage_mode,
        payload and payload.content,
        payload and payload.content_bytes,
        payload and payload.content_zstd,
        payload and payload.object_key,
        payload and payload.blocks,
        payload and payload.size_bytes,
        payload and payload.token_count,
        payload and payload.checksum,
        traits_of(words),
    )


async def _hold(tx: Transaction, project: str, memory_id: UUID, expected: int | None) -> None:
    """Nobody else changes a memory until the transaction ends; asked where it could not be changed a moment ago.

    Raises NotFound where it is not there for this reader, NotAllowed where it is not theirs to change, VersionMismatch.
    """
    version = await tx.fetch_value(QUERIES["hold_memory"], project, memory_id)
    if version is None:
        raise NotFound if await tx.fetch_one(QUERIES["read_head"], project, memory_id) is None else NotAllowed
    if expected is not None and version != expected:
        raise VersionMismatch
