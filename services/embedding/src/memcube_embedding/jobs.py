"""Memories that wait for a vector: claimed fairly, embedded outside any transaction, saved if still the same text."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final
from uuid import UUID

import structlog

from memcube_common.contracts import subjects
from memcube_common.db import Transaction
from memcube_common.errors import TryAgain
from memcube_common.insights.announcing import announce_receipts, bus_senders
from memcube_common.mailbox import work
from memcube_common.mailbox.work import Claim, Kind
from memcube_common.memories import store as memories_store
from memcube_common.memories.store import NewVector, TextToEmbed
from memcube_common.security.principal import Principal
from memcube_embedding.embedders.protocol import EmbedderUnavailable, Outcome, TextRefused, embed_each
from memcube_embedding.models import Served
from memcube_embedding.room import Room

LEASE_SECONDS: Final = 8.0
RENEW_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.5
GATHER_SECONDS: Final = 0.01
"""Between a look and the next: claiming one memory costs as much as claiming twenty, so a few more may arrive."""
MAX_ATTEMPTS: Final = 10
_log = structlog.get_logger(__name__)


async def embed_waiting(room: Room) -> None:
    """Give waiting memories their vectors for ever; a bell saves the wait, the poll finds the rest.

    Two of these run in a room: one claims and saves while the other has its turn at the embedder.
    """
    while True:
        try:
            busy = await embed_due(room)
        except EmbedderUnavailable as error:
            await asyncio.sleep(error.after)
            continue
        except TryAgain as error:
            await room.memories_bell.wait(error.after)
            continue
        if not busy:
            await room.memories_bell.wait(POLL_SECONDS)
        await asyncio.sleep(GATHER_SECONDS)


async def embed_due(room: Room) -> bool:
    """One claim's worth of waiting memories; True if there was any.

    Raises EmbedderUnavailable after putting the work back: no memory is given up because the embedder is away.
    """
    served = room.models.current
    async with room.db.transaction(worker()) as tx:
        claims = await work.claim(tx, kind="embedding", limit=served.embedder.model.max_batch, lease=LEASE_SECONDS)
    if not claims:
        return False
    texts = {project: await _texts_of(project, claimed, room) for project, claimed in claims.items()}
    asked = [text.text for waiting in texts.values() for text in waiting]
    try:
        async with held(claims, room), served.turn:
            outcomes = iter(await embed_each(served.embedder, asked))
    except EmbedderUnavailable as error:
        await _put_off(claims, room, error.after)
        raise
    except Exception as error:
        _log.error("embedding_failed", error=type(error).__name__, exc_info=error)
        if len(asked) > 1:
            async with served.turn:
                await _embed_alone(claims, texts, served, room)
        else:
            await _give_up_or_put_off(claims, room, _failure(error))
        return True
    for project, waiting in texts.items():
        await _save(project, [(text, next(outcomes)) for text in waiting], served, room)
    await room.bus.ring(subjects.BELL_CHANGES)
    return True


async def _embed_alone(
    claims: Mapping[str, Sequence[Claim]], texts: Mapping[str, Sequence[TextToEmbed]], served: Served, room: Room
) -> None:
    """Find the text the model trips over among its neighbours: they get their vectors, it is tried again later."""
    claim_of = {claim.item_id: claim for claimed in claims.values() for claim in claimed}
    for project, waiting in texts.items():
        for text in waiting:
            try:
                [outcome] = await embed_each(served.embedder, [text.text])
            except EmbedderUnavailable as error:
                await _put_off(claims, room, error.after)
                raise
            except Exception as error:
                await _give_up_or_put_off({project: [claim_of[text.memory_id]]}, room, _failure(error))
            else:
                await _save(project, [(text, outcome)], served, room)
    await room.bus.ring(subjects.BELL_CHANGES)


@contextlib.asynccontextmanager
async def held(claims: Mapping[str, Sequence[Claim]], room: Room, *, kind: Kind = "embedding") -> AsyncGenerator[None]:
    """Renew the leases of `claims` while a batch is embedded: however long that takes, the work stays ours, and a
    room that dies gives it back within one lease.
    """

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with contextlib.suppress(TryAgain):
                for project, claimed in claims.items():
                    async with room.db.transaction(worker(project)) as tx:
                        ids = [claim.item_id for claim in claimed]
                        await work.postpone(tx, kind=kind, project=project, ids=ids, seconds=LEASE_SECONDS)

    renewing = asyncio.create_task(renew(), name="renew-leases")
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _texts_of(project: str, claimed: Sequence[Claim], room: Room) -> list[TextToEmbed]:
    """The texts of one project's claims; a claim whose memory no longer waits (or is gone) is finished here."""
    ids = [claim.item_id for claim in claimed]
    async with room.db.transaction(worker(project)) as tx:
        texts = await memories_store.read_texts(tx, project=project, ids=ids)
        if len(texts) < len(ids):
            waiting = {text.memory_id for text in texts}
            gone = [memory_id for memory_id in ids if memory_id not in waiting]
            await work.finish(tx, kind="embedding", project=project, ids=gone)
    return texts


