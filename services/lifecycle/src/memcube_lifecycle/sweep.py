"""The sweep: objects that nothing names leave the store, then Postgres forgets them; never the other way round."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.objects import ObjectStore, object_path
from memcube_common.security.principal import Principal
from memcube_lifecycle import store

_BATCH: Final = 100
_AT_ONCE: Final = 8
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SweepMeters:
    """What is counted about sweeps."""

    swept: Counter
    put_off: Counter

    @classmethod
    def fresh(cls, registry: CollectorRegistry) -> SweepMeters:
        """Meters that stand at zero, in `registry`."""
        return cls(
            Counter("memcube_objects_swept", "Objects removed because nothing names them.", registry=registry),
            Counter(
                "memcube_objects_sweep_put_off",
                "Objects that could not be removed and are tried again at the next sweep.",
                registry=registry,
            ),
        )


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep needs. arriving_at_most: seconds after which an upload that never ended is swept."""

    db: Database
    objects: ObjectStore
    meters: SweepMeters
    arriving_at_most: float


async def keep_sweeping(sweep: Sweep, *, every: float) -> None:
    """A sweep every `every` seconds, for ever; one that meets no database is made again soon."""
    while True:
        try:
            swept = await sweep_objects(sweep)
        except TryAgain as error:
            await asyncio.sleep(error.after)
            continue
        if swept:
            _log.info("objects_swept", count=swept)
        await asyncio.sleep(every)


async def sweep_objects(sweep: Sweep) -> int:
    """One sweep: removes every object that must leave; returns how many did.

    What the store does not let go is tried again at the next sweep. Two rooms that sweep at once share the work, and a
    sweep that dies leaves its objects to the next. Raises TryAgain where Postgres is away.
    """
    me = Principal.worker("lifecycle")
    arriving = timedelta(seconds=sweep.arriving_at_most)
    swept = 0
    async with sweep.db.transaction(me) as tx:
        began = await store.read_clock(tx)
    while True:
        async with sweep.db.transaction(me) as tx:
            due = await store.claim_objects(tx, before=began, arriving=arriving, limit=_BATCH)
        if not due:
            return swept
        gone = await _remove(sweep, due)
        sweep.meters.put_off.inc(len(due) - len(gone))
        if not gone:  # the store is away: the rest would only wait for it
            return swept
        async with sweep.db.transaction(me) as tx:
            forgotten = await store.forget_objects(tx, gone=gone)  # without those another sweep was quicker with
        sweep.meters.swept.inc(forgotten)
        swept += forgotten


async def _remove(sweep: Sweep, due: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those among `due` that are not in the store any more."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def remove(project: str, key: str) -> bool:
        async with turn:
            try:
                await sweep.objects.delete(object_path(project, key))
            except TryAgain:
                return False
            except ValueError:  # no object can be under such a key
                _log.error("object_key_unfit", project=project)
            return True

    removed = await asyncio.gather(*(remove(project, key) for project, key in due))
    return [one for one, is_gone in zip(due, removed, strict=True) if is_gone]
