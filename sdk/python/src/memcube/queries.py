"""What a query may ask, and its answer as a list that knows how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from memcube.models import Found, PartialQueryAnswer, QueryAnswer

Mode = Literal["hybrid", "semantic", "keyword"]


class QueryOptions(TypedDict, total=False):
    """Everything a query may ask; what is not given is not asked. All that is given must hold.

    text: a question or words, ≤ 8,000 characters. embedding: a vector of one's own, of the memories' model. With
    either the answer is ranked, best first; without, it is a listing. mode: hybrid (words and meaning; the default),
    semantic or keyword. similarity_threshold: least cosine similarity, 0 to 1. tags: all of them; tags_any: one at
    least; tags_none: none. label: `{"equals" | "prefix" | "contains": …}`. metadata: what it must contain. lifecycle:
    without it NEW, ACTIVE and STALE. ids: at most 200. as_of: the reader's now; memories created later are left out.
    order_by: created_at (a listing's default), updated_at, label, or relevance (the default with text). limit: 1-200,
    10 if not given. cursor: `.next_cursor` of the page before. count: also tell `.total`. fields: only these; the
    others are None.
    """

    text: str | None
    embedding: Sequence[float] | None
    mode: Mode | None
    similarity_threshold: float | None
    tags: Sequence[str] | None
    tags_any: Sequence[str] | None
    tags_none: Sequence[str] | None
    type: str | Sequence[str] | None
    priority: str | Sequence[str] | None
    lifecycle: str | Sequence[str] | None
    trust: str | Sequence[str] | None
    label: Mapping[str, str] | None
    metadata: Mapping[str, Any] | None
    created_by: str | Sequence[str] | None
    created_after: datetime | str | None
    created_before: datetime | str | None
    updated_after: datetime | str | None
    updated_before: datetime | str | None
    ids: Sequence[UUID | str] | None
    as_of: datetime | str | None
    order_by: Literal["relevance", "created_at", "updated_at", "label"] | None
    order: Literal["asc", "desc"] | None
    limit: int | None
    cursor: str | None
    count: bool | None
    fields: Sequence[str] | None


def query_body(query: Mapping[str, Any] | None, options: QueryOptions) -> dict[str, Any]:
    """The body of a query; what is given as an option wins."""
    return {**(query or {}), **{name: value for name, value in options.items() if value is not None}}


def answer_of(body: Mapping[str, Any]) -> type[QueryAnswer]:
    """How the answer to this query is read: where only some fields were asked for, the others are None."""
    return QueryAnswer if body.get("fields") is None else PartialQueryAnswer


def found_in(answer: QueryAnswer) -> Found:
    """The memories of an answer, as a list that says how it was made."""
    return Found(
        answer.memories,
        mode=answer.mode,
        degraded=answer.degraded,
        took_ms=answer.took_ms,
        next_cursor=answer.next_cursor,
        total=answer.total,
        total_is_exact=answer.total_is_exact,
    )
