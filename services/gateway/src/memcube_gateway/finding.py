"""Finding memories for whoever asks, over HTTP or NATS: one way, under the asker's own principal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, assert_never

from pydantic import TypeAdapter

from memcube_common.contracts.api import (
    FoundMemory,
    MemoryField,
    MemoryQuery,
    PartialAnswer,
    PartialMemory,
    QueryAnswer,
)
from memcube_common.errors import FieldError, Invalid, TryAgain, Unprocessable
from memcube_common.search.cursors import after_marks, after_place, read_marks, read_place
from memcube_common.search.domain import DEPTH_MAX, Blend, Place, Question, QuestionVector, mark
from memcube_common.search.store import (
    Found,
    Total,
    count_listed,
    count_ranked,
    find_generation,
    list_memories,
    list_ranked,
    search,
)
from memcube_common.search.vectors import direction
from memcube_gateway import asking, reranking

if TYPE_CHECKING:
    from memcube_common.db import Transaction
    from memcube_common.rerank.protocol import Reranker
    from memcube_common.security.principal import Principal
    from memcube_common.security.signing import Signer
    from memcube_gateway.patience import Patience
    from memcube_gateway.room import Room

Mode = Literal["hybrid", "semantic", "keyword", "recent"]
PAYLOAD: Final = frozenset({"content", "size_bytes", "token_count", "checksum"})
"""The fields that are read from what was written, and that only a reading of it tells."""

_ANSWER: Final = TypeAdapter(QueryAnswer)
_PARTIAL: Final = TypeAdapter(PartialAnswer)


@dataclass(frozen=True, slots=True)
class _Page:
    """What was found, how, and the cursor of what follows, not yet signed."""

    found: list[Found]
    mode: Mode
    total: Total | None
    following: bytes | None


async def find(query: MemoryQuery, room: Room, principal: Principal, patience: Patience) -> QueryAnswer:
    """A page of the memories that `principal` may read: with `text` or `embedding` the best, else a listing.

    Where the question cannot get a vector in time, a hybrid search is made by words only and `degraded` says so; a
    semantic one, or one with a threshold, raises TryAgain. Where the house has a reranker, the first page of a hybrid
    search is in its order; `degraded` says where it was away, and the order is the one without it. Raises Invalid for
    an embedding of a length no vectors have, and for a cursor of another query; TryAgain where Postgres is away. With
    `fields` the answer is a PartialAnswer.
    """
    started = time.perf_counter()
    signer = room.signer("cursor")
    asked = asking.query_digest(principal.project, query)
    opened = None if query.cursor is None else _opened(signer, query.cursor)
    vector, degraded = await _vector(query, room, principal, patience)
    reranker = room.reranker if _is_reranked(query) else None
    deep = query if reranker is None else query.model_copy(update={"limit": max(query.limit, reranking.DEPTH)})
    async with patience.transaction(room.db, principal) as tx:
        if query.text is None and query.embedding is None:
            page = await _listed(tx, query, principal.project, asked, opened)
        else:
            page = await _ranked(tx, deep, vector, room, asked, opened)
    if reranker is not None:
        page, why = await _reranked(page, query, reranker, patience, asked)
        degraded = "; ".join(one for one in (degraded, why) if one is not None) or None
    rest: dict[str, Any] = {
        "mode": page.mode,
        "degraded": degraded,
        "took_ms": round((time.perf_counter() - started) * 1000, 2),
        "next_cursor": None if page.following is None else signer.sign(page.following),
        "total": page.total and page.total.count,
        "total_is_exact": page.total and page.total.is_exact,
    }
    if query.fields is None:
        return QueryAnswer.model_construct(memories=[_shown(one, explain=query.explain) for one in page.found], **rest)
    return PartialAnswer.model_construct(memories=[_picked(one, query.fields) for one in page.found], **rest)


def answer_json(answer: QueryAnswer) -> bytes:
    """The answer as it is sent; of a partial one only what was asked for."""
    if isinstance(answer, PartialAnswer):
        return _PARTIAL.dump_json(answer, exclude_unset=True)
    return _ANSWER.dump_json(answer)


async def _listed(tx: Transaction, query: MemoryQuery, project: str, asked: bytes, opened: bytes | None) -> _Page:
    listing = asking.listing(query, _place(asked, opened))
    page = await list_memories(tx, project=project, listing=listing, content=_reads(query))
    total = await count_listed(tx, project=project, listing=listing) if query.count else None
    return _Page(page.found, "recent", total, page.after and after_place(asked, page.after))


async def _ordered(
    tx: Transaction, query: MemoryQuery, question: Question, asked: bytes, opened: bytes | None
) -> _Page:
    project, listing = tx.principal.project, asking.listing(query, _place(asked, opened))
    page = await list_ranked(tx, project=project, question=question, listing=listing, content=_reads(query))
    total = await count_ranked(tx, project=project, question=question) if query.count else None
    return _Page(page.found, _mode(question), total, page.after and after_place(asked, page.after))


async def _ranked(
    tx: Transaction, query: MemoryQuery, vector: QuestionVector | None, room: Room, asked: bytes, opened: bytes | None
) -> _Page:
    project = tx.principal.project
    if query.embedding is not None:
        vector = await _given_vector(tx, query.embedding)
    if query.order_by not in (None, "relevance"):
        return await _ordered(tx, query, asking.question(query, vector), asked, opened)
    seen: frozenset[bytes] | None = frozenset()
    if opened is not None and (seen := read_marks(asked, opened)) is None:
        raise _foreign()
    question = asking.question(query, vector, seen)
    page = await search(tx, project=project, question=question, sizes=room.sizes, content=_reads(query))
    total = await count_ranked(tx, project=project, question=question) if query.count else None
    shown = seen | {mark(one.fields["id"]) for one in page.found} if page.more else seen
    following = after_marks(asked, shown) if page.more and len(shown) < DEPTH_MAX else None
    return _Page(page.found, _mode(question), total, following)


async def _reranked(
    page: _Page, query: MemoryQuery, reranker: Reranker, patience: Patience, asked: bytes
) -> tuple[_Page, str | None]:
    """A first page that was read deeper than asked for: reranked, then cut, and why it was not reranked."""
    found, why = await reranking.rerank(page.found, text=query.text or "", reranker=reranker, patience=patience)
    shown = found[: query.limit]
    is_end = page.following is None and len(shown) == len(found)
    following = None if is_end else after_marks(asked, frozenset(mark(one.fields["id"]) for one in shown))
    return replace(page, found=shown, following=following), why


async def _vector(
    query: MemoryQuery, room: Room, principal: Principal, patience: Patience
) -> tuple[QuestionVector | None, str | None]:
    """The question's vector where the search needs one made, else why there is none."""
    if query.text is None or query.embedding is not None or query.mode == "keyword":
        return None, None
    try:
        async with patience.spent():
            text = query.text
            if "names" not in query.without:
                text = await room.names.bare(
                    text,
                    lambda: patience.transaction(room.db, principal),
                    project=principal.project,
                    role=principal.role,
                )
            return await room.embedding.vector(text), None
    except (TryAgain, Unprocessable) as error:
        if query.mode == "semantic" or query.similarity_threshold is not None:
            raise
        return None, f"searched by words only: {error.detail}"


