"""Task links and chains in Postgres: whatever is read or counted here is what the caller may read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

from memcube_common.contracts.links import (
    CHAIN_MAX,
    ChainChanges,
    ChainGovernance,
    Link,
    LinkRole,
    MemoryTask,
    NewChain,
    Task,
)
from memcube_common.db import Statements, Transaction
from memcube_common.db.pool import Row
from memcube_common.db.refusals import refusals
from memcube_common.errors import Conflict, NotAllowed, NotFound
from memcube_common.links.domain import ChainHead, Member
from memcube_common.memories import store as memories

QUERIES = Statements(__package__)

_PURGED = "A memory was removed at this very moment."


async def readable(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> set[UUID]:
    """Which of `ids` the caller may read."""
    return {row["id"] for row in await tx.fetch(QUERIES["readable"], project, ids)}


async def hold_sources(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> dict[UUID, int]:
    """The versions of those among `ids` that the caller may read; nobody changes them until the transaction ends."""
    await memories.hold_sources(tx, ids=ids)
    return {row["id"]: row["version"] for row in await tx.fetch(QUERIES["read_versions"], project, ids)}


# ── tasks ──────────────────────────────────────────────────────────────────────────────────────────


async def link_memories(tx: Transaction, *, task: str, role: LinkRole, ids: Sequence[UUID]) -> dict[UUID, bool]:
    """Link memories to a task; returns, of each that the caller may read, whether the link is new.

    Raises NotAllowed where one may be read and not linked in this role, Conflict where one is purged meanwhile.
    """
    with refusals(conflict=_PURGED):
        rows = await tx.fetch(QUERIES["link_memories"], task, role, ids)
    if not all(row["allowed"] for row in rows):
        raise NotAllowed("A task writes what its linker may write: link this memory as READ.")
    return {row["memory_id"]: row["is_new"] for row in rows}


async def unlink_memory(tx: Transaction, *, task: str, memory_id: UUID, role: LinkRole | None) -> None:
    """Take a memory off a task, in one role or in both. Raises NotFound, or NotAllowed where one of them may stay."""
    rows = await tx.fetch(QUERIES["unlink_memory"], task, memory_id, role)
    if not rows:
        raise NotFound
    if not all(row["allowed"] for row in rows):
        raise NotAllowed


async def read_task_memories(
    tx: Transaction, *, task: str, role: LinkRole | None, below: UUID | None, at_most: int
) -> dict[UUID, list[Link]]:
    """The links of a task by memory, newest memory first, of memories below `below`."""
    rows = await tx.fetch(QUERIES["read_task_memories"], task, role, below, at_most)
    return {memory: [_link(row) for row in links] for memory, links in groupby(rows, lambda row: row["memory_id"])}


async def read_memory_tasks(tx: Transaction, *, memory_id: UUID, after: str, at_most: int) -> list[MemoryTask]:
    """The tasks of a memory by their ids, after `after`; none where the caller may not read it."""
    rows = await tx.fetch(QUERIES["read_memory_tasks"], memory_id, after, at_most)
    return [
        MemoryTask.model_construct(task_id=task, links=[_link(row) for row in links])
        for task, links in groupby(rows, lambda row: row["task_id"])
    ]


async def read_tasks(tx: Transaction, *, after: str, at_most: int) -> list[Task]:
    """Tasks by their ids, after `after`, with counts of what the caller may read."""
    return [Task.model_construct(**dict(row)) for row in await tx.fetch(QUERIES["read_tasks"], after, at_most)]


def _link(row: Row) -> Link:
    return Link.model_construct(role=row["role"], created_by=row["created_by"], created_at=row["created_at"])


# ── chains ─────────────────────────────────────────────────────────────────────────────────────────


async def begin_chain(tx: Transaction, *, chain_id: UUID, chain: NewChain) -> bool:
    """Make a chain; False where the caller may not read one of its memories. Raises Conflict, NotAllowed."""
    governance = chain.governance
    with refusals(conflict=_PURGED):
        made = await tx.fetch_value(
            QUERIES["begin_chain"],
            chain_id,
            chain.name,
            chain.description,
            governance.visibility,
            _roles(governance),
            chain.memory_ids,
        )
    return made == "made"


async def hold_chain(tx: Transaction, *, project: str, chain_id: UUID) -> int:
    """Its version, held until the transaction ends. Raises NotFound, or NotAllowed where the caller only reads it."""
    version = await tx.fetch_value(QUERIES["hold_chain"], project, chain_id)
    if version is None:
        raise NotFound if await read_chain(tx, project=project, chain_id=chain_id) is None else NotAllowed
    return int(version)


async def read_chain(tx: Transaction, *, project: str, chain_id: UUID) -> ChainHead | None:
    """The chain, if the caller may read it."""
    row = await tx.fetch_one(QUERIES["read_chain"], project, chain_id)
    return None if row is None else _head(row)


async def read_chains(tx: Transaction, *, project: str, below: UUID | None, at_most: int) -> list[ChainHead]:
    """Chains that the caller may read, newest first, of ids below `below`."""
    return [_head(row) for row in await tx.fetch(QUERIES["read_chains"], project, below, at_most)]


async def read_members(tx: Transaction, *, chain_id: UUID) -> list[Member]:
    """The items of a chain that the caller may read, in order."""
    return [Member(**dict(row)) for row in await tx.fetch(QUERIES["read_members"], chain_id)]


async def arrange_chain(tx: Transaction, *, chain_id: UUID, shown: Sequence[UUID]) -> None:
    """Make a chain that is held show its caller exactly `shown`, in this order.

    What they do not see stays behind what it followed. Raises NotFound where a memory is not theirs to read, Conflict
    where the chain is full, or a memory purged meanwhile.
    """
    with refusals(conflict=_PURGED):
        arranged = await tx.fetch_value(QUERIES["arrange_chain"], chain_id, shown, CHAIN_MAX)
    match arranged:
        case "arranged":
            return
        case "full":
            raise Conflict(f"A chain has at most {CHAIN_MAX} memories.")
        case _:
            raise NotFound


async def change_chain(tx: Transaction, *, project: str, chain_id: UUID, changes: ChainChanges) -> None:
    """Give a chain that is held another name, description or governance. NotAllowed (by the transaction) for others
    than its maker who would change its governance.
    """
    governance = changes.governance
    await tx.execute(
        QUERIES["change_chain"],
        project,
        chain_id,
        changes.name,
        changes.description,
        "description" in changes.model_fields_set and changes.description is None,
        None if governance is None else governance.visibility,
        None if governance is None else _roles(governance),
    )


async def delete_chain(tx: Transaction, *, project: str, chain_id: UUID) -> bool:
    """End a chain; False where the caller may not."""
    return await tx.fetch_value(QUERIES["delete_chain"], project, chain_id) is not None


def _roles(governance: ChainGovernance) -> list[str]:
    return list(dict.fromkeys(governance.write_roles))


def _head(row: Row) -> ChainHead:
    governance = ChainGovernance.model_construct(visibility=row["visibility"], write_roles=list(row["write_roles"]))
    return ChainHead(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        governance=governance,
        version=row["version"],
        length=row["length"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
