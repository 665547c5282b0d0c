"""What the embedding room holds, opened in order and closed in reverse."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from memcube_common.bus import Bell, Bus
from memcube_common.contracts import subjects
from memcube_common.db import Database
from memcube_common.frame import open_database
from memcube_embedding.embedders.breaker import Circuit
from memcube_embedding.embedders.build import Identity, build_embedder, build_micro_batcher, configured, identify
from memcube_embedding.embedders.protocol import Embedder
from memcube_embedding.models import Models
from memcube_embedding.settings import EmbeddingSettings


@dataclass(frozen=True, slots=True)
class Room:
    """The embedding room."""

    settings: EmbeddingSettings
    db: Database
    bus: Bus
    models: Models
    memories_bell: Bell
    registry: CollectorRegistry
    embedded: Counter
    refused: Counter
    put_off: Counter
    moved: Counter


@contextlib.asynccontextmanager
async def open_room(settings: EmbeddingSettings) -> AsyncGenerator[Room]:
    """Open what the room needs; the first start with the local model prepares it, which takes some seconds."""
    async with contextlib.AsyncExitStack() as stack:
        registry = CollectorRegistry()
        circuit = Gauge(
            "memcube_embedder_circuit_open", "1 while the embedder is left alone.", ["model"], registry=registry
        )

        async def build(model: Identity) -> Embedder:
            def on_circuit(state: Circuit) -> None:
                circuit.labels(model.name).set(0 if state is Circuit.CLOSED else 1)

            embedder = await build_embedder(settings, model, on_circuit=on_circuit)
            circuit.labels(model.name).set(0)
            return embedder

        db = await open_database(settings, "embedding")
        stack.push_async_callback(db.close)
        bus = await Bus.open(settings.nats_url.get_secret_value(), name="embedding")
        stack.push_async_callback(bus.close)
        models = Models(
            db,
            configured=configured(settings),
            identify=functools.partial(identify, settings=settings),
            build=build,
            batcher=functools.partial(build_micro_batcher, settings),
        )
        stack.push_async_callback(models.aclose)
        await models.begin()
        yield Room(
            settings=settings,
            db=db,
            bus=bus,
            models=models,
            memories_bell=await bus.bell(subjects.BELL_MEMORIES),
            registry=registry,
            embedded=Counter("memcube_memories_embedded", "Memories given a vector.", registry=registry),
            refused=Counter("memcube_memories_refused", "Memories that will have no vector.", registry=registry),
            put_off=Counter("memcube_embeddings_put_off", "Tries that must be made again.", registry=registry),
            moved=Counter("memcube_vectors_moved", "Vectors made for a migration.", registry=registry),
        )
