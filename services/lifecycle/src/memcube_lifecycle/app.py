"""The lifecycle room put together: rounds of housekeeping, and the operator's three questions."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry

from memcube_common.bus import Bus
from memcube_common.db.migrate import shake_hands
from memcube_common.frame import open_database, serve, task
from memcube_common.objects import open_objects
from memcube_common.telemetry.health import Health, operations
from memcube_lifecycle.counting import keep_counting
from memcube_lifecycle.graphs import GraphMeters, Graphs, keep_tending
from memcube_lifecycle.jobs import keep_house
from memcube_lifecycle.settings import LifecycleSettings
from memcube_lifecycle.sweep import Sweep, SweepMeters, keep_sweeping


async def main(settings: LifecycleSettings) -> None:
    """Run the room until it is asked to stop."""
    async with contextlib.AsyncExitStack() as stack:
        db = await open_database(settings, "lifecycle")
        stack.push_async_callback(db.close)
        bus = await Bus.open(settings.nats_url.get_secret_value(), name="lifecycle")
        stack.push_async_callback(bus.close)
        health = Health({"postgres": lambda: shake_hands(db), "nats": bus.check})
        housekeeping = keep_house(
            db, every=settings.housekeeping_interval, changes_kept_days=settings.changes_kept_days
        )
        registry = CollectorRegistry()
        sweep = Sweep(db, open_objects(settings), SweepMeters.fresh(registry), settings.arriving_at_most)
        sweeping = keep_sweeping(sweep, every=settings.sweep_interval)
        graphs = Graphs(
            db,
            settings.postgres_dsn.get_secret_value(),
            GraphMeters.fresh(registry),
            threshold=settings.graph_threshold,
            memory_mb=settings.graph_memory_mb,
            workers=settings.graph_workers,
        )
        tending = keep_tending(graphs, every=settings.graph_interval)
        counting = keep_counting(db, every=settings.counting_interval)
        async with (
            task(housekeeping, "keep-house"),
            task(sweeping, "sweep-objects"),
            task(tending, "tend-graphs"),
            task(counting, "count-terms"),
        ):
            await serve(operations(health, registry), settings)
