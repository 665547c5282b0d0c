"""What the gateway itself reads and keeps in Postgres: answers already given, the change feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from memcube_common.contracts.fields import Screening
from memcube_common.db import Statements, Transaction
from memcube_common.errors import TryAgain
from memcube_common.mailbox.feed import access_in, event_json
from memcube_gateway.domain import NOBODY, Framed, effect_of, frame

QUERIES = Statements(__package__)


@dataclass(frozen=True, slots=True)
class Intent:
    """One request that must have its effect once: under which Idempotency-Key, with what body.

    about: the memory whose content the answer will tell, and with which it will go.
    """

    route: str
    key: str
    request_hash: bytes
    about: UUID | None = None


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
    screening: Screening
    near_duplicates: float | None
    memories: int
    searchable: int
    pending: int
    failed: int


async def claim_keys(tx: Transaction, *, intents: Sequence[Intent]) -> dict[str, GivenAnswer]:
    """Take Idempotency-Keys of one route for this transaction; returns what was answered before, by key.

    Waits while other transactions hold them. Raises TryAgain where such a one was undone at this very moment.
    """
    scope = (tx.principal.project, tx.principal.name, intents[0].route)
    in_order = sorted(intents, key=lambda intent: intent.key)  # two who meet over several wait, and do not deadlock
    claimed = await tx.fetch(
        QUERIES["claim_keys"],
        *scope,
        [intent.key for intent in in_order],
        [intent.request_hash for intent in in_order],
        [intent.about for intent in in_order],
    )
    known = {intent.key for intent in intents} - {row["key"] for row in claimed}
    if not known:
        return {}
    rows = await tx.fetch(QUERIES["read_answers"], *scope, list(known))
    given = {
        row["key"]: GivenAnswer(row["request_hash"], row["status"], row["body"])
        for row in rows
        if row["status"] is not None
    }
    if given.keys() != known:
        raise TryAgain("this Idempotency-Key is in use")
    return given


async def find_answer(tx: Transaction, *, intent: Intent) -> GivenAnswer | None:
    """What was answered under an Idempotency-Key, without taking it."""
    row = await tx.fetch_one(QUERIES["find_answer"], tx.principal.project, tx.principal.name, intent.route, intent.key)
    return None if row is None else GivenAnswer(row["request_hash"], row["status"], row["body"])


async def keep_answers(tx: Transaction, *, answers: Sequence[tuple[Intent, int, bytes]]) -> None:
    """Keep the answers (status, body) of requests of one route beside their effects."""
    await tx.execute(
        QUERIES["keep_answers"],
        tx.principal.project,
        tx.principal.name,
        answers[0][0].route,
        [intent.key for intent, _, _ in answers],
        [status for _, status, _ in answers],
        [body for _, _, body in answers],
    )


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
