"""Memories: read one, find many, bring in those that existed elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Unpack
from uuid import UUID

from memcube.bodies import new_id
from memcube.history import History
from memcube.models import (
    BatchAnswer,
    BatchResult,
    Found,
    FoundMemory,
    ImportAnswer,
    ImportResult,
    Memory,
    PurgedAnswer,
)
from memcube.payloads import Payloads
from memcube.queries import QueryOptions, answer_of, found_in, query_body
from memcube.scheduled import Schedule
from memcube.schedules import ScheduleOptions, Schedules, schedule_body
from memcube.synthesis import Synthesis
from memcube.transport import Transport


class Memories:
    """`client.memories`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.history = History(transport)
        self.payloads = Payloads(transport)
        self.upload = self.payloads.upload
        self.download = self.payloads.download
        self.synthesize = Synthesis(transport).synthesize
        self._make_schedule = Schedules(transport).make

    async def create(
        self,
        memory: str | Mapping[str, Any],
        *,
        id: UUID | str | None = None,
        label: str | None = None,
        tags: Sequence[str] | None = None,
        governance: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: str | None = None,
        parents: Sequence[UUID | str] | None = None,
    ) -> Memory:
        """Make a memory of text: its content (1 byte to 64 KiB of UTF-8), or a mapping of the same fields.

        `create({"label": "python-pattern", "content": "Always use type hints", "type": "PLAINTEXT"})`. id: a UUIDv7,
        made here if not given. parents: what it was derived from; its governance is at least as strict as theirs.
        Durable when this returns. Raises Invalid with the fields refused, Conflict where the id is taken, NotAllowed.
        """
        body: dict[str, Any] = dict(memory) if isinstance(memory, Mapping) else {"content": memory}
        given = {
            "id": id,
            "label": label,
            "tags": None if tags is None else list(tags),
            "governance": governance,
            "metadata": metadata,
            "priority": priority,
            "parents": None if parents is None else [str(parent) for parent in parents],
        }
        body |= {name: value for name, value in given.items() if value is not None}
        body.setdefault("id", new_id())
        return await self._transport.ask(Memory, "POST", "memories", body=body)

    async def create_many(
        self, memories: Iterable[str | Mapping[str, Any]], *, atomic: bool = True
    ) -> list[BatchResult]:
        """Make 1 to 500 memories: all or none, or (`atomic=False`) each for itself; results in the order given."""
        made = [dict(one) if isinstance(one, Mapping) else {"content": one} for one in memories]
        body = {"memories": [{"id": new_id(), **one} for one in made], "atomic": atomic}
        return (await self._transport.ask(BatchAnswer, "POST", "memories/batch", body=body)).results

    async def update(
        self, id: UUID | str, change: Mapping[str, Any] | None = None, *, version: int | None = None, **fields: Any
    ) -> Memory:
        """Change content, label, tags, metadata, governance, priority or kv_hint: the memory's next version.

        version: the one this is meant for, `memory.version` as you read it; VersionMismatch where another is in force.
        """
        body = {**(change or {}), **fields}
        return await self._transport.ask(Memory, "PATCH", f"memories/{UUID(str(id))}", body=body, version=version)

    async def archive(self, id: UUID | str, *, version: int | None = None) -> Memory:
        """Put it away: kept and read by its id, no longer found unless asked for."""
        return await self._transport.ask(Memory, "POST", f"memories/{UUID(str(id))}/archive", version=version)

    async def restore(self, id: UUID | str, *, version: int | None = None) -> Memory:
        """Take it back after it was put away or expired."""
        return await self._transport.ask(Memory, "POST", f"memories/{UUID(str(id))}/restore", version=version)

    async def purge(self, id: UUID | str, *, descendants: bool = False, version: int | None = None) -> list[UUID]:
        """End it for good, with every version; with `descendants` also all that was derived from it. What ended."""
        params = {"descendants": "true"} if descendants else None
        path = f"memories/{UUID(str(id))}"
        return (await self._transport.ask(PurgedAnswer, "DELETE", path, params=params, version=version)).purged

    async def get(self, id: UUID | str) -> Memory:
        """The memory with its content. Raises NotFound where there is none you may see."""
        return await self._transport.ask(Memory, "GET", f"memories/{UUID(str(id))}")

    async def query(self, query: Mapping[str, Any] | None = None, **options: Unpack[QueryOptions]) -> Found:
        """Find memories: `query({"tags": ["python"], "limit": 10})` or the same as arguments; see `QueryOptions`.

        With `text` or `embedding` the best come first; without, the newest, or as `order_by` says. Returns a page: a
        list of memories, each with a `score`; `.next_cursor` is where the next one begins, `.degraded` says why less
        than asked was searched, if so. Raises Invalid for what is outside the limits or contradicts itself.
        """
        body = query_body(query, options)
        return found_in(await self._transport.ask(answer_of(body), "POST", "memories/query", body=body))

    async def query_all(
        self, query: Mapping[str, Any] | None = None, **options: Unpack[QueryOptions]
    ) -> AsyncGenerator[FoundMemory]:
        """Everything that is found, page after page: `async for memory in client.memories.query_all(order_by="label")`.

        `limit` is the size of a page (100 if not given). Of a listing every memory comes once, whatever is added
        meanwhile; a ranked answer ends after 1,000. Raises as `query` does.
        """
        body = {"limit": 100, **query_body(query, options)}
        while True:
            page = await self.query(body)
            for memory in page:
                yield memory
            if page.next_cursor is None:
                return
            body["cursor"] = page.next_cursor

    async def schedule(self, request: Mapping[str, Any] | None = None, **options: Unpack[ScheduleOptions]) -> Schedule:
        """Have memories chosen for an agent inside its budget: `schedule({"agent_id": "bot-001", "text": "…"})`.

        Or the same as arguments; see `ScheduleOptions`. `.prompt` goes before the agent's own prompt, `.memories` says
        what is in it. What is chosen is recorded (`client.schedules`); tried again after an answer was lost, it may be
        recorded twice. Raises Invalid with the fields refused, Unavailable or Unreachable when patience ends.
        """
        return await self._make_schedule(schedule_body(request, options))

    async def import_many(self, memories: Iterable[Mapping[str, Any]]) -> list[ImportResult]:
        """Bring in 1 to 500 memories that existed elsewhere, together or not at all; results in the order given.

        Each has `id` (1-200 characters: its id where it comes from) and `content`, and may have `label`, `tags`,
        `created_at` (with a time zone), `created_by`, `priority`, `governance`, `metadata`. Importing the same id
        again changes nothing. Raises Invalid with the fields refused.
        """
        body = {"memories": [dict(memory) for memory in memories]}
        return (await self._transport.ask(ImportAnswer, "POST", "memories/import", body=body)).results
