"""Conversations in Postgres: they wait there with their messages until they are insights, or are set aside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from memcube_common.db import Transaction
from memcube_common.insights.conversation import Talk, from_json, to_json
from memcube_common.insights.store import QUERIES
from memcube_common.quotas.store import refusal


async def accept_conversation(tx: Transaction, *, project: str, talk: Talk) -> datetime | None:
    """Write a conversation down and queue it for ingestion, in one statement; the time, None if it was there before.

    What its messages need if each becomes an insight is taken from the project's quotas. Raises QuotaExceeded, after
    which the transaction must not be committed.
    """
    messages, beside = to_json(talk)
    contents = talk.contents
    row = await tx.fetch_one(
        QUERIES["accept_conversation"],
        project,
        talk.id,
        talk.agent_id,
        messages,
        beside,
        len(contents),
        sum(len(content.encode()) for content in contents),
    )
    if row is not None and row["refused"] is not None:
        raise await refusal(tx, resource=row["refused"])
    return None if row is None else row["accepted_at"]


async def read_conversation(tx: Transaction, *, project: str, conversation_id: UUID) -> Talk | None:
    """A conversation that still waits."""
    row = await tx.fetch_one(QUERIES["read_conversation"], project, conversation_id)
    return None if row is None else from_json(conversation_id, row["agent_id"], row["messages"], row["said"])


async def mark_conversation_stored(
    tx: Transaction,
    *,
    project: str,
    conversation_id: UUID,
    how: Literal["extracted", "as_they_are"],
    reason: str | None,
    insight_ids: Sequence[UUID],
) -> None:
    """This conversation is insights now: its messages are blanked. `reason`: why so, where that needs saying."""
    await tx.execute(QUERIES["mark_conversation_stored"], project, conversation_id, how, reason, insight_ids)


async def park_conversation(tx: Transaction, *, project: str, conversation_id: UUID, reason: str) -> None:
    """This conversation was set aside with its messages; its receipt gives `reason`."""
    await tx.execute(QUERIES["mark_conversation_parked"], project, conversation_id, reason)
