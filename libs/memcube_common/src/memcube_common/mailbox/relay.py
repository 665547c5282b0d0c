"""The relay: carries changes to NATS in commit order, each with its place in its project. One leads at a time.

Rows are read below a horizon: writers mark themselves with an advisory lock before they draw a number, so nothing
below the smallest mark can still appear (reading `seq > last` alone lost 38 % of changes in the trial).
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from memcube_common.bus import Bell, Bus
from memcube_common.bus.connection import Letter
from memcube_common.db import Database, Transaction
from memcube_common.errors import TryAgain
from memcube_common.governance.domain import access_header
from memcube_common.mailbox.feed import ACCESS_HEADER, access_in, change_subject, event_json
from memcube_common.mailbox.work import QUERIES
from memcube_common.security.principal import Principal

LEASE_SECONDS: Final = 4.0
POLL_SECONDS: Final = 0.15
REST_FACTOR: Final = 2.0
LONGEST_REST: Final = 0.03
"""After a window that was not full the relay rests this many times as long as the window took, at most so many seconds:
carrying one change costs as much as carrying fifty, so more may arrive. A lone change is carried at once."""
WINDOW: Final = 1000
STREAM: Final = "CHANGES"
_log = structlog.get_logger(__name__)


class Relay:
    """One relay of the house, known by `name`; it works while it holds the lease and watches while another does."""

    def __init__(self, db: Database, bus: Bus, bell: Bell, *, name: str) -> None:
        self._db = db
        self._bus = bus
        self._bell = bell
        self._name = name
        self._published = 0

    async def run(self) -> None:
        """Carry changes for ever; every failure is waited out."""
        now = asyncio.get_running_loop().time
        while True:
            started = now()
            try:
                carried = await self.carry()
            except TryAgain as error:
                _log.info("relay_waits", why=error.detail)
                await self._bell.wait(error.after)
                continue
            if not carried:
                await self._bell.wait(POLL_SECONDS)
            elif carried < WINDOW:
                await asyncio.sleep(min(LONGEST_REST, REST_FACTOR * (now() - started)))

    async def carry(self) -> int:
        """One window: place what is new, publish what is placed. Returns how many changes were published."""
        async with self._db.transaction(Principal.relay(), deadline=10.0, planned_once=True) as tx:
            cursor = await tx.fetch_one(QUERIES["lead"], self._name, LEASE_SECONDS, self._published)
            if cursor is None:
                self._published = 0
                return 0
            self._published = cursor["published"]
            placed = await self._place(tx, cursor["placed"])
            rows = await tx.fetch(QUERIES["read_placed"], self._published, placed, WINDOW)
        if not rows:
            self._published = placed
            return 0
        await self._bus.publish_all(
            STREAM,
            [
                Letter(
                    subject=change_subject(row["project_id"], row["type"], row["agent"], row["audience"]),
                    body=event_json(row["project_id"], row["position"], row["type"], row["at"], row["body"]),
                    msg_id=f"{row['project_id']}/{row['position']}",
                    headers={ACCESS_HEADER: access_header(access_in(row))},
                )
                for row in rows
            ],
        )
        self._published = rows[-1]["seq"]
        return len(rows)

    async def _place(self, tx: Transaction, placed: int) -> int:
        """Number the changes below the horizon; returns how far all are placed."""
        drawn = await tx.fetch_value(QUERIES["last_drawn"])
        if drawn == placed:
            return placed
        mark = await tx.fetch_value(QUERIES["lowest_mark"])
        horizon = drawn if mark is None else min(drawn, mark)
        if horizon <= placed:
            return placed
        window = await tx.fetch_one(QUERIES["place_changes"], placed, horizon, WINDOW)
        assert window is not None
        reached = window["last"] if window["many"] == WINDOW else horizon
        await tx.execute(QUERIES["move_placed"], reached)
        return reached
