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
        _kept(subject, 512),
        orjson.dumps({_kept(name, 256): _kept(value, 4096) for name, value in headers.items()}).decode(),
        payload,
        _kept(reason, 2000),
        attempts,
    )


def _kept(text: str, at_most: int) -> str:
    """`text` as the drawer can hold it: cut, with NUL and lone surrogates replaced."""
    return text[:at_most].replace("\x00", "\ufffd").encode(errors="replace").decode()
