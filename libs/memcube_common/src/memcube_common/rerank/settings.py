"""What a room is told about the reranker it may ask."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from memcube_common.settings import RoomSettings


class RerankSettings(RoomSettings):
    """The settings of a room that may ask a reranker; without an address it asks none."""

    rerank_url: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="Address of a reranker that takes {model, query, documents, top_n} and answers results[{index,"
        " relevance_score}], as '/rerank' of Cohere, Jina, vLLM or Infinity does; without one nothing is reranked.",
    )
    rerank_model: str = Field(
        default="rerank", min_length=1, max_length=200, description="Reranker asked for by this name."
    )
    rerank_key: SecretStr | None = Field(default=None, description="Key of the reranker, if it wants one.")
    rerank_within: float = Field(
        default=0.5, gt=0, le=30, description="Seconds one answer of it may take before the search goes on without."
    )

    @model_validator(mode="after")
    def _key_can_be_sent(self) -> Self:
        key = "" if self.rerank_key is None else self.rerank_key.get_secret_value()
        if key and (not key.isascii() or not key.isprintable() or " " in key):
            raise ValueError("MEMCUBE_RERANK_KEY must be printable ASCII without spaces")
        return self
