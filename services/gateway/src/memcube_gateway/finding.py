"""Finding memories for whoever asks, over HTTP or NATS: one way, under the asker's own principal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, assert_never

from memcube_common.contracts.api import FoundMemory, MemoryQuery, QueryAnswer
from memcube_common.errors import TryAgain, Unprocessable
from memcube_common.search.domain import Blend, Question, QuestionVector
from memcube_common.search.store import Found, newest, search
from memcube_gateway import domain

if TYPE_CHECKING:
    from memcube_common.security.principal import Principal
    from memcube_gateway.admission import Patience
    from memcube_gateway.room import Room

Mode = Literal["hybrid", "semantic", "keyword", "recent"]


async def find(query: MemoryQuery, room: Room, principal: Principal, patience: Patience) -> QueryAnswer:
    """The best memories that `principal` may read, best first. Without `text`, the newest that carry the tags.

    Where the question cannot get a vector in time, a hybrid search is made by words only and `degraded` says so; a
    semantic one raises TryAgain. Raises TryAgain where Postgres is away.
    """
    started = time.perf_counter()
    vector, degraded = await _vector(query, room, patience)
    question = domain.question(query, vector)
    project = principal.project
    async with patience.transaction(room.db, principal) as tx:
        if query.text is None:
            found = await newest(tx, project=project, tags=query.tags, limit=query.limit, as_of=query.as_of)
        else:
            found = await search(tx, project=project, question=question, sizes=room.sizes)
    return QueryAnswer.model_construct(
        memories=[_shown(one) for one in found],
        mode=_mode(query, question),
        degraded=degraded,
        took_ms=round((time.perf_counter() - started) * 1000, 2),
    )


async def _vector(query: MemoryQuery, room: Room, patience: Patience) -> tuple[QuestionVector | None, str | None]:
    """The question's vector where the search needs one, else why there is none."""
    if query.text is None or query.mode == "keyword":
        return None, None
    try:
        async with patience.spent():
            return await room.embedding.vector(query.text), None
    except (TryAgain, Unprocessable) as error:
        if query.mode == "semantic":
            raise
        return None, f"searched by words only: {error.detail}"


def _mode(query: MemoryQuery, question: Question) -> Mode:
    if query.text is None:
        return "recent"
    match question.blend:
        case Blend.HYBRID:
            return "hybrid"
        case Blend.SEMANTIC:
            return "semantic"
        case Blend.KEYWORD:
            return "keyword"
        case _:
            assert_never(question.blend)


def _shown(found: Found) -> FoundMemory:
    return FoundMemory.model_construct(
        **found.fields, score=found.score, text_score=found.text_score, similarity=found.similarity
    )
