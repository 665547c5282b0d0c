"""What the gateway asks of other rooms: the vector of a question."""

from __future__ import annotations

from memcube_common.search.embedding_room import EmbeddingRoom

__all__ = ["EmbeddingRoom"]
