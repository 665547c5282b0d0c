"""Agents on NATS, from the moment the gateway is there until it goes; off where the settings say nothing of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import structlog

from memcube_common import frame
from memcube_common.bus import Bus
from memcube_common.security.nkeys import AccountKey
from memcube_gateway.agents.asks import Asks
from memcube_gateway.agents.callout import Authenticate, Callout
from memcube_gateway.agents.domain import Roads
from memcube_gateway.agents.revocation import Revocation, StillValid

if TYPE_CHECKING:
    from memcube_gateway.room import Room

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def open_agents(room: Room, *, authenticate: Authenticate, still_valid: StillValid) -> AsyncGenerator[None]:
    """Let agents in, answer them and show them out, as long as the block lasts. NATS may come later."""
    settings = room.settings
    if (
        settings.nats_callout_url is None or settings.nats_system_url is None or settings.nats_callout_seed is None
    ):  # the settings refuse a part of the three
        _log.info("agents_on_nats_are_off")
        yield
        return
    seed = settings.nats_callout_seed.get_secret_value()
    roads = Roads(seed)
    async with contextlib.AsyncExitStack() as stack:
        door, system = await asyncio.gather(
            Bus.open(settings.nats_callout_url.get_secret_value(), name="gateway-callout"),
            Bus.open(settings.nats_system_url.get_secret_value(), name="gateway-system"),
        )
        stack.push_async_callback(door.close)
        stack.push_async_callback(system.close)
        if not (door.connected and system.connected):
            _log.warning("agents_on_nats_wait", callout=door.connected, system=system.connected)
        await Asks(room, roads).open()
        await stack.enter_async_context(frame.task(Revocation(system, still_valid).run(), "revocation"))
        await Callout(authenticate, key=AccountKey(seed), roads=roads, clock=room.clock).open(door)
        yield
