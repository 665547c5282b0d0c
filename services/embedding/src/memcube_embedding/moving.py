"""Memories on their way to another model: handed over, embedded a second time, compared, and what is left swept away.

All of it waits in the queue, leased as new memories are, so that a room that dies loses nothing. It comes after them:
its work is of another kind, made by another embedder, one batch at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

import structlog

from memcube_common.errors import TryAgain
from memcube_common.mailbox import work
from memcube_common.mailbox.work import Claim
from memcube_common.memories import generations
from memcube_common.memories.generations import Migration, OtherText
from memcube_common.memories.store import NewVector
from memcube_embedding.embedders.protocol import EmbedderUnavailable, Outcome, TextRefused, embed_each
from memcube_embedding.jobs import LEASE_SECONDS, MAX_ATTEMPTS, held, worker
from memcube_embedding.models import Served
from memcube_embedding.room import Room

POLL_SECONDS: Final = 0.5
FEED_AT_ONCE: Final = 256
"""Memories handed over at once, and how many of a project may wait before more are: what is new waits behind them."""
FEED_PAUSE: Final = 0.1
SWEEP_AT_ONCE: Final = 500
SAMPLES: Final = 100
COMPARE_LEASE: Final = 60.0
_log = structlog.get_logger(__name__)


async def move_vectors(room: Room) -> None:
    """Work for migrations for ever, whether one is open or not."""
    while True:
        try:
            await room.models.open_missing()
            busy = await move_once(room)
            if busy:
                await room.models.complain(None)
        except EmbedderUnavailable as error:
            with contextlib.suppress(TryAgain):
                await room.models.complain(error.detail)
            await asyncio.sleep(error.after)
            continue
        except TryAgain as error:
            await asyncio.sleep(error.after)
            continue
        except Exception as error:
            _log.error("migration_step_failed", error=type(error).__name__, exc_info=error)
            busy = False
        if not busy:
            await asyncio.sleep(POLL_SECONDS)


async def move_once(room: Room) -> bool:
    """One batch of whatever a migration needs next; True if there was anything.

    Raises EmbedderUnavailable after putting the work back.
    """
    migration = room.models.migration
    if migration is None or migration.swept_at is not None:
        return False
    if not migration.is_open:
        swept = await _each("sweep", LEASE_SECONDS, room, lambda claim: _sweep(claim, migration, room))
        return swept or any([await _drop(kind, room) for kind in ("backfill", "vector", "compare")])
    if migration.to_generation is None or room.models.served(migration.to_generation) is None:
        return False
    fed = await _each("backfill", LEASE_SECONDS, room, lambda claim: _feed(claim, migration, room))
    moved = await _move(migration, room)
    compared = not moved and await _each("compare", COMPARE_LEASE, room, lambda claim: _compare(claim, migration, room))
    return fed or moved or compared


async def _each(kind: work.Kind, lease: float, room: Room, do: Callable[[Claim], Awaitable[bool]]) -> bool:
    async with room.db.transaction(worker()) as tx:
        claims = await work.claim(tx, kind=kind, limit=4 if kind != "compare" else 1, lease=lease)
    return any([await do(claim) for claimed in claims.values() for claim in claimed])


async def _drop(kind: work.Kind, room: Room) -> bool:
    """Take work off the queue that a migration needs no more."""
    async with room.db.transaction(worker()) as tx:
        claims = await work.claim(tx, kind=kind, limit=FEED_AT_ONCE, lease=LEASE_SECONDS)
    for project, claimed in claims.items():
        async with room.db.transaction(worker(project)) as tx:
            await work.finish(tx, kind=kind, project=project, ids=[claim.item_id for claim in claimed])
    return bool(claims)


async def _feed(claim: Claim, migration: Migration, room: Room) -> bool:
    """Hand the next memories of a project over, unless enough of them wait."""
    async with room.db.transaction(worker(claim.project)) as tx:
        waiting = await generations.count_waiting(tx, project=claim.project, at_most=FEED_AT_ONCE)
        if waiting == FEED_AT_ONCE:
            await work.postpone(tx, kind="backfill", project=claim.project, ids=[claim.item_id], seconds=FEED_PAUSE)
            return False
        if not await work.finish(tx, kind="backfill", project=claim.project, ids=[claim.item_id]):
            return False
        await generations.feed(
            tx, project=claim.project, migration=migration.id, after=claim.item_id, limit=FEED_AT_ONCE
        )
    return True


async def _move(migration: Migration, room: Room) -> bool:
    """Give a batch of memories the vectors they have not got."""
    both = room.models.both
    limit = min(served.embedder.model.max_batch for served in both)
    async with room.db.transaction(worker()) as tx:
        claims = await work.claim(tx, kind="vector", limit=limit, lease=LEASE_SECONDS)
    attempts = {claim.item_id: claim.attempts for claimed in claims.values() for claim in claimed}
    async with held(claims, room, kind="vector"):
        for project, claimed in claims.items():
            await _move_of(project, [claim.item_id for claim in claimed], attempts, migration, both, room)
    return bool(claims)


async def _move_of(
    project: str,
    ids: Sequence[UUID],
    attempts: dict[UUID, int],
    migration: Migration,
    both: Sequence[Served],
    room: Room,
) -> None:
    """The same for the memories of one project: those that are gone, complete or refused are done with.

    One whose content changed meanwhile is tried again when its lease ends.
    """
    async with room.db.transaction(worker(project)) as tx:
        texts = await generations.read_other_texts(
            tx, project=project, ids=ids, generations=[served.generation for served in both]
        )
        in_force = await generations.current_model(tx)
    open_now = {served.generation for served in both}
    expected = {one for one in (migration.from_generation, migration.to_generation) if one} & open_now
    refused: list[UUID] = []
    for served in both:
        # What waits for its first vector is given it by the other queue, and says so.
        first = in_force is not None and in_force.generation == served.generation
        wanted = [text for text in texts if served.generation in text.lacking and not (first and text.is_pending)]
        if not wanted:
            continue
        try:
            async with served.turn:
                outcomes = await embed_each(served.embedder, [text.text.text for text in wanted])
        except EmbedderUnavailable as error:
            await _put_off(project, ids, error.after, room)
            raise
        except Exception as error:
            _log.error("embedding_failed", error=type(error).__name__, exc_info=error)
            reason = f"the embedder failed: {type(error).__name__}"
            outcomes = await _alone(wanted, served, reason, attempts)
        pairs = [(text, outcome) for text, outcome in zip(wanted, outcomes, strict=True) if outcome is not None]
        refused += await _keep(project, pairs, served, migration, room)
    async with room.db.transaction(worker(project)) as tx:
        await generations.finish_complete(tx, project=project, ids=ids, generations=sorted(expected), refused=refused)


async def _alone(
    wanted: Sequence[OtherText], served: Served, reason: str, attempts: dict[UUID, int]
) -> list[Outcome | None]:
    """Find the text the model trips over among its neighbours: None is tried again, and given up after ten times."""
    outcomes: list[Outcome | None] = []
    for text in wanted:
        try:
            [outcome] = await embed_each(served.embedder, [text.text.text])
        except EmbedderUnavailable:
            raise
        except Exception:
            given_up = attempts[text.text.memory_id] >= MAX_ATTEMPTS
            outcomes.append(TextRefused(0, reason) if given_up else None)
        else:
            outcomes.append(outcome)
    return outcomes


async def _keep(
    project: str,
    outcomes: Sequence[tuple[OtherText, Outcome]],
    served: Served,
    migration: Migration,
    room: Room,
) -> list[UUID]:
    """Keep what came of these texts; returns those that were refused."""
    vectors = [
        NewVector(text.text.memory_id, text.text.content_hash, outcome)
        for text, outcome in outcomes
        if not isinstance(outcome, TextRefused)
    ]
    refused: dict[str, list[UUID]] = {}
    for text, outcome in outcomes:
        if isinstance(outcome, TextRefused):
            refused.setdefault(outcome.reason, []).append(text.text.memory_id)
    async with room.db.transaction(worker(project)) as tx:
        kept = await generations.save_other_vectors(
            tx, project=project, migration=migration.id, generation=served.generation, vectors=vectors
        )
        for reason, ids in refused.items() if served.generation == migration.to_generation else ():
            await generations.note_refusal(tx, project=project, migration=migration.id, reason=reason, ids=ids)
    room.moved.inc(len(kept))
    return [id for ids in refused.values() for id in ids]


async def _put_off(project: str, ids: Sequence[UUID], seconds: float, room: Room) -> None:
    async with room.db.transaction(worker(project)) as tx:
        await work.postpone(tx, kind="vector", project=project, ids=ids, seconds=seconds)


async def _compare(claim: Claim, migration: Migration, room: Room) -> bool:
    """Ask for what is newest in a project by both models: how far the answers agree, and how long each took."""
    assert migration.to_generation is not None
    old, new = room.models.served(migration.from_generation), room.models.served(migration.to_generation)
    project, labels = claim.project, list[tuple[UUID, str]]()
    if old is not None and new is not None:  # else there is nothing to compare with
        pair = (old.generation, new.generation)
        async with room.db.transaction(worker(project)) as tx:
            labels = await generations.sample_labels(tx, project=project, generations=pair, limit=SAMPLES)
    samples: list[dict[str, float]] = []
    for memory_id, label in labels:
        try:
            (by_old, old_ms), (by_new, new_ms) = [
                await _asked(label, memory_id, project, served, room) for served in (old, new) if served is not None
            ]
        except TextRefused:
            continue
        if by_old or by_new:
            shared = len(by_old & by_new) / max(len(by_old), len(by_new))
            samples.append({"overlap": round(shared, 3), "old_ms": round(old_ms, 2), "new_ms": round(new_ms, 2)})
    async with room.db.transaction(worker(project)) as tx:
        await generations.keep_samples(tx, project=project, migration=migration.id, samples=samples)
        await work.finish(tx, kind="compare", project=project, ids=[claim.item_id])
    return True


async def _asked(text: str, but: UUID, project: str, served: Served, room: Room) -> tuple[set[UUID], float]:
    """The ten memories nearest to a question by one model, and the milliseconds that took, its vector included."""
    began = time.perf_counter()
    [vector] = await served.embedder.embed([text])
    async with room.db.transaction(worker(project)) as tx:
        found = await generations.nearest(tx, project=project, generation=served.generation, vector=vector, but=but)
    return found, (time.perf_counter() - began) * 1000


async def _sweep(claim: Claim, migration: Migration, room: Room) -> bool:
    """Remove what a migration that ended has left behind, from the next memories of a project."""
    finished = migration.state == "finished"
    gone = migration.from_generation if finished else migration.to_generation
    async with room.db.transaction(worker(claim.project)) as tx:
        in_force = await generations.current_model(tx)
        if not await work.finish(tx, kind="sweep", project=claim.project, ids=[claim.item_id]):
            return False
        if gone is None or (in_force is not None and in_force.generation == gone):
            return True  # nothing was made, and never what is in force
        await generations.sweep(
            tx,
            project=claim.project,
            generation=gone,
            after=claim.item_id,
            limit=SWEEP_AT_ONCE,
            in_force=in_force if finished else None,
        )
    return True
