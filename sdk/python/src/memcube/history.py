"""The past of memories: versions, what differs between them, what happened, where they come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from uuid import UUID

from memcube.models import (
    DiffAnswer,
    EventsAnswer,
    Lineage,
    Memory,
    MemoryEvent,
    Version,
    VersionChange,
    VersionsAnswer,
)
from memcube.transport import Transport


class History:
    """`client.memories.history`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def versions(self, id: UUID | str) -> AsyncGenerator[Version]:
        """Every version, newest first, asked for page by page. Raises NotFound where there is none you may see."""
        before: int | None = None
        while True:
            params = {"limit": "200", **({} if before is None else {"before": str(before)})}
            page = await self._transport.ask(VersionsAnswer, "GET", f"{_path(id)}/versions", params=params)
            for version in page.versions:
                yield version
            if page.next_before is None:
                return
            before = page.next_before

    async def version(self, id: UUID | str, number: int) -> Version:
        """One version with its content."""
        return await self._transport.ask(Version, "GET", f"{_path(id)}/versions/{int(number)}")

    async def diff(self, id: UUID | str, before: int, after: int) -> list[VersionChange]:
        """What differs between two versions, field by field."""
        params = {"before": str(int(before)), "after": str(int(after))}
        return (await self._transport.ask(DiffAnswer, "GET", f"{_path(id)}/diff", params=params)).changes

    async def restore(self, id: UUID | str, number: int, *, version: int | None = None) -> Memory:
        """Put an earlier version in force again, as a new one; governance and lifecycle stay as they are.

        version: the one that has to be in force; VersionMismatch where it is not.
        """
        path = f"{_path(id)}/versions/{int(number)}/restore"
        return await self._transport.ask(Memory, "POST", path, version=version)

    async def events(self, id: UUID | str) -> AsyncGenerator[MemoryEvent]:
        """The audit trail, newest first, also of what was purged; for OWNER, ADMIN and SERVICE."""
        before: int | None = None
        while True:
            params = {"limit": "200", **({} if before is None else {"before": str(before)})}
            page = await self._transport.ask(EventsAnswer, "GET", f"{_path(id)}/events", params=params)
            for event in page.events:
                yield event
            if page.next_before is None:
                return
            before = page.next_before

    async def lineage(self, id: UUID | str, *, steps: int = 64) -> Lineage:
        """What it was derived from and what was derived from it, `steps` far (1-64), as far as you may see."""
        return await self._transport.ask(Lineage, "GET", f"{_path(id)}/lineage", params={"steps": str(int(steps))})


def _path(id: UUID | str) -> str:
    return f"memories/{UUID(str(id))}"
