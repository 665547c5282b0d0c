"""What the gateway does by the clock: forget answers kept for Idempotency-Keys older than a day."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.security.principal import Principal
from memcube_gateway import store

EVERY: Final = 600.0
AT_A_TIME: Final = 2_000
_log = structlog.get_logger(__name__)


async def forget_old_answers(db: Database) -> None:
    """Every ten minutes, for ever; several gateways at it at once do no harm."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            while await forget_some(db) == AT_A_TIME:
                pass
        except TryAgain as error:
            _log.info("forgetting_waits", why=error.detail)


async def forget_some(db: Database) -> int:
    """Drop some old answers; returns how many."""
    async with db.transaction(Principal.worker("gateway")) as tx:
        return await store.forget_answers(tx, at_most=AT_A_TIME)
