"""The scheduling room put together: today it holds its connections and answers the operator's three questions."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry

from memcube_common.bus import Bus
from memcube_common.db.migrate import shake_hands
from memcube_common.frame import open_database, serve
from memcube_common.telemetry.health import Health, operations
from memcube_scheduling.settings import SchedulingSettings


async def main(settings: SchedulingSettings) -> None:
    """Run the room until it is asked to stop."""
    async with contextlib.AsyncExitStack() as stack:
        db = await open_database(settings, "scheduling")
        stack.push_async_callback(db.close)
        bus = await Bus.open(settings.nats_url.get_secret_value(), name="scheduling")
        stack.push_async_callback(bus.close)
        health = Health({"postgres": lambda: shake_hands(db), "nats": bus.check})
        await serve(operations(health, CollectorRegistry()), settings)
