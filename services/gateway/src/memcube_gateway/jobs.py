"""What the gateway does by the clock: forget what is over, and note which keys were used."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import structlog

from memcube_common.db import Database
from memcube_common.errors import TryAgain
from memcube_common.security.principal import Principal
from memcube_gateway import store
from memcube_gateway.admission import Door
from memcube_gateway.credentials import store as credentials
from memcube_gateway.denials import Denials

EVERY: Final = 600.0
AT_A_TIME: Final = 2_000
NOTE_EVERY: Final = 60.0
DENIED_EVERY: Final = 5.0
_log = structlog.get_logger(__name__)


async def forget_old_answers(db: Database) -> None:
    """Every ten minutes, for ever: answers kept for Idempotency-Keys, sessions and tokens that ended a day ago.

    Several gateways at it at once do no harm.
    """
    while True:
        await asyncio.sleep(EVERY)
        try:
            while await forget_some(db) == AT_A_TIME:
                pass
            while await forget_some_sessions(db) == AT_A_TIME:
                pass
        except TryAgain as error:
            _log.info("forgetting_waits", why=error.detail)


async def forget_some(db: Database) -> int:
    """Drop some old answers; returns how many."""
    async with db.transaction(Principal.worker("gateway")) as tx:
        return await store.forget_answers(tx, at_most=AT_A_TIME)


async def forget_some_sessions(db: Database) -> int:
    """Drop some sessions and refresh tokens that are long over; returns how many."""
    async with db.transaction(Principal.doorkeeper()) as tx:
        return await credentials.forget_sessions(tx, at_most=AT_A_TIME)


async def note_used_keys(db: Database, door: Door) -> None:
    """Once a minute, for ever: when each key was last used, one small write per key and minute."""
    while True:
        await asyncio.sleep(NOTE_EVERY)
        await note(db, door.take_used_keys())


async def note(db: Database, used: Mapping[str, datetime]) -> None:
    """Write down when keys were used, by hash; what cannot be written now is not worth keeping."""
    try:
        for hashed, at in used.items():
            async with db.transaction(Principal.doorkeeper(lookup=hashed)) as tx:
                await credentials.touch_key(tx, hashed=hashed, at=at)
    except TryAgain as error:
        _log.info("noting_used_keys_waits", why=error.detail)


async def note_denials(db: Database, denials: Denials) -> None:
    """Every few seconds, for ever: who was refused what, and how often, into the project's events."""
    while True:
        await asyncio.sleep(DENIED_EVERY)
        await write_denials(db, denials)


async def write_denials(db: Database, denials: Denials) -> None:
    """Write down what was refused since the last time; what cannot be written now is logged and not kept."""
    for project, refused in denials.take().items():
        try:
            async with db.transaction(Principal.worker("gateway", project)) as tx:
                await store.note_denials(tx, refused=refused)
        except TryAgain as error:
            _log.warning("denials_not_written", kinds=len(refused), why=error.detail)
