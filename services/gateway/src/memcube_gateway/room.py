"""What the gateway holds while it runs, and how it is opened and closed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from memcube_common import frame
from memcube_common.bus import Bus
from memcube_common.contracts import subjects
from memcube_common.contracts.api import Memory
from memcube_common.db import Database
from memcube_common.db.migrate import shake_hands
from memcube_common.language.build import build_language_model
from memcube_common.language.protocol import LanguageModel
from memcube_common.objects import ObjectStore, open_objects
from memcube_common.rerank.build import build_reranker
from memcube_common.rerank.protocol import Reranker
from memcube_common.screening import ScreeningThreads
from memcube_common.search.embedding_room import EmbeddingRoom
from memcube_common.search.names import CommonNames
from memcube_common.search.tiers import Sizes
from memcube_common.security.principal import Principal
from memcube_common.security.signing import Signer
from memcube_common.security.tokens import AccessTokens, TokenKeys
from memcube_common.telemetry.health import Health
from memcube_gateway.admission import Door
from memcube_gateway.agents.opening import open_agents
from memcube_gateway.credentials.sessions import Desk
from memcube_gateway.decisions import Decisions
from memcube_gateway.denials import Denials
from memcube_gateway.gathering import Gathering
from memcube_gateway.handlers import Changes
from memcube_gateway.jobs import forget_old_answers, note_denials, note_used_keys, write_denials
from memcube_gateway.scheduling import SchedulingRoom
from memcube_gateway.settings import GatewaySettings
from memcube_gateway.together import Answered, Making, Submitting, make_memories, read_each, submit_insights

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LOOK_EVERY = 30.0  # seconds between two looks at the object store


@dataclass(frozen=True, slots=True)
class Meters:
    """What is counted about requests: by route template and status, never by project."""

    registry: CollectorRegistry
    requests: Histogram
    denied: Counter

    @classmethod
    def fresh(cls) -> Meters:
        """Meters that stand at zero, in a registry of their own."""
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        return cls(
            registry,
            Histogram(
                "memcube_http_request_seconds",
                "Time from a request's first byte to the answer's last.",
                ("method", "route", "status"),
                registry=registry,
                buckets=SECONDS,
            ),
            Counter(
                "memcube_denied", "Attempts that were refused, by the code of the answer.", ("code",), registry=registry
            ),
        )


@dataclass(frozen=True, slots=True)
class Room:
    """Everything a request may need."""

    settings: GatewaySettings
    db: Database
    bus: Bus
    changes: Changes
    embedding: EmbeddingRoom
    scheduling: SchedulingRoom
    objects: ObjectStore
    language: LanguageModel | None
    reranker: Reranker | None
    screening: ScreeningThreads
    door: Door
    desk: Desk
    decisions: Decisions
    sizes: Sizes
    names: CommonNames
    health: Health
    meters: Meters
    denials: Denials
    making: Gathering[Making, Answered]
    submitting: Gathering[Submitting, Answered]
    reading: Gathering[UUID, Memory]
    clock: Callable[[], datetime]

    def signer(self, purpose: str) -> Signer:
        """What signs for `purpose` in every gateway that holds the same token keys."""
        secret, *former = self.desk.keys.derivation_keys("signing")
        return Signer(secret, purpose, former=former)


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def open_room(settings: GatewaySettings) -> AsyncGenerator[Room]:
    """The gateway's room: Postgres must be there, NATS may come later. Closed in reverse order."""
    async with contextlib.AsyncExitStack() as stack:
        db = await frame.opened(
            "postgres",
            lambda: Database.open(
                settings.postgres_dsn.get_secret_value(),
                room="gateway",
                size=settings.pool_size,
                share=max(1, settings.pool_size * 3 // 5),
                statement_timeout=settings.statement_timeout,
                connect_timeout=settings.connect_timeout,
            ),
        )
        stack.push_async_callback(db.close)
        await frame.opened("schema", lambda: shake_hands(db))
        keys = TokenKeys(settings.token_keys.get_secret_value())
        tokens = AccessTokens(keys, issuer=settings.issuer)
        door = Door(db, tokens)
        desk = Desk.open(db, keys, tokens)
        stack.callback(desk.passwords.close)
        bus = await Bus.open(settings.nats_url.get_secret_value(), name="gateway")
        stack.push_async_callback(bus.close)
        changes = Changes(db, bus)
        await changes.open()
        await stack.enter_async_context(frame.task(changes.run(), "changes"))
        await stack.enter_async_context(frame.task(forget_old_answers(db), "forget-old-answers"))
        await stack.enter_async_context(frame.task(note_used_keys(db, door), "note-used-keys"))
        denials = Denials()
        stack.push_async_callback(write_denials, db, denials)
        await stack.enter_async_context(frame.task(note_denials(db, denials), "note-denials"))
        stack.callback(changes.close)

        async def postgres_answers() -> None:
            async with db.transaction(Principal.worker("gateway"), deadline=1.5):
                pass

        language = build_language_model(settings)
        if language is not None:
            stack.push_async_callback(language.aclose)
        reranker = build_reranker(settings)
        if reranker is not None:
            stack.push_async_callback(reranker.aclose)

        objects = open_objects(settings)
        await stack.enter_async_context(frame.task(objects.watch(every=_LOOK_EVERY), "watch-objects"))
        screening = ScreeningThreads()
        stack.callback(screening.close)

        async def ring() -> None:
            await bus.ring(subjects.BELL_MEMORIES)
            await bus.ring(subjects.BELL_CHANGES)

        room = Room(
            settings=settings,
            db=db,
            bus=bus,
            changes=changes,
            embedding=EmbeddingRoom(bus, timeout=settings.embed_within),
            scheduling=SchedulingRoom(bus),
            objects=objects,
            language=language,
            reranker=reranker,
            screening=screening,
            door=door,
            desk=desk,
            decisions=Decisions(db),
            sizes=Sizes(),
            names=CommonNames(),
            health=Health({"postgres": postgres_answers}, informing={"nats": bus.check, "objects": objects.check}),
            meters=Meters.fresh(),
            denials=denials,
            making=Gathering[Making, Answered](db, make_memories, apart=lambda one: one.mark, after=ring),
            submitting=Gathering[Submitting, Answered](
                db,
                submit_insights,
                apart=lambda one: one.mark,
                weigh=lambda one: len(one.insights),
                after=lambda: bus.ring(subjects.BELL_INSIGHTS),
            ),
            reading=Gathering[UUID, Memory](db, read_each),
            clock=now,
        )
        agents = open_agents(room, authenticate=door.authenticate, still_valid=door.still_valid)
        await stack.enter_async_context(agents)
        yield room
