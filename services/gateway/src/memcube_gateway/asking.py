"""What a query asks, in the terms of search: pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import orjson

from memcube_common.contracts.api import MemoryQuery
from memcube_common.search.cursors import DIGEST
from memcube_common.search.domain import DEPTH_MAX, LIVE, Filters, Listing, Place, Question, QuestionVector

T = TypeVar("T")


def question(query: MemoryQuery, vector: QuestionVector | None, seen: frozenset[bytes] = frozenset()) -> Question:
    """What to search with: without a vector only the words, in semantic mode only the vector.

    seen: marks of what earlier pages showed; together with them the answer has 1,000 memories at most.
    """
    return Question(
        text=None if query.mode == "semantic" and vector is not None else query.text,
        limit=min(query.limit, DEPTH_MAX - len(seen)),
        vector=vector,
        filters=filters(query),
        floor=query.similarity_threshold,
        seen=seen,
        now=query.as_of,
        without=frozenset(query.without),
    )


def listing(query: MemoryQuery, after: Place | None) -> Listing:
    """A page of the listing that is asked for, behind `after`."""
    by = "created_at" if query.order_by in (None, "relevance") else query.order_by
    down = by != "label" if query.order is None else query.order == "desc"
    return Listing(by=by, down=down, limit=query.limit, filters=filters(query), after=after)


def filters(query: MemoryQuery) -> Filters:
    """Everything that is asked besides words, meaning and order."""
    label = query.label
    return Filters(
        lifecycles=LIVE if query.lifecycle is None else tuple(query.lifecycle),
        tags_all=tuple(query.tags) or None,
        tags_any=tuple(query.tags_any) or None,
        tags_none=tuple(query.tags_none) or None,
        types=_tuple(query.type),
        priorities=_tuple(query.priority),
        trusts=_tuple(query.trust),
        label_is=label and label.equals,
        label_prefix=label and label.prefix,
        label_contains=label and label.contains,
        metadata=orjson.dumps(query.metadata).decode() if query.metadata else None,
        makers=_tuple(query.created_by),
        created_after=query.created_after,
        created_before=query.created_before,
        updated_after=query.updated_after,
        updated_before=query.updated_before,
        as_of=query.as_of,
        ids=_tuple(query.ids),
    )


def _tuple(values: Sequence[T] | None) -> tuple[T, ...] | None:
    return None if values is None else tuple(values)


def query_digest(project: str, query: MemoryQuery) -> bytes:
    """What tells one query from another where they are paged: 16 bytes of all that decides about the order."""
    asked = query.model_dump_json(exclude={"cursor", "limit", "count", "fields", "explain"}, exclude_defaults=True)
    return hashlib.blake2b(f"{project}\n{asked}".encode(), digest_size=DIGEST).digest()
