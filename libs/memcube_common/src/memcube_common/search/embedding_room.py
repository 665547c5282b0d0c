"""What rooms that search ask of the embedding room: the vector of a question."""

from __future__ import annotations

import base64
from typing import Final

import numpy as np
from pgvector import HalfVector
from pydantic import TypeAdapter, ValidationError

from memcube_common.bus import Bus
from memcube_common.contracts import subjects
from memcube_common.contracts.asks import EmbeddedTexts, EmbedTexts, Refused
from memcube_common.errors import TryAgain, Unprocessable
from memcube_common.search.domain import QuestionVector

_ANSWER: Final = TypeAdapter[EmbeddedTexts | Refused](EmbeddedTexts | Refused)


class EmbeddingRoom:
    """The embedding room as others see it: questions over NATS, answers within `timeout` seconds."""

    def __init__(self, bus: Bus, *, timeout: float) -> None:
        self._bus = bus
        self._timeout = timeout

    async def vector(self, text: str) -> QuestionVector:
        """The vector of a question by the current model.

        Raises TryAgain where no room answers in time or the answer is unusable, Unprocessable where the text can
        never have a vector.
        """
        asked = EmbedTexts.model_construct(texts=[text]).model_dump_json().encode()
        answer = await self._bus.ask(subjects.EMBED_TEXTS, asked, timeout=self._timeout)
        try:
            said = _ANSWER.validate_json(answer)
        except ValidationError as error:
            raise TryAgain("the embedding room's answer could not be read") from error
        if isinstance(said, Refused):
            if said.after is None:
                raise Unprocessable("this text cannot be embedded")
            raise TryAgain("the embedding room asks to wait", after=said.after)
        if len(said.vectors) != 1:
            raise TryAgain("the embedding room's answer could not be read")
        return QuestionVector(said.generation, said.dimensions, read_vector(said.vectors[0], said.dimensions))


def read_vector(encoded: str, dimensions: int) -> HalfVector:
    """The vector in base64 of little-endian float32.

    Raises TryAgain where it has other dimensions, or numbers that no distance can be taken of.
    """
    try:
        numbers = np.frombuffer(base64.b64decode(encoded, validate=True), dtype="<f4")
    except ValueError as error:
        raise TryAgain("the embedding room sent a vector that cannot be read") from error
    if numbers.shape != (dimensions,):
        raise TryAgain("the embedding room sent a vector of the wrong size")
    if not np.isfinite(numbers).all() or not numbers.any():
        raise TryAgain("the embedding room sent a vector without direction")
    return HalfVector(numbers)
