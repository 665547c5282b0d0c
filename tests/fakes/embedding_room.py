"""A stand-in for the embedding room: answers asks over the real bus with vectors of hashed words, or as told."""

from __future__ import annotations

import base64
import contextlib
import struct
from collections.abc import AsyncGenerator, Sequence
from typing import Self

from nats.aio.msg import Msg

from memcube_common.bus import Bus
from memcube_common.contracts import subjects
from memcube_common.contracts.asks import EmbeddedTexts, EmbedTexts
from memcube_common.testing.openai_server import hashed_vector

DIMENSIONS = 64


class FakeEmbeddingRoom:
    """Vectors of `generation`; `answer` replaces the next ones, `silent` gives none."""

    def __init__(self) -> None:
        self.generation = 1
        self.answer: bytes | None = None
        self.silent = False
        self.asked: list[str] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, nats_url: str) -> AsyncGenerator[Self]:
        """Listen while the block lasts."""
        bus = await Bus.open(nats_url, name="fake-embedding")
        room = cls()
        await bus.listen(subjects.EMBED_TEXTS, room.on_ask)
        await bus.client.flush(timeout=5)
        try:
            yield room
        finally:
            await bus.close()

    async def on_ask(self, message: Msg) -> None:
        """Answer one ask."""
        texts = EmbedTexts.model_validate_json(message.data).texts
        self.asked.extend(texts)
        if not self.silent:
            await message.respond(self.answer or self._vectors(texts))

    def _vectors(self, texts: Sequence[str]) -> bytes:
        vectors = [
            base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *hashed_vector(t, DIMENSIONS))).decode() for t in texts
        ]
        answer = EmbeddedTexts(generation=self.generation, model="fake", dimensions=DIMENSIONS, vectors=vectors)
        return answer.model_dump_json().encode()
