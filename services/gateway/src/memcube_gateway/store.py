"""What the gateway itself reads and keeps in Postgres: answers already given, the change feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from memcube_common.db import Statements, Transaction
from memcube_common.errors import TryAgain
from memcube_common.mailbox.feed import access_in, event_json
from memcube_gateway.domain import NOBODY, Framed, effect_of, frame

QUERIES = Statements(__package__)


@dataclass(frozen=True, slots=True)
class Intent:
    """One request that must have its effect once: whose, on which route, under which Idempotency-Key."""

    project: str
    principal: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """The answer to an earlier request under the same key."""

    request_hash: bytes
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class FeedEnds:
    """Where a project's feed begins and ends: positions `first` … `head` are kept, none where first is head + 1."""

    first: int
    head: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a project holds, counted."""

    id: str
    language: str
    created_at: datetime
    memories: int
    searchable: int
    pending: int
    failed: int


async def claim_key(tx: Transaction, *, intent: Intent, request_hash: bytes) -> GivenAnswer | None:
    """Take an Idempotency-Key for this transaction, or return what was answered under it before.

    Waits while another transaction holds the key. Raises TryAgain where that one was undone at this very moment.
    """
    scope = (intent.project, intent.principal, intent.route, intent.key)
    if await tx.fetch_one(QUERIES["claim_key"], *scope, request_hash) is not None:
        return None
    row = await tx.fetch_one(QUERIES["read_answer"], *scope)
    if row is None or row["status"] is None:
        raise TryAgain("this Idempotency-Key is in use")
    return GivenAnswer(row["request_hash"], row["status"], row["body"])


async def keep_answer(tx: Transaction, *, intent: Intent, status: int, body: bytes) -> None:
    """Keep the answer of a request beside its effect."""
    await tx.execute(QUERIES["keep_answer"], intent.project, intent.principal, intent.route, intent.key, status, body)


async def forget_answers(tx: Transaction, *, at_most: int) -> int:
    """Drop answers older than a day; returns how many were dropped."""
    return len(await tx.fetch(QUERIES["forget_answers"], at_most))


async def note_denials(tx: Transaction, *, refused: Sequence[tuple[str, str, str, int]]) -> None:
    """Add refused attempts (handle, source, action, how many) to the events of the transaction's project."""
    await tx.execute(QUERIES["note_denials"], *(list(column) for column in zip(*refused, strict=True)))


async def feed_ends(tx: Transaction, *, project: str) -> FeedEnds:
    """Where the feed of `project` begins and ends."""
    row = await tx.fetch_one(QUERIES["feed_ends"], project)
    assert row is not None
    return FeedEnds(first=row["head"] + 1 if row["first"] is None else row["first"], head=row["head"])


async def read_frames(tx: Transaction, *, project: str, after: int, at_most: int) -> Sequence[Framed]:
    """The changes after position `after`, in order; what the transaction's principal may not see has no frame."""
    return [
        Framed(row["position"], None, NOBODY)
        if row["type"] is None
        else Framed(
            row["position"],
            frame(
                row["type"],
                event_json(project, row["position"], row["type"], row["at"], row["body"]),
                row["position"],
            ),
            access_in(row),
            row["memory_id"],
            effect_of(row["type"], orjson.loads(row["body"]).get("changed")) if row["memory_id"] else None,
        )
        for row in await tx.fetch(QUERIES["read_changes"], project, after, at_most)
    ]


async def count_holdings(tx: Transaction, *, project: str) -> Holdings | None:
    """What `project` holds; None where it does not exist."""
    row = await tx.fetch_one(QUERIES["count_holdings"], project)
    return None if row is None else Holdings(**dict(row))
