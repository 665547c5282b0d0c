"""Questions over core NATS, between rooms and from agents, and their answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from memcube_common.contracts.fields import Closed, Moment, Text


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


class FollowChanges(Closed):
    """Which consumer may I pull my project's changes from? Asked by an agent of the gateway."""

    of: Literal["changes", "receipts"] = Field(
        default="changes",
        description="`changes`: memories and own receipts, by one durable for all connections of this agent. "
        "`receipts`: own receipts alone, from now on, for this connection.",
    )
    start: Literal["resume", "new", "all"] | Moment = Field(
        default="resume",
        description="`resume`: after what was acknowledged last, from now on the first time. `new`, `all` or a moment: "
        "begin there, forgetting what was acknowledged.",
    )


class Following(BaseModel):
    """The consumer of the stream CHANGES that this agent may pull from and acknowledge to."""

    model_config = ConfigDict(frozen=True)

    stream: Literal["CHANGES"] = "CHANGES"
    durable: str
    subjects: list[str] = Field(description="What it delivers.")


class Refused(BaseModel):
    """The room could not answer."""

    model_config = ConfigDict(frozen=True)

    code: str
    detail: str
    after: float | None = Field(default=None, description="Seconds after which asking again may help.")
    field: str | None = Field(default=None, description="Which field is outside its limits, where `code` is `invalid`.")
