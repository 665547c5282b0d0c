"""A recorded schedule chosen again: the same choice out of what was recorded, and what the chosen said then."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from uuid import UUID

from pydantic import TypeAdapter

from memcube_common.contracts.scheduling import Format, Replay, Schedule, ScheduledMemory
from memcube_common.db import Transaction
from memcube_common.schedules.domain import Weighed, Weighing
from memcube_common.schedules.store import read_weighing
from memcube_common.tokens import count_tokens
from memcube_scheduling import store
from memcube_scheduling.domain.choice import Choice, Item, Terms, choose
from memcube_scheduling.domain.rendering import Told, block, render
from memcube_scheduling.making import reference
from memcube_scheduling.store import ToldThen

_BARRED = frozenset({"stale", "governance", "quarantined", "irrelevant"})
_FORMAT = TypeAdapter[Format](Format)


async def replay_schedule(tx: Transaction, *, schedule_id: UUID, started: float) -> Replay:
    """Choose a recorded schedule again, with the texts of the versions that were chosen.

    What is gone, or the principal of `tx` may not read (any more), is told as missing. Raises NotFound where there is
    no such schedule that they may read.
    """
    project = tx.principal.project
    record, weighing = await read_weighing(tx, project=project, schedule_id=schedule_id)
    choice = choose_again(weighing)
    chosen = {one.id: one for one in weighing.candidates if one.reason in ("chosen", "pinned")}
    told = await _read_told(tx, project, [chosen[id] for id in record.chosen if id in chosen])
    form = _FORMAT.validate_python(record.asked["format"])
    prompt = render([block(_told(project, chosen[id], told[id]), form) for id in record.chosen if id in told], form)
    schedule = Schedule.model_construct(
        id=record.id,
        agent_id=record.agent_id,
        task_id=record.task_id,
        made_at=record.made_at,
        token_budget=record.token_budget,
        tokens_used=count_tokens(prompt),
        memories=[_scheduled(project, chosen[id], told[id]) for id in record.chosen if id in told],
        prompt=prompt,
        candidates=record.candidates,
        considered=len(weighing.candidates),
        degraded=None,
        cached=False,
        took_ms=round((time.perf_counter() - started) * 1000, 2),
    )
    return Replay.model_construct(
        schedule=schedule,
        same=list(choice.order) == list(record.chosen),
        missing=[id for id in record.chosen if id not in told],
    )


def choose_again(weighing: Weighing) -> Choice:
    """The choice that the same rules make out of what was recorded."""
    items = [
        Item(one.id, one.score, one.tokens, one.id in weighing.pinned)
        for one in weighing.candidates
        if one.reason not in _BARRED
    ]
    terms = weighing.terms
    return choose(
        items,
        weighing.similar,
        Terms(int(terms["tokens"]), int(terms["most"]), terms["redundancy"], terms["sharpness"]),
    )


async def _read_told(tx: Transaction, project: str, chosen: Sequence[Weighed]) -> Mapping[UUID, ToldThen]:
    memories = {one.id: one.version for one in chosen if one.kind == "memory"}
    insights = [one.id for one in chosen if one.kind == "insight"]
    told = await store.read_told(tx, project=project, versions=memories)
    return told | await store.read_told_insights(tx, ids=insights) if insights else told


def _told(project: str, one: Weighed, then: ToldThen) -> Told:
    is_text = then.type == "PLAINTEXT"
    return Told(
        label=then.label,
        content=(then.content or "") if is_text else None,
        reference=None if is_text else reference(project, one.id, one.version, then.kv_hint),
        type=then.type,
        kind=one.kind,
        trust=then.trust,
    )


def _scheduled(project: str, one: Weighed, then: ToldThen) -> ScheduledMemory:
    is_text = then.type == "PLAINTEXT"
    return ScheduledMemory.model_construct(
        id=one.id,
        kind=one.kind,
        version=one.version,
        label=then.label,
        type=then.type,
        tags=then.tags,
        priority=then.priority,
        trust=then.trust,
        created_at=then.created_at,
        content=then.content,
        kv_hint=then.kv_hint if is_text else reference(project, one.id, one.version, then.kv_hint),
        score=one.score,
        tokens=one.tokens,
        reason=one.reason,
    )
