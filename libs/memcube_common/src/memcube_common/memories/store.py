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
from memcube_common.errors import TryAgain
from memcube_common.memories.domain import NewMemory, Payload, unpack
from memcube_common.memories.traits import traits_of

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
    """Keep `memories` of one project; returns the ids that were not there before.

    Raises TryAgain where an object that one of them names was swept meanwhile.
    """
    payloads = [memory.packed() for memory in memories]
    if len(memories) > 1 and (sources := {parent for memory in memories for parent in memory.parents}):
        await hold_sources(tx, ids=list(sources))  # all at once: one by one, two who meet would deadlock
    await keep_objects(tx, project=project, payloads=payloads)
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
        [m.type for m in memories],
        [m.kv_hint for m in memories],
        [m.trust for m in memories],
        [p.content_bytes for p in payloads],
        [p.object_key for p in payloads],
        [p.blocks for p in payloads],
        [traits_of(m.content) for m in memories],
    )
    return {row["id"] for row in rows}


async def hold_sources(tx: Transaction, *, ids: Sequence[UUID]) -> None:
    """Nobody changes these memories until the transaction ends: something is derived from them."""
    await tx.execute(QUERIES["hold_sources"], ids)


async def read_memories(tx: Transaction, *, project: str, ids: Sequence[UUID]) -> dict[UUID, Memory]:
    """The memories among `ids` that the transaction's principal may read, by id."""
    rows = await tx.fetch(QUERIES["read_memories"], project, ids)
    return {row["id"]: Memory.model_construct(**memory_fields(row)) for row in rows}


async def keep_objects(tx: Transaction, *, project: str, payloads: Sequence[Payload]) -> None:
    """The objects these payloads name belong to memories of this transaction from now on.

    Raises TryAgain where one did not arrive, or was swept because its memory was too long in coming.
    """
    keys = [payload.object_key for payload in payloads if payload.object_key is not None]
    if keys and len(await tx.fetch(QUERIES["keep_objects"], project, keys)) != len(set(keys)):
        raise TryAgain("the payload was too long on its way; send it again")


def memory_fields(row: Row) -> dict[str, Any]:
    """The fields of a contract Memory from a row of `read_memories`; the database is trusted to hold valid values."""
    return {
        **{name: row[name] for name in _PLAIN_FIELDS},
        "content": unpack(row["content"], row["content_zstd"]) if row["type"] == "PLAINTEXT" else None,
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
    return [TextToEmbed(row["id"], text, row["checksum"]) for row in rows if (text := text_of(row)) is not None]


def text_of(row: Row) -> str | None:
    """What is embedded of a memory: a text's content, of bytes the label."""
    return unpack(row["content"], row["content_zstd"]) if row["type"] == "PLAINTEXT" else row["label"]


async def save_vectors(
    tx: Transaction, *, project: str, generation: int, model: str, vectors: Sequence[NewVector], in_force: bool = False
) -> set[UUID]:
    """Keep `vectors` whose content is still the one embedded; returns the memories that are ready by it.

    in_force: only while that generation is the one that questions are compared with.
    """
    rows = await tx.fetch(
        QUERIES["save_vectors"],
        project,
        generation,
        [v.memory_id for v in vectors],
        [v.content_hash for v in vectors],
        [HalfVector(v.embedding) for v in vectors],
        model,
        in_force,
    )
    return {row["id"] for row in rows}


async def fail_embedding(
    tx: Transaction, *, project: str, memory_id: UUID, reason: str, content_hash: bytes | None = None
) -> bool:
    """Say on a memory that it will have no vector and why; False if it does not wait for one any more.

    content_hash: of the text that was refused; False where the memory says something else by now.
    """
    return await tx.fetch_value(QUERIES["fail_embedding"], project, memory_id, reason, content_hash) is not None


async def register_model(tx: Transaction, *, name: str, dimensions: int, fingerprint: str) -> int:
    """The generation number of an embedding model; the first of all is in force from then on."""
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
