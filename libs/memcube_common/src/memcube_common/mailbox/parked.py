"""Messages that cannot be handled are set aside with their reason: nothing is dropped, nothing blocks the rest."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import orjson

from memcube_common.db import Transaction
from memcube_common.mailbox.work import QUERIES


async def park(
    tx: Transaction,
    *,
    parked_id: UUID,
    source: str,
    subject: str,
    headers: Mapping[str, str],
    payload: bytes,
    reason: str,
    attempts: int,
) -> None:
    """Set a message aside under the transaction's project; the same `parked_id` twice is one row.

    reason: what was wrong and where, never the content.
    """
    await tx.execute(
        QUERIES["park"],
        tx.principal.project,
        parked_id,
        source,
        subject[:512],
        orjson.dumps(dict(headers)).decode(),
        payload,
        reason[:2000],
        attempts,
    )
