"""What the ingestion room holds, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from os import getpid

from prometheus_client import CollectorRegistry, Counter

from memcube_common.bus import Bell, Bus
from memcube_common.contracts import subjects
from memcube_common.db import Database
from memcube_common.frame import open_database
from memcube_common.language.build import build_language_model
from memcube_common.language.protocol import LanguageModel
from memcube_common.screening import ScreeningThreads
from memcube_ingestion.settings import IngestionSettings
from memcube_ingestion.turns import Returns


@dataclass(frozen=True, slots=True)
class Room:
    """The ingestion room. `writing`: places for transactions that write what was screened."""

    settings: IngestionSettings
    db: Database
    bus: Bus
    insights_bell: Bell
    changes_bell: Bell
    clock: Callable[[], datetime]
    registry: CollectorRegistry
    stored: Counter
    parked: Counter
    screening: ScreeningThreads
    returns: Returns
    writing: asyncio.Semaphore
    language: LanguageModel | None = None

    @property
    def name(self) -> str:
        """This process among others of the same room."""
        return f"ingestion@{socket.gethostname()}:{getpid()}"


@contextlib.asynccontextmanager
async def open_room(settings: IngestionSettings) -> AsyncGenerator[Room]:
    """Open what the room needs; Postgres may be a minute late, NATS may come whenever it likes."""
    async with contextlib.AsyncExitStack() as stack:
        db = await open_database(settings, "ingestion")
        stack.push_async_callback(db.close)
        bus = await Bus.open(settings.nats_url.get_secret_value(), name="ingestion")
        stack.push_async_callback(bus.close)
        language = build_language_model(settings)
        if language is not None:
            stack.push_async_callback(language.aclose)
        screening = ScreeningThreads()
        stack.callback(screening.close)
        registry = CollectorRegistry()
        yield Room(
            settings=settings,
            db=db,
            bus=bus,
            insights_bell=await bus.bell(subjects.BELL_INSIGHTS),
            changes_bell=await bus.bell(subjects.BELL_CHANGES),
            clock=lambda: datetime.now(UTC),
            registry=registry,
            stored=Counter("memcube_insights_stored", "Insights that became memories.", ["via"], registry=registry),
            parked=Counter("memcube_insights_parked", "Messages set aside.", registry=registry),
            screening=screening,
            returns=Returns(),
            writing=asyncio.Semaphore(settings.writers),
            language=language,
        )