async def _save(project: str, results: Sequence[tuple[TextToEmbed, Outcome]], served: Served, room: Room) -> None:
    """Vectors, states, receipts and finished work of one project in one transaction.

    A text that changed while it was embedded stays on the queue; its memory still waits. So do all of them where
    another model was put in force meanwhile: ready is what can be found.
    """
    vectors = [
        NewVector(text.memory_id, text.content_hash, outcome)
        for text, outcome in results
        if not isinstance(outcome, TextRefused)
    ]
    refused = [(text, outcome.reason) for text, outcome in results if isinstance(outcome, TextRefused)]
    async with room.db.transaction(worker(project)) as tx:
        ready = await memories_store.save_vectors(
            tx,
            project=project,
            generation=served.generation,
            model=served.embedder.model.name,
            vectors=vectors,
            in_force=True,
        )
        sent = await bus_senders(tx, project=project, memory_ids=list(ready))
        await announce_receipts(tx, verb="searchable", sent=sent)
        failed = [
            text.memory_id
            for text, reason in refused
            if await _fail(tx, project, text.memory_id, reason, text.content_hash)
        ]
        await work.finish(tx, kind="embedding", project=project, ids=[*ready, *failed])
    room.embedded.inc(len(ready))
    room.refused.inc(len(failed))


async def _fail(tx: Transaction, project: str, memory_id: UUID, reason: str, content_hash: bytes | None = None) -> bool:
    """Say on a memory, and to its sender, that it will have no vector."""
    failed = await memories_store.fail_embedding(
        tx, project=project, memory_id=memory_id, reason=reason, content_hash=content_hash
    )
    if failed:
        sent = await bus_senders(tx, project=project, memory_ids=[memory_id])
        await announce_receipts(tx, verb="failed", sent=sent, reason=reason)
    return failed


async def _put_off(claims: Mapping[str, Sequence[Claim]], room: Room, seconds: float) -> None:
    """The embedder is away: leave all of it on the queue."""
    for project, claimed in claims.items():
        async with room.db.transaction(worker(project)) as tx:
            ids = [claim.item_id for claim in claimed]
            await work.postpone(tx, kind="embedding", project=project, ids=ids, seconds=seconds)
    room.put_off.inc(sum(map(len, claims.values())))


async def _give_up_or_put_off(claims: Mapping[str, Sequence[Claim]], room: Room, reason: str) -> None:
    """Something unforeseen: try each again later, and give up on one that was tried ten times."""
    for project, claimed in claims.items():
        async with room.db.transaction(worker(project)) as tx:
            for claim in claimed:
                if claim.attempts < MAX_ATTEMPTS:
                    pause = work.pause_after(claim.attempts)
                    await work.postpone(tx, kind="embedding", project=project, ids=[claim.item_id], seconds=pause)
                elif await _fail(tx, project, claim.item_id, reason):
                    await work.finish(tx, kind="embedding", project=project, ids=[claim.item_id])
    room.put_off.inc(sum(map(len, claims.values())))


def _failure(error: Exception) -> str:
    return f"the embedder failed: {type(error).__name__}"


def worker(project: str = "") -> Principal:
    """This room at work, for one project, or for the house."""
    return Principal.worker("embedding", project)
