"""Showing agents out: whoever is connected by a credential that does not hold any more is disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog

from memcube_common.bus import Bus
from memcube_common.contracts.subjects import AGENTS_ACCOUNT
from memcube_common.errors import TryAgain
from memcube_common.security.grants import Grant
from memcube_gateway.agents.domain import connected_from

EVERY: Final = 1.2  # seconds; with what the door remembers (3 s) and the time to gather, under 5 s in all
GATHER: Final = 0.2
PAGE: Final = 1_000
_log = structlog.get_logger(__name__)

StillValid = Callable[[Collection[Grant]], Awaitable[set[Grant]]]
"""Which of the grants hold as they were given. Raises TryAgain where it cannot be found out now."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection in the account AGENTS; `grant` is None where its name is not one that we signed."""

    server: str
    cid: int
    grant: Grant | None


class Revocation:
    """Looks at every connection of agents on every server, over a connection to the system account."""

    def __init__(self, bus: Bus, still_valid: StillValid) -> None:
        self._bus = bus
        self._still_valid = still_valid

    async def run(self) -> None:
        """Look for ever; while something needed is away, nobody is shown out."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.look()
            except TryAgain as error:
                _log.info("revocation_waits", why=error.detail)
            except Exception as error:  # a server of another version may answer otherwise; the next look may do
                _log.error("revocation_failed", error=type(error).__name__)

    async def look(self) -> int:
        """Disconnect who may not be here any more; returns how many. Raises TryAgain."""
        connections = await self.connections()
        grants = {one.grant for one in connections if one.grant is not None}
        valid = await self._still_valid(grants) if grants else set[Grant]()
        over = [one for one in connections if one.grant not in valid]
        for one in over:
            await self._bus.ask(f"$SYS.REQ.SERVER.{one.server}.KICK", orjson.dumps({"cid": one.cid}), timeout=1.0)
        if over:
            _log.info("agents_disconnected", many=len(over))
        return len(over)

    async def connections(self) -> list[Connection]:
        """Everybody connected in the account AGENTS at this moment, on every server that answers. Raises TryAgain."""
        found: list[Connection] = []
        offset, more = 0, True
        while more:
            asked = orjson.dumps({"acc": AGENTS_ACCOUNT, "auth": True, "limit": PAGE, "offset": offset})
            answers = await self._bus.ask_everybody("$SYS.REQ.SERVER.PING.CONNZ", asked, within=GATHER)
            more = False
            for answer in answers:
                said: Mapping[str, Any] = orjson.loads(answer)
                data: Mapping[str, Any] = said["data"]
                connections: list[dict[str, Any]] = data.get("connections") or []
                found += [_connection(said["server"]["id"], one) for one in connections]
                more = more or int(data["total"]) > offset + PAGE
            offset += PAGE
        return found


def _connection(server: str, said: Mapping[str, Any]) -> Connection:
    who = connected_from(said.get("authorized_user"))
    return Connection(server, int(said["cid"]), None if who is None else who.grant)
