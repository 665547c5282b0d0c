"""Memories: read one, find many, bring in those that existed elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from memcube.models import Found, ImportAnswer, ImportResult, Memory, QueryAnswer
from memcube.transport import Transport


class Memories:
    """`client.memories`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, id: UUID | str) -> Memory:
        """The memory with its content. Raises NotFound where there is none you may see."""
        return await self._transport.ask(Memory, "GET", f"memories/{UUID(str(id))}")

    async def query(
        self,
        query: Mapping[str, Any] | None = None,
        *,
        text: str | None = None,
        tags: Sequence[str] | None = None,
        mode: Literal["hybrid", "semantic", "keyword"] | None = None,
        limit: int | None = None,
        as_of: datetime | str | None = None,
    ) -> Found:
        """Find memories, best first: `query({"tags": ["python"], "limit": 10})` or the same as arguments.

        text: a question or words, ≤ 8,000 characters; without it the newest memories come first. tags: only
        memories that carry all of them. mode: hybrid (words and meaning; the default), semantic or keyword.
        limit: 1-200, 10 if not given. as_of: the reader's now; memories created later are left out.

        Returns a list of memories, each with a `score`; `.degraded` says why less than asked was searched, if so.
        Raises Invalid for a query outside these limits.
        """
        given = {
            "text": text,
            "tags": None if tags is None else list(tags),
            "mode": mode,
            "limit": limit,
            "as_of": as_of,
        }
        body = dict(query or {}) | {name: value for name, value in given.items() if value is not None}
        answer = await self._transport.ask(QueryAnswer, "POST", "memories/query", body=body)
        return Found(answer.memories, mode=answer.mode, degraded=answer.degraded, took_ms=answer.took_ms)

    async def import_many(self, memories: Iterable[Mapping[str, Any]]) -> list[ImportResult]:
        """Bring in 1 to 500 memories that existed elsewhere, together or not at all; results in the order given.

        Each has `id` (1-200 characters: its id where it comes from) and `content`, and may have `label`, `tags`,
        `created_at` (with a time zone), `created_by`, `priority`, `governance`, `metadata`. Importing the same id
        again changes nothing. Raises Invalid with the fields refused.
        """
        body = {"memories": [dict(memory) for memory in memories]}
        return (await self._transport.ask(ImportAnswer, "POST", "memories/import", body=body)).results
