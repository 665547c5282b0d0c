"""What tasks and chains answer: which memories a task read and wrote, and memories in an order of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from memcube.models import Answer, Memory


class Link(Answer):
    """How a task and a memory belong together: role READ or WRITE, by whom, since when."""

    role: str
    created_by: str
    created_at: datetime


class LinkedMemory(Answer):
    """A memory of a task after linking. created: false where it was linked already."""

    memory_id: UUID
    role: str
    created: bool


class TaskMemory(Answer):
    """A memory of a task, and its links with it."""

    memory: Memory
    links: list[Link]


class MemoryTask(Answer):
    """A task of a memory, and its links with it."""

    task_id: str
    links: list[Link]


class Task(Answer):
    """A task, and how many memories it read and wrote, of those you may read."""

    task_id: str
    reads: int
    writes: int
    linked_at: datetime


class Chain(Answer):
    """Memories in an order of their own. length: how many of them you may read. version: for changes meant for it."""

    id: UUID
    project_id: str
    name: str
    description: str | None = None
    governance: dict[str, Any] = {}
    version: int
    length: int
    created_by: str
    created_at: datetime
    updated_at: datetime


class OrderedChain(Chain):
    """A chain with the ids of its memories, in order."""

    memory_ids: list[UUID]


class ChainItem(Answer):
    """A memory at its place in a chain, counted from 1. Of `memory` only `id` and the fields asked for are sure."""

    position: int
    added_by: str
    added_at: datetime
    memory: dict[str, Any]


class ChainReading(Chain):
    """A chain as far as budget and limit reach. left_out: how many follow; next_position: where to read on."""

    items: list[ChainItem]
    token_count: int
    left_out: int
    next_position: int | None = None


class LinksAnswer(Answer):
    """The wire form of links that were made."""

    links: list[LinkedMemory]


class TaskMemoriesAnswer(Answer):
    """The wire form of a page of a task's memories."""

    memories: list[TaskMemory]
    next_cursor: str | None = None


class MemoryTasksAnswer(Answer):
    """The wire form of a page of a memory's tasks."""

    tasks: list[MemoryTask]
    next_cursor: str | None = None


class TasksAnswer(Answer):
    """The wire form of a page of tasks."""

    tasks: list[Task]
    next_cursor: str | None = None


class ChainsAnswer(Answer):
    """The wire form of a page of chains."""

    chains: list[Chain]
    next_cursor: str | None = None
