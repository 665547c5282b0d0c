"""What the embedding room holds, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

from memcube_common.bus import Bell, Bus
from memcube_common.contracts import subjects
from memcube_common.db import Database
from memcube_common.frame import open_database
from memcube_common.memories.store import register_model
from memcube_common.security.principal import Principal
from memcube_embedding.embedders.breaker import Circuit
from memcube_embedding.embedders.build import build_embedder, build_micro_batcher
from memcube_embedding.embedders.microbatch import MicroBatcher
from memcube_embedding.embedders.protocol import Embedder
from memcube_embedding.settings import EmbeddingSettings


@dataclass(frozen=True, slots=True)
class Room:
    """The embedding room. `generation` is its model's number in the database, `turn` who may fill the embedder."""

    settings: EmbeddingSettings
    db: Database
    bus: Bus
    embedder: Embedder
    questions: MicroBatcher
    generation: int
    memories_bell: Bell
    registry: CollectorRegistry
    embedded: Counter
    refused: Counter
    put_off: Counter
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@contextlib.asynccontextmanager
async def open_room(settings: EmbeddingSettings) -> AsyncGenerator[Room]:
    """Open what the room needs; the first start with the local model prepares it, which takes some seconds."""
    async with contextlib.AsyncExitStack() as stack:
        registry = CollectorRegistry()
        circuit = Gauge("memcube_embedder_circuit_open", "1 while the embedder is left alone.", registry=registry)

        def on_circuit(state: Circuit) -> None:
            circuit.set(0 if state is Circuit.CLOSED else 1)

        embedder = await build_embedder(settings, on_circuit=on_circuit)
        stack.push_async_callback(embedder.aclose)
        questions = build_micro_batcher(settings, embedder)
        stack.push_async_callback(questions.aclose)
        db = await open_database(settings, "embedding")
        stack.push_async_callback(db.close)
        bus = await Bus.open(settings.nats_url.get_secret_value(), name="embedding")
        stack.push_async_callback(bus.close)
        model = embedder.model
        async with db.transaction(Principal.worker("embedding")) as tx:
            generation = await register_model(
                tx, name=model.name, dimensions=model.dimensions, fingerprint=model.fingerprint
            )
        yield Room(
            settings=settings,
            db=db,
            bus=bus,
            embedder=embedder,
            questions=questions,
            generation=generation,
            memories_bell=await bus.bell(subjects.BELL_MEMORIES),
            registry=registry,
            embedded=Counter("memcube_memories_embedded", "Memories given a vector.", registry=registry),
            refused=Counter("memcube_memories_refused", "Memories that will have no vector.", registry=registry),
            put_off=Counter("memcube_embeddings_put_off", "Tries that must be made again.", registry=registry),
        )
