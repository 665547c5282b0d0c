"""What the scheduling room holds, opened in order and closed in reverse."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram

from memcube_common.bus import Bus
from memcube_common.db import Database
from memcube_common.frame import open_database
from memcube_common.search.embedding_room import EmbeddingRoom
from memcube_common.search.names import CommonNames
from memcube_common.search.tiers import Sizes
from memcube_scheduling.cache import Cache, Deliveries
from memcube_scheduling.settings import SchedulingSettings


@dataclass(frozen=True, slots=True)
class Meters:
    """What is counted about schedules."""

    made: Counter
    cached: Counter
    degraded: Counter
    replayed: Counter
    refused: Counter
    seconds: Histogram

    @classmethod
    def fresh(cls, registry: CollectorRegistry) -> Meters:
        """Meters that stand at zero, in `registry`."""
        return cls(
            Counter("memcube_schedules_made", "Schedules chosen and recorded.", registry=registry),
            Counter("memcube_schedules_cached", "Schedules given out again.", registry=registry),
            Counter("memcube_schedules_degraded", "Schedules that had to do without something.", registry=registry),
            Counter("memcube_schedules_replayed", "Recorded schedules chosen again.", registry=registry),
            Counter("memcube_schedules_refused", "Asks that were answered by a refusal.", registry=registry),
            Histogram(
                "memcube_schedule_seconds",
                "Seconds from the ask to the answer.",
                buckets=(0.002, 0.004, 0.008, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1, 5),
                registry=registry,
            ),
        )


@dataclass(slots=True)
class Seen:
    """The generation of vectors that was in force when the room last looked: a guess, to be asked of Postgres."""

    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """The scheduling room."""

    settings: SchedulingSettings
    db: Database
    bus: Bus
    embedding: EmbeddingRoom
    sizes: Sizes
    names: CommonNames
    cache: Cache
    deliveries: Deliveries
    registry: CollectorRegistry
    meters: Meters
    seen: Seen = field(default_factory=Seen)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


@contextlib.asynccontextmanager
async def open_room(settings: SchedulingSettings) -> AsyncGenerator[Room]:
    """Open what the room needs."""
    async with contextlib.AsyncExitStack() as stack:
        db = await open_database(settings, "scheduling")
        stack.push_async_callback(db.close)
        bus = await Bus.open(settings.nats_url.get_secret_value(), name="scheduling")
        stack.push_async_callback(bus.close)
        registry = CollectorRegistry()
        yield Room(
            settings=settings,
            db=db,
            bus=bus,
            embedding=EmbeddingRoom(bus, timeout=settings.embed_within),
            sizes=Sizes(),
            names=CommonNames(),
            cache=Cache(time.monotonic, entries=settings.schedule_cache_entries, size=settings.schedule_cache_bytes),
            deliveries=Deliveries(),
            registry=registry,
            meters=Meters.fresh(registry),
        )
