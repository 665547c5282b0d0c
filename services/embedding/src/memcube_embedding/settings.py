"""What the embedding room is told by its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from memcube_common.settings import RoomSettings


class EmbeddingSettings(RoomSettings):
    """Which model makes the vectors, and how hard it may be asked."""

    model_config = SettingsConfigDict(populate_by_name=True)

    embedder: Literal["local", "openai"] = Field(
        default="local", description="Who makes the vectors: the model carried by a package, or an OpenAI endpoint."
    )

    models_dir: Path = Field(default=Path(".memcube/models"), description="Folder of the prepared local model.")
    local_threads: int = Field(
        default=1, ge=1, le=64, description="Texts embedded at once by the local model; never more than processors."
    )

    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="OPENAI_API_KEY",
        description="Key of the OpenAI endpoint, under the name its own tools read; required by that embedder.",
    )
    openai_base_url: str = Field(
        default="https://api.openai.com/v1",
        pattern=r"^https?://\S+$",
        description="Address of the endpoint, up to and without '/embeddings'.",
    )
    openai_model: str = Field(
        default="text-embedding-3-small", min_length=1, max_length=200, description="Model asked for by this name."
    )
    openai_dimensions: int = Field(default=1536, ge=2, le=4000, description="Numbers in one vector of that model.")
    openai_send_dimensions: bool = Field(
        default=True, description="Whether requests name the dimensions; some self-hosted models refuse that."
    )
    openai_timeout: float = Field(default=10.0, gt=0, le=300, description="Seconds one request may take.")
    openai_batch: int = Field(default=64, ge=1, le=2048, description="Most texts in one request.")
    openai_concurrency: int = Field(default=4, ge=1, le=64, description="Most requests under way at once.")
    openai_attempts: int = Field(default=4, ge=1, le=10, description="Tries of one call before it is put off.")
    openai_backoff: float = Field(
        default=0.5, gt=0, le=60, description="Seconds of the first random wait between tries; doubles each time."
    )
    openai_longest_wait: float = Field(
        default=10.0, gt=0, le=300, description="Most seconds to wait between tries; beyond that the call is put off."
    )

    breaker_failures: int = Field(
        default=5, ge=1, le=20, description="Failures in a row after which the endpoint is left alone."
    )
    breaker_probe_interval: float = Field(
        default=5.0, ge=5, le=300, description="Seconds between two probes of an endpoint that is left alone."
    )

    query_window: float = Field(
        default=0.003, ge=0, le=0.1, description="Seconds a question's text waits for others to share a call with."
    )
    query_waiting: int = Field(default=1024, ge=1, le=100_000, description="Most question texts waiting at once.")
    query_flights: int = Field(default=2, ge=1, le=64, description="Most calls for question texts under way at once.")
    query_cache: int = Field(
        default=4096, ge=0, le=1_000_000, description="Question vectors kept in memory (4 bytes a dimension each)."
    )

    @model_validator(mode="after")
    def _openai_has_a_key(self) -> Self:
        if self.embedder == "openai":
            key = self.openai_api_key.get_secret_value() if self.openai_api_key else ""
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError("embedder 'openai' needs OPENAI_API_KEY: printable ASCII without spaces")
        return self
