"""Schedules in Postgres: recorded once, read by who asked for them and by the privileged."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from memcube_common.contracts.scheduling import ScheduleRecord
from memcube_common.db import Statements, Transaction
from memcube_common.db.pool import Row
from memcube_common.errors import NotFound
from memcube_common.governance.domain import PRIVILEGED
from memcube_common.schedules.domain import NewSchedule, Weighing, pack, unpack

QUERIES = Statements(__package__)


async def insert_schedule(tx: Transaction, *, project: str, schedule: NewSchedule) -> None:
    """Record a schedule."""
    await tx.execute(
        QUERIES["insert_schedule"],
        project,
        schedule.id,
        schedule.agent_id,
        schedule.task_id,
        schedule.made_by,
        schedule.made_at,
        schedule.asked,
        orjson.dumps(dict(schedule.weights)).decode(),
        schedule.token_budget,
        schedule.tokens_used,
        schedule.generation,
        schedule.chosen,
        pack(schedule.weighing),
    )


async def read_schedule(tx: Transaction, *, project: str, schedule_id: UUID) -> ScheduleRecord:
    """A recorded schedule with its candidates. Raises NotFound where there is none that the principal may read."""
    record, _ = await read_weighing(tx, project=project, schedule_id=schedule_id)
    return record


async def read_weighing(tx: Transaction, *, project: str, schedule_id: UUID) -> tuple[ScheduleRecord, Weighing]:
    """A recorded schedule and what it is chosen again from. Raises NotFound like `read_schedule`."""
    row = await tx.fetch_one(QUERIES["read_schedule"], project, schedule_id, _maker(tx))
    if row is None:
        raise NotFound
    weighing = unpack(row["weighed"])
    # Who made it with a role they have lost hears no more of what only that role may know of.
    untold = () if tx.principal.role in PRIVILEGED else ("quarantined", "governance")
    shown = [one.shown() for one in weighing.candidates if one.reason not in untold]
    return _record(row, candidates=shown), weighing


async def list_schedules(
    tx: Transaction,
    *,
    project: str,
    limit: int,
    agent_id: str | None = None,
    task_id: str | None = None,
    before: datetime | None = None,
    after: datetime | None = None,
    below: UUID | None = None,
) -> tuple[list[ScheduleRecord], UUID | None]:
    """A page of the schedules the principal may read, newest first, without candidates; and where to go on (`below`).

    before, after: made earlier or later than that.
    """
    rows = await tx.fetch(
        QUERIES["list_schedules"], project, _maker(tx), agent_id, task_id, before, after, limit + 1, below
    )
    page = [_record(row, candidates=None) for row in rows[:limit]]
    return page, page[-1].id if len(rows) > limit else None


async def forget_schedules(tx: Transaction, *, days: int, at_most: int) -> int:
    """Forget schedules of more than `days` days, of every project; returns how many. Called by the scheduling room."""
    return int(await tx.fetch_value(QUERIES["forget_schedules"], days, at_most))


def _maker(tx: Transaction) -> str | None:
    """Whose schedules the principal may read; None for all: said here and by the policy."""
    return None if tx.principal.role in PRIVILEGED else tx.principal.name


def _record(row: Row, *, candidates: Any) -> ScheduleRecord:
    return ScheduleRecord.model_construct(
        id=row["id"],
        agent_id=row["agent_id"],
        task_id=row["task_id"],
        made_by=row["made_by"],
        made_at=row["made_at"],
        asked=orjson.loads(row["asked"]),
        weights=orjson.loads(row["weights"]),
        token_budget=row["token_budget"],
        tokens_used=row["tokens_used"],
        chosen=row["chosen"],
        candidates=candidates,
        embedding_model=row["embedding_model"],
    )
