"""Tasks: which memories a task read and wrote, and which tasks a memory belongs to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Literal
from urllib.parse import quote
from uuid import UUID

from memcube.linked import (
    LinkedMemory,
    LinksAnswer,
    MemoryTask,
    MemoryTasksAnswer,
    Task,
    TaskMemoriesAnswer,
    TaskMemory,
    TasksAnswer,
)
from memcube.transport import Transport

LinkRole = Literal["READ", "WRITE"]


class Tasks:
    """`client.tasks`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def link(
        self, task: str, memories: UUID | str | Sequence[UUID | str], role: LinkRole = "READ"
    ) -> list[LinkedMemory]:
        """Say that a task read these memories, 1 to 100, or wrote them; all or none. Again changes nothing.

        task: its id as its tracker knows it, 1-128 characters of A-Z, a-z, 0-9, '.', '_', ':' and '-'.
        Raises NotFound where you may not read one, NotAllowed where you may not write what should be linked as WRITE.
        """
        ids = [memories] if isinstance(memories, UUID | str) else list(memories)
        body = {"memory_ids": [str(one) for one in ids], "role": role}
        return (await self._transport.ask(LinksAnswer, "POST", _of(task), body=body)).links

    async def unlink(self, task: str, memory: UUID | str, role: LinkRole | None = None) -> None:
        """Take a memory off a task, in one role or in both. Raises NotFound, NotAllowed."""
        path = f"{_of(task)}/{UUID(str(memory))}" + (f"?role={role}" if role is not None else "")
        await self._transport.request("DELETE", path, None)

    async def memories(self, task: str, role: LinkRole | None = None) -> AsyncGenerator[TaskMemory]:
        """The memories of a task that you may read, newest memory first."""
        params = {} if role is None else {"role": role}
        while True:
            page = await self._transport.ask(TaskMemoriesAnswer, "GET", _of(task), params=params)
            for one in page.memories:
                yield one
            if page.next_cursor is None:
                return
            params = {**params, "cursor": page.next_cursor}

    async def of(self, memory: UUID | str) -> AsyncGenerator[MemoryTask]:
        """The tasks of a memory, by their ids. Raises NotFound where you may not read it."""
        params: dict[str, str] = {}
        while True:
            path = f"memories/{UUID(str(memory))}/tasks"
            page = await self._transport.ask(MemoryTasksAnswer, "GET", path, params=params)
            for one in page.tasks:
                yield one
            if page.next_cursor is None:
                return
            params = {"cursor": page.next_cursor}

    async def all(self) -> AsyncGenerator[Task]:
        """The tasks that are linked with anything you may read, by their ids."""
        params: dict[str, str] = {}
        while True:
            page = await self._transport.ask(TasksAnswer, "GET", "tasks", params=params)
            for one in page.tasks:
                yield one
            if page.next_cursor is None:
                return
            params = {"cursor": page.next_cursor}


def _of(task: str) -> str:
    return f"tasks/{quote(task, safe='')}/memories"
