"""The embedding room put together: the queues' workers, the answerer of questions, the operator's three questions."""

from __future__ import annotations

import functools

from memcube_common.bus import Subscribers
from memcube_common.contracts import subjects
from memcube_common.db.migrate import shake_hands
from memcube_common.frame import serve, task
from memcube_common.telemetry.health import Health, operations
from memcube_embedding.handlers import on_embed_texts
from memcube_embedding.jobs import embed_waiting
from memcube_embedding.moving import move_vectors
from memcube_embedding.room import open_room
from memcube_embedding.settings import EmbeddingSettings


async def main(settings: EmbeddingSettings) -> None:
    """Run the room until it is asked to stop."""
    async with open_room(settings) as room:
        subscribers = Subscribers(settings.nats_url.get_secret_value(), "embedding")
        subscribers.on_ask(
            functools.partial(on_embed_texts, room=room), subject=subjects.EMBED_TEXTS, queue="embedding"
        )
        health = Health({"postgres": lambda: shake_hands(room.db), "nats": room.bus.check})
        async with (
            task(embed_waiting(room), "embed-waiting"),
            task(embed_waiting(room), "embed-waiting-too"),
            task(room.models.keep_looking(), "look-which-model"),
            task(move_vectors(room), "move-vectors"),
            task(subscribers.run(), "subscribers"),
        ):
            try:
                await serve(operations(health, room.registry), settings)
            finally:
                await subscribers.close()
