"""The ingestion room put together: subscribers, jobs, the relay, and the operator's three questions."""

from __future__ import annotations

import functools

from memcube_common.bus import Subscribers
from memcube_common.bus.accounts import ADVISED, ADVISORIES_DURABLE, INSIGHTS_DURABLE
from memcube_common.contracts import subjects
from memcube_common.db.migrate import shake_hands
from memcube_common.frame import serve, task
from memcube_common.mailbox.relay import Relay
from memcube_common.telemetry.health import Health, operations
from memcube_ingestion import conversations, duplicates
from memcube_ingestion.handlers import on_deliveries_exhausted, on_insights_submitted
from memcube_ingestion.jobs import forget_recalls, keep_accepted
from memcube_ingestion.room import open_room
from memcube_ingestion.settings import IngestionSettings
from memcube_ingestion.waiting import work_off


async def main(settings: IngestionSettings) -> None:
    """Run the room until it is asked to stop."""
    async with open_room(settings) as room:
        subscribers = Subscribers(settings.nats_url.get_secret_value(), "ingestion")
        subscribers.on_batch(
            functools.partial(on_insights_submitted, room=room),
            stream="INSIGHTS",
            subject=subjects.INSIGHTS,
            durable=INSIGHTS_DURABLE,
            size=settings.batch_size,
            linger=settings.linger,
        )
        subscribers.on_batch(
            functools.partial(on_deliveries_exhausted, room=room),
            stream="ADVISORIES",
            subject=ADVISED,
            durable=ADVISORIES_DURABLE,
            size=50,
            linger=1.0,
        )
        # Bells of their own: whoever waits for one takes it from the others.
        posted, embedded = await room.bus.bell(subjects.BELL_INSIGHTS), await room.bus.bell(subjects.BELL_CHANGES)
        relay = Relay(room.db, room.bus, room.changes_bell, name=room.name)
        health = Health({"postgres": lambda: shake_hands(room.db), "nats": room.bus.check})
        async with (
            task(keep_accepted(room), "keep-accepted"),
            task(work_off(conversations.line_of(room), posted, room), "conversations"),
            task(work_off(duplicates.line_of(room), embedded, room), "duplicates"),
            task(forget_recalls(room), "forget-recalls"),
            task(relay.run(), "relay"),
            task(subscribers.run(), "subscribers"),
        ):
            try:
                await serve(operations(health, room.registry), settings)
            finally:
                await subscribers.close()
