"""Questions' vectors, asked for over the bus: gathered with others' questions, and remembered."""

from __future__ import annotations

import asyncio
import base64

import structlog
from pydantic import ValidationError

from memcube_common.contracts.asks import EmbeddedTexts, EmbedTexts, Refused
from memcube_common.errors import MemCubeError, TryAgain
from memcube_embedding.room import Room

_log = structlog.get_logger(__name__)


async def on_embed_texts(body: bytes, room: Room) -> bytes:
    """Which vectors belong to these texts? Answers EmbeddedTexts, or Refused with what should happen next."""
    try:
        asked = EmbedTexts.model_validate_json(body)
        served = room.models.current  # one model for all of them, whatever is put in force meanwhile
        vectors = await asyncio.gather(*(served.questions.embed_one(text) for text in asked.texts))
    except ValidationError:
        return _refused("invalid", "1 to 64 texts are embedded at a time", None)
    except TryAgain as error:
        return _refused(error.code, error.detail, error.after)
    except MemCubeError as error:
        return _refused(error.code, error.detail, None)
    except Exception as error:
        _log.error("question_not_embedded", error=type(error).__name__, exc_info=error)
        return _refused("internal", "the embedder failed", 1.0)
    model = served.embedder.model
    return (
        EmbeddedTexts(
            generation=served.generation,
            model=model.name,
            dimensions=model.dimensions,
            vectors=[base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors],
        )
        .model_dump_json()
        .encode()
    )


def _refused(code: str, detail: str, after: float | None) -> bytes:
    return Refused(code=code, detail=detail, after=after).model_dump_json().encode()
