"""Schedules asked for over the bus, by gateways, for readers whom these have let in."""

from __future__ import annotations

import time
from dataclasses import asdict

import structlog
from pydantic import ValidationError

from memcube_common.bus.packing import packed
from memcube_common.contracts.asks import Refused
from memcube_common.contracts.scheduling import MakeSchedule, ScheduleRequest
from memcube_common.errors import Invalid, MemCubeError, NotAllowed, TryAgain, Unprocessable
from memcube_common.feedback.store import take_mark
from memcube_common.search.domain import QuestionVector
from memcube_common.security.principal import Principal
from memcube_scheduling.cache import key_of
from memcube_scheduling.making import make_schedule
from memcube_scheduling.replaying import replay_schedule
from memcube_scheduling.room import Room
from memcube_scheduling.store import current_generation

_log = structlog.get_logger(__name__)


async def on_make_schedule(body: bytes, room: Room) -> bytes:
    """Which memories shall this agent have? Answers Schedule or Replay, or Refused with what should happen next."""
    started = time.perf_counter()
    try:
        answer = await _answer(MakeSchedule.model_validate_json(body), room, started)
        answer = packed(answer, most=room.bus.client.max_payload)
    except ValidationError:
        return _refused(room, Unprocessable("this is no ask for a schedule"))
    except MemCubeError as error:
        return _refused(room, error)
    except Exception as error:
        _log.error("schedule_failed", error=type(error).__name__, exc_info=error)
        return _refused(room, TryAgain("the scheduling room failed"))
    room.meters.seconds.observe(time.perf_counter() - started)
    return answer


async def _answer(asked: MakeSchedule, room: Room, started: float) -> bytes:
    principal = _principal(asked)
    if asked.question == "replay" and asked.schedule_id is not None:
        async with room.db.transaction(principal, deadline=asked.wait) as tx:
            replay = await replay_schedule(tx, schedule_id=asked.schedule_id, started=started)
        room.meters.replayed.inc()
        return replay.model_dump_json().encode()
    if asked.request is None:
        raise Unprocessable("this is no ask for a schedule")
    cached = await _from_cache(asked, asked.request, principal, room, started)
    if cached is not None:
        return cached
    vector, degraded = await _vector(asked.request, room, principal)
    left = asked.wait - (time.perf_counter() - started)
    async with room.db.transaction(principal, deadline=max(0.05, left)) as tx:
        mark = await take_mark(tx)  # before anything of the project is read
        made = await make_schedule(tx, room, asked.request, vector=vector, degraded=degraded, started=started)
        in_force = room.seen.generation = await current_generation(tx)
    room.meters.made.inc()
    if degraded is not None:
        room.meters.degraded.inc()
    if made.repeatable and (vector is None or vector.generation == in_force):
        key = _key(asked, asked.request, room, in_force)
        room.cache.keep(key, schedule=made.schedule, mark=mark, until=made.until)
    return made.schedule.model_dump_json().encode()


async def _from_cache(
    asked: MakeSchedule, request: ScheduleRequest, principal: Principal, room: Room, started: float
) -> bytes | None:
    """The schedule that was made a moment ago for the same ask, if Postgres says that nothing has changed since.

    It stands recorded; that it was given out again is counted in batches.
    """
    generation = room.seen.generation
    key = _key(asked, request, room, generation)
    entry = room.cache.get(key)
    if entry is None:
        return None
    async with room.db.transaction(principal, deadline=asked.wait) as tx:
        holds = await entry.holds(tx) and await current_generation(tx) == generation
    if not holds:
        room.cache.drop(key)
        return None
    room.deliveries.add(asked.project, entry.schedule_id)
    room.meters.cached.inc()
    return entry.answer((time.perf_counter() - started) * 1000)


def _key(asked: MakeSchedule, request: ScheduleRequest, room: Room, generation: int | None) -> bytes:
    """What tells one ask from another; the weights stay as they are for as long as the room is there."""
    weights = asdict(room.settings.weights(has_text=request.text is not None or request.embedding is not None))
    return key_of(
        project=asked.project,
        reader=asked.reader,
        role=asked.role,
        request=request,
        weights=weights,
        generation=generation,
    )


def _principal(asked: MakeSchedule) -> Principal:
    """The reader, whose rights decide what is told. Raises NotAllowed for who is none."""
    try:
        return Principal.user(asked.project, asked.reader, asked.role, source=asked.source)
    except ValueError as error:
        raise NotAllowed from error


async def _vector(
    request: ScheduleRequest, room: Room, principal: Principal
) -> tuple[QuestionVector | None, str | None]:
    """The text's vector, or why there is none."""
    if request.text is None or request.embedding is not None:
        return None, None
    try:
        text = await room.names.bare(
            request.text, lambda: room.db.transaction(principal), project=principal.project, role=principal.role
        )
        return await room.embedding.vector(text), None
    except (TryAgain, Unprocessable) as error:
        return None, f"searched by words only: {error.detail}"


def _refused(room: Room, error: MemCubeError) -> bytes:
    room.meters.refused.inc()
    after = error.after if isinstance(error, TryAgain) else None
    fault = error.errors[0] if isinstance(error, Invalid) and error.errors else None
    refused = Refused(
        code=error.code,
        detail=error.detail if fault is None else fault.message,
        after=after,
        field=None if fault is None else fault.field,
    )
    return refused.model_dump_json().encode()
