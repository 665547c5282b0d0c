"""The scheduling room put together: who answers asks, what is done by the clock, the operator's three questions."""

from __future__ import annotations

import functools

from memcube_common.bus import Subscribers
from memcube_common.contracts import subjects
from memcube_common.db.migrate import shake_hands
from memcube_common.frame import serve, task
from memcube_common.telemetry.health import Health, operations
from memcube_scheduling.handlers import on_make_schedule
from memcube_scheduling.jobs import keep_forgetting
from memcube_scheduling.recommending import Recommending, keep_recommending
from memcube_scheduling.room import open_room
from memcube_scheduling.settings import SchedulingSettings
from memcube_scheduling.settling import Settling, SettlingMeters, keep_recalling, keep_settling


async def main(settings: SchedulingSettings) -> None:
    """Run the room until it is asked to stop."""
    async with open_room(settings) as room:
        subscribers = Subscribers(settings.nats_url.get_secret_value(), "scheduling")
        subscribers.on_ask(
            functools.partial(on_make_schedule, room=room), subject=subjects.MAKE_SCHEDULE, queue="scheduling"
        )
        health = Health({"postgres": lambda: shake_hands(room.db), "nats": room.bus.check})
        forgetting = keep_forgetting(
            room.db, every=settings.schedules_sweep_interval, days=settings.schedules_keep_days
        )
        settling = Settling(
            room.db, room.deliveries, SettlingMeters.fresh(room.registry), every=settings.usage_interval
        )
        recommending = Recommending(room.db, settings.recommendations_interval, room.clock)
        async with (
            task(forgetting, "forget-schedules"),
            task(keep_recalling(settling), "keep-recalling"),
            task(keep_settling(settling), "keep-settling"),
            task(keep_recommending(recommending), "keep-recommending"),
            task(subscribers.run(), "subscribers"),
        ):
            try:
                await serve(operations(health, room.registry), settings)
            finally:
                await subscribers.close()