async def _given_vector(tx: Transaction, embedding: Sequence[float]) -> QuestionVector:
    generation = await find_generation(tx, dimensions=len(embedding))
    if generation is None:
        raise Invalid(errors=[FieldError("embedding", "no memory has a vector of so many numbers")])
    return QuestionVector(generation, len(embedding), direction(embedding))


def _opened(signer: Signer, cursor: str) -> bytes:
    opened = signer.open(cursor)
    if opened is None:
        raise _foreign()
    return opened


def _place(asked: bytes, opened: bytes | None) -> Place | None:
    place = None if opened is None else read_place(asked, opened)
    if opened is not None and place is None:
        raise _foreign()
    return place


def _foreign() -> Invalid:
    return Invalid(errors=[FieldError("cursor", "must be the next_cursor of the same query in the same project")])


def _reads(query: MemoryQuery) -> bool:
    return query.fields is None or not PAYLOAD.isdisjoint(query.fields)


def _is_reranked(query: MemoryQuery) -> bool:
    """Whether it asks for the first page of what is best by words and meaning, and for what was written."""
    by_relevance = query.order_by in (None, "relevance") and query.mode == "hybrid" and query.text is not None
    return by_relevance and query.cursor is None and "rerank" not in query.without and _reads(query)


def _mode(question: Question) -> Mode:
    match question.blend:
        case Blend.HYBRID:
            return "hybrid"
        case Blend.SEMANTIC:
            return "semantic"
        case Blend.KEYWORD:
            return "keyword"
        case _:
            assert_never(question.blend)


def _shown(found: Found, *, explain: bool) -> FoundMemory:
    return FoundMemory.model_construct(
        **found.fields,
        score=found.score,
        text_score=found.text_score,
        similarity=found.similarity,
        score_parts=found.parts if explain else None,
    )


def _picked(found: Found, names: Sequence[MemoryField]) -> PartialMemory:
    known: dict[str, Any] = {
        **found.fields,
        "score": found.score,
        "text_score": found.text_score,
        "similarity": found.similarity,
        "score_parts": found.parts,
    }
    return PartialMemory.model_construct(None, **{name: known[name] for name in ("id", *names)})
