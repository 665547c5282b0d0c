"""Memories in Postgres: keep them, read them, give them their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray
from pgvector import HalfVector

from memcube_common.contracts.api import Embedding, Memory
from memcube_common.contracts.fields import Governance
from memcube_common.db import Statements, Transaction
from memcube_common.db.arrays import array_literal
from memcube_common.db.pool import Row
from memcube_common.memories.domain import NewMemory, pack, unpack

QUERIES = Statements(__package__)

Vector = NDArray[np.float32]
"""One embedding: shape (dimensions,), unit length."""


@dataclass(frozen=True, slots=True)
class TextToEmbed:
    """A memory's text on its way to the embedder, with the hash that proves it has not changed meanwhile."""

    memory_id: UUID
    text: str
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class NewVector:
    """A vector on its way back: valid only for the content it was made from."""

    memory_id: UUID
    content_hash: bytes
    embedding: Vector


async def insert_memories(tx: Transaction, *, project: str, memories: Sequence[NewMemory]) -> set[UUID]:
    """Keep `memories` of one project; returns the ids that were not there before."""
    payloads = [pack(memory.content) for memory in memories]
    rows = await tx.fetch(
        QUERIES["insert_memories"],
        project,
        [m.id for m in memories],
        [m.label for m in memories],
        [m.origin for m in memories],
        [m.provenance_id for m in memories],
        [array_literal(map(str, m.parents)) for m in memories],
        [array_literal(m.tags) for m in memories],
        [m.governance for m in memories],
        [m.metadata for m in memories],
        [m.priority for m in memories],
        [m.created_by for m in memories],
        [m.created_at for m in memories],
        [p.storage_mode for p in payloads],
        [p.content for p in payloads],
        [p.content_zstd for p in payloads],
        [p.size_bytes for p in payloads],
        [p.token_count for p in payloads],
        [p.checksum for p in payloads],
        [None if p.content is not None else m.content for m, p in zip(memories, payloads, strict=True)],
    )
    return {row["id"] for row in rows}


async def read_memories(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> dict[UUID, Memory]:
    """The memories among `ids` that the transaction's principal may read, by id."""
    rows = await tx.fetch(QUERIES["read_memories"], project, ids)
    return {row["id"]: Memory.model_construct(**memory_fields(row)) for row in rows}


async def set_governance(tx: Transaction, *, project: str, memory_id: UUID, governance: str) -> bool:
    """State a memory's governance anew (JSON already validated); False where the principal may not change it.

    What applies to it and to what was derived from it, the database works out in the same transaction. Raises
    NotAllowed, Frozen or Held (by the transaction) where the change itself is refused.
    """
    return await tx.fetch_value(QUERIES["set_governance"], project, memory_id, governance) is not None


def memory_fields(row: Row) -> dict[str, Any]:
    """The fields of a contract Memory from a row of `read_memories`; the database is trusted to hold valid values."""
    return {
        **{name: row[name] for name in _PLAIN_FIELDS},
        "content": unpack(row["content"], row["content_zstd"]),
        "governance": Governance.model_validate_json(row["governance"]),
        "metadata": orjson.loads(row["metadata"]),
        "checksum": row["checksum"].hex(),
        "embedding": Embedding.model_construct(
            state=row["embedding_state"], model=row["embedding_model"], reason=row["embedding_reason"]
        ),
    }


async def read_texts(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> list[TextToEmbed]:
    """The texts among `ids` that still wait for a vector."""
    rows = await tx.fetch(QUERIES["read_texts"], project, ids)
    return [
        TextToEmbed(row["id"], text, row["checksum"])
        for row in rows
        if (text := unpack(row["content"], row["content_zstd"])) is not None
    ]


async def save_vectors(
    tx: Transaction, *, project: str, generation: int, model: str, vectors: Sequence[NewVector]
) -> set[UUID]:
    """Keep `vectors` whose content is still the one embedded; returns the memories that are ready by it."""
    rows = await tx.fetch(
        QUERIES["save_vectors"],
        project,
        generation,
        [v.memory_id for v in vectors],
        [v.content_hash for v in vectors],
        [HalfVector(v.embedding) for v in vectors],
        model,
    )
    return {row["id"] for row in rows}


async def fail_embedding(tx: Transaction, *, project: str, memory_id: UUID, reason: str) -> bool:
    """Say on a memory that it will have no vector and why; False if it does not wait for one any more."""
    return await tx.fetch_value(QUERIES["fail_embedding"], project, memory_id, reason) is not None


async def register_model(tx: Transaction, *, name: str, dimensions: int, fingerprint: str) -> int:
    """The generation number of an embedding model."""
    generation = await tx.fetch_value(QUERIES["register_model"], name, dimensions, fingerprint)
    if generation is None:  # made by another process between the two halves of the statement
        generation = await tx.fetch_value(QUERIES["register_model"], name, dimensions, fingerprint)
    return int(generation)


_PLAIN_FIELDS = (
    "id",
    "project_id",
    "label",
    "type",
    "version",
    "origin",
    "provenance_id",
    "parents",
    "tags",
    "priority",
    "lifecycle",
    "trust",
    "usage_hits",
    "last_used",
    "kv_hint",
    "watermark",
    "created_by",
    "created_at",
    "updated_at",
    "size_bytes",
    "token_count",
)
