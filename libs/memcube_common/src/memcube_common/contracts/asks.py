"""Questions between rooms over core NATS, and their answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from memcube_common.contracts.fields import Text


class EmbedTexts(BaseModel):
    """Which vectors belong to these texts? Asked by the gateway of the embedding room."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    texts: Annotated[list[Text], Field(min_length=1, max_length=64)]


class EmbeddedTexts(BaseModel):
    """Vectors of the current model in the order asked: unit length, `dimensions` numbers each."""

    model_config = ConfigDict(frozen=True)

    generation: int = Field(description="Number of the embedding model's generation in `embedding_models`.")
    model: str
    dimensions: int
    vectors: list[str] = Field(description="Each vector as base64 of little-endian float32.")


class Refused(BaseModel):
    """The room could not answer."""

    model_config = ConfigDict(frozen=True)

    code: str
    detail: str
    after: float | None = Field(default=None, description="Seconds after which asking again may help.")
