"""The reckoning after a fault: what was acknowledged, compared row by row with what the database and the bus hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

import asyncpg
import nats
from tests.e2e.load import Ledger, text_of
from tests.e2e.running_stack import RunningStack, eventually

INCOMING = "ingestion-insight-submitted"
_WAITING = """
select (select count(*) from memcube.work_queue where project_id = any($1))
     + (select count(*) from memcube.insights where project_id = any($1) and state = 'accepted')
     + (select count(*) from memcube.memories where project_id = any($1) and embedding_state = 'pending')
     + (select count(*) from memcube.changes c where project_id = any($1)
         and not exists (select from memcube.feed f where f.seq = c.seq and f.day = c.day)) as waiting
"""
_INSIGHTS = "select id, state, insight, memory_id from memcube.insights where project_id = $1"
_MEMORIES = """
with own as (select id, origin, embedding_state from memcube.memories where project_id = $1),
vectors as (select memory_id, count(*) as many from memcube.memory_vectors where project_id = $1 group by 1),
payloads as (select memory_id, count(*) as many from memcube.memory_payloads where project_id = $1 group by 1),
texts as (select memory_id, count(*) as many from memcube.memory_text where project_id = $1 group by 1)
select own.id, own.origin, own.embedding_state, coalesce(vectors.many, 0) as vectors,
       coalesce(payloads.many, 0) as payloads, coalesce(texts.many, 0) as texts
  from own left join vectors on vectors.memory_id = own.id left join payloads on payloads.memory_id = own.id
  left join texts on texts.memory_id = own.id
"""
_CHANGES = """
select type, coalesce(body ->> 'memory_id', '') as subject, count(*) as many from memcube.changes
 where project_id = $1 and type like 'memory.%' group by 1, 2
"""
_FEED = """
select count(*) as many, count(distinct position) as positions, coalesce(min(position), 1) as first,
       coalesce(max(position), 0) as last,
       coalesce((select position from memcube.feed_heads where project_id = $1), 0) as head
  from memcube.feed where project_id = $1
"""


@dataclass
class Audit:
    """How many of each kind of mistake were found; a correct run has none. `acked` and `changes` say how much was
    looked at.
    """

    acked: int = 0
    stored: int = 0
    changes: int = 0
    lost: int = 0
    doubled: int = 0
    altered: int = 0
    strangers: int = 0
    half_written: int = 0
    unsearchable: int = 0
    created_not_once: int = 0
    embedded_not_once: int = 0
    gaps: int = 0
    unannounced: int = 0

    @property
    def mistakes(self) -> dict[str, int]:
        """What is not nought and should be."""
        counted = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: many for name, many in counted.items() if many and name not in {"acked", "stored", "changes"}}

    def __str__(self) -> str:
        return " ".join(f"{one.name}={getattr(self, one.name)}" for one in fields(self))


async def settled(stack: RunningStack, projects: Iterable[str], *, within: float) -> None:
    """Return when nothing waits any more: every message taken in, every insight a memory, every memory a vector,
    every change its place.
    """
    connection = await asyncpg.connect(stack.postgres, timeout=10)
    bus = await nats.connect(stack.nats, connect_timeout=5, max_reconnect_attempts=3)
    jetstream = bus.jetstream(timeout=5)
    slugs = list(projects)

    async def nothing_waits() -> bool:
        incoming = await jetstream.consumer_info("INSIGHTS", INCOMING)
        if incoming.num_pending or incoming.num_ack_pending:
            return False
        return await connection.fetchval(_WAITING, slugs) == 0

    try:
        await eventually(nothing_waits, within=within, every=0.25, what="nothing waits in the house")
    finally:
        await bus.close()
        await connection.close(timeout=5)


async def audit(stack: RunningStack, ledger: Ledger, *, imported: int = 0, announced: bool = True) -> Audit:
    """Compare everything the ledger knows with Postgres and with the stream CHANGES.

    imported: memories that came by import, over all projects. announced: the stream still holds every change (not so
    where its store was thrown away after some were published).
    """
    found = Audit()
    connection = await asyncpg.connect(stack.postgres, timeout=10)
    try:
        for project, sent in ledger.sent.items():
            await _insights(connection, project, sent, ledger.acked.get(project, set()), found)
            head = await _changes(connection, project, found)
            if announced:
                found.unannounced += abs(head - await _in_stream(stack, project))
    finally:
        await connection.close(timeout=5)
    found.strangers = abs(found.strangers - imported)
    return found


async def _insights(connection: Any, project: str, sent: set[UUID], acked: set[UUID], found: Audit) -> None:
    insights = {row["id"]: row for row in await connection.fetch(_INSIGHTS, project)}
    memories = await connection.fetch(_MEMORIES, project)
    by_insight: dict[UUID, int] = {}
    for memory in memories:
        if memory["origin"].startswith("insight:"):
            insight = UUID(memory["origin"].removeprefix("insight:"))
            by_insight[insight] = by_insight.get(insight, 0) + 1
        else:
            found.strangers += 1
        found.half_written += memory["payloads"] != 1 or memory["texts"] != 1
        found.unsearchable += memory["embedding_state"] != "ready" or memory["vectors"] < 1
        found.doubled += memory["vectors"] > 1
    stored = {id for id, row in insights.items() if row["state"] == "stored" and id in by_insight}
    found.acked += len(acked)
    found.stored += len(stored)
    found.lost += len(acked - stored)
    found.doubled += sum(many > 1 for many in by_insight.values())
    found.strangers += len(insights.keys() - sent) + len(by_insight.keys() - sent)
    found.altered += sum(row["insight"] != text_of(id) for id, row in insights.items() if id in sent)


async def _changes(connection: Any, project: str, found: Audit) -> int:
    """Every memory was created once and embedded once, and positions are 1, 2, 3 …; returns the last one."""
    memories = {str(row["id"]) for row in await connection.fetch(_MEMORIES, project)}
    for type, counter in (("memory.v1.created", "created_not_once"), ("memory.v1.embedded", "embedded_not_once")):
        said = {row["subject"]: row["many"] for row in await connection.fetch(_CHANGES, project) if row["type"] == type}
        wrong = sum(said.get(id, 0) != 1 for id in memories) + len(said.keys() - memories)
        setattr(found, counter, getattr(found, counter) + wrong)
    feed = await connection.fetchrow(_FEED, project)
    found.changes += feed["many"]
    perfect = feed["many"] == feed["positions"] == feed["last"] == feed["head"] and feed["first"] == 1
    found.gaps += 0 if perfect else 1 + abs(feed["last"] - feed["positions"])
    return feed["last"]


async def _in_stream(stack: RunningStack, project: str) -> int:
    """How many changes of a project the stream holds."""
    client = await nats.connect(stack.nats, connect_timeout=5, max_reconnect_attempts=3)
    try:
        info = await client.jetstream(timeout=5).stream_info("CHANGES", subjects_filter=f"memcube.{project}.>")
        return sum((info.state.subjects or {}).values())
    finally:
        await client.close()
