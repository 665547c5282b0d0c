"""What became of writes: the receipts of insights, of conversations, and of memories written directly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from memcube_common.contracts.api import Receipt, ReceivedInsight
from memcube_common.contracts.fields import ReceiptState
from memcube_common.db import Transaction
from memcube_common.db.pool import Row
from memcube_common.insights.store import QUERIES


async def read_receipts(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> list[Receipt]:
    """The fate of the writes among `ids` that exist, in the order asked; conversations come last."""
    receipts = [_receipt(project, row) for row in await tx.fetch(QUERIES["read_receipts"], project, ids)]
    known = {receipt.id for receipt in receipts}
    if others := [id for id in ids if id not in known]:
        receipts += await read_conversation_receipts(tx, project=project, ids=others)
    return receipts


async def read_conversation_receipts(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> list[Receipt]:
    """What became of the conversations among `ids` that exist: as far as the slowest of their insights."""
    receipts: list[Receipt] = []
    for row in await tx.fetch(QUERIES["read_conversation_fates"], project, ids):
        ids = row["insight_ids"]
        made = [_receipt(project, one) for one in await tx.fetch(QUERIES["read_receipts"], project, ids)] if ids else []
        receipts.append(_conversation_receipt(project, row, made))
    return receipts


def _conversation_receipt(project: str, row: Row, made: Sequence[Receipt]) -> Receipt:
    state: ReceiptState = row["state"]
    if made and state == "stored":
        states = {receipt.state for receipt in made}
        state = "failed" if states >= {"failed"} and states <= {"failed", "searchable"} else "stored"
        state = "searchable" if states == {"searchable"} else state
    return Receipt.model_construct(
        id=row["id"],
        project=project,
        state=state,
        memory_id=None,
        # What is stored and became nothing has come to its end.
        reason=row["reason"] if row["state"] == "parked" or (row["state"] == "stored" and not made) else None,
        accepted_at=row["accepted_at"],
        stored_at=row["stored_at"],
        searchable_at=max(at for receipt in made if (at := receipt.searchable_at)) if state == "searchable" else None,
        decided_because=row["reason"],
        insights=[
            ReceivedInsight.model_construct(
                insight_id=one.id,
                memory_id=one.memory_id,
                state=one.state,
                decision=one.decision,
                decided_because=one.decided_because,
                supports=one.supports,
            )
            for one in made
        ]
        if row["state"] == "stored"
        else None,
    )


def _receipt(project: str, row: Row) -> Receipt:
    state, reason = _fate(row)
    return Receipt.model_construct(
        id=row["id"],
        project=project,
        state=state,
        memory_id=row["memory_id"] if row["is_insight"] else row["id"],
        reason=reason,
        accepted_at=row["accepted_at"] or row["stored_at"],
        stored_at=row["stored_at"],
        searchable_at=_searchable_at(row) if state == "searchable" else None,
        decision=row["decision"],
        decided_because=row["decided_because"],
        supports=row["supports"],
    )


def _searchable_at(row: Row) -> datetime:
    """Since when it is found: a duplicate cannot be found before it came."""
    return max(row["embedded_at"], row["stored_at"]) if row["supports"] is not None else row["embedded_at"]


def _fate(row: Row) -> tuple[ReceiptState, str | None]:
    """A vector is saved, announced and searchable in one transaction: `embedded` and `searchable` are one moment."""
    if row["state"] == "parked":
        return "parked", row["reason"]
    if row["state"] == "accepted":
        return "accepted", None
    if not row["memory_exists"]:
        return "stored", "the memory is gone, or not yours to read any more"
    if row["embedding_state"] == "ready":
        return "searchable", None
    if row["embedding_state"] == "failed":
        return "failed", row["embedding_reason"]
    return "stored", None
