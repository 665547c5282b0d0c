"""Tasks over HTTP: which memories a task read and wrote, and which tasks a memory belongs to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts import subjects
from memcube_common.contracts.links import (
    LinkedMemories,
    LinkedMemory,
    LinkRole,
    MemoryTasks,
    TaskLinking,
    TaskMemories,
    TaskMemory,
    Tasks,
)
from memcube_common.db import Transaction
from memcube_common.errors import FieldError, NotAllowed, NotFound
from memcube_common.governance.domain import WRITERS
from memcube_common.ids import TASK_PATTERN
from memcube_common.links import store
from memcube_common.memories.store import read_memories
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.cursors import Cursor, PageSize, cursor_for, id_in, key_in
from memcube_gateway.routes.door import InVisit
from memcube_gateway.routes.once import JSON, once

router = APIRouter(tags=["tasks"])

TaskPath = Annotated[
    str,
    Path(
        description="The task's id as its tracker knows it, 1-128 characters.",
        pattern=TASK_PATTERN,
        examples=["TASK-123"],
    ),
]
RoleQuery = Annotated[LinkRole | None, Query(description="READ or WRITE; both where it is not said.")]

_LINKING: Final = TypeAdapter(TaskLinking)
_LINKED: Final = TypeAdapter(LinkedMemories)
_MEMORIES: Final = TypeAdapter(TaskMemories)
_MEMORY_TASKS: Final = TypeAdapter(MemoryTasks)
_TASKS: Final = TypeAdapter(Tasks)


@router.get(
    "/v1/projects/{project}/tasks",
    operation_id="list_tasks",
    summary="List tasks and how many memories they read and wrote",
    response_model=Tasks,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_tasks(visit: InVisit, cursor: Cursor = None, limit: PageSize = 50) -> Response:
    """By their ids. Only what you may read counts; a task that is linked with nothing of it is not there."""
    after = key_in(visit, "tasks", cursor)
    async with visit.transaction() as tx:
        tasks = await store.read_tasks(tx, after=after or "", at_most=limit + 1)
    following = cursor_for(visit, "tasks", tasks[limit - 1].task_id) if len(tasks) > limit else None
    return Response(
        _TASKS.dump_json(Tasks.model_construct(tasks=tasks[:limit], next_cursor=following)), media_type=JSON
    )


@router.get(
    "/v1/projects/{project}/tasks/{task}/memories",
    operation_id="list_task_memories",
    summary="Read the memories that a task read or wrote",
    response_model=TaskMemories,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_task_memories(
    visit: InVisit, task: TaskPath, role: RoleQuery = None, cursor: Cursor = None, limit: PageSize = 50
) -> Response:
    """Those you may read, newest memory first. A task that nobody linked has none."""
    listing = f"tasks/{task}/{role or 'all'}"
    below = id_in(visit, listing, cursor)
    async with visit.transaction() as tx:
        links = await store.read_task_memories(tx, task=task, role=role, below=below, at_most=limit + 1)
        page = list(links)[:limit]
        memories = await read_memories(tx, project=visit.project, ids=page)
    shown = [
        TaskMemory.model_construct(memory=memories[memory], links=links[memory])
        for memory in page
        if memory in memories
    ]
    following = cursor_for(visit, listing, str(page[-1])) if len(links) > limit else None
    answer = TaskMemories.model_construct(task_id=task, memories=shown, next_cursor=following)
    return Response(_MEMORIES.dump_json(answer), media_type=JSON)


@router.get(
    "/v1/projects/{project}/memories/{memory_id}/tasks",
    operation_id="list_memory_tasks",
    summary="List the tasks that read or wrote a memory",
    response_model=MemoryTasks,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def list_memory_tasks(
    visit: InVisit,
    memory_id: Annotated[UUID, Path(description="Id of the memory.")],
    cursor: Cursor = None,
    limit: PageSize = 50,
) -> Response:
    """By their ids. A memory that you may not read answers like one that does not exist."""
    listing = f"memory-tasks/{memory_id}"
    after = key_in(visit, listing, cursor)
    async with visit.transaction() as tx:
        if not await store.readable(tx, project=visit.project, ids=[memory_id]):
            raise NotFound
        tasks = await store.read_memory_tasks(tx, memory_id=memory_id, after=after or "", at_most=limit + 1)
    following = cursor_for(visit, listing, tasks[limit - 1].task_id) if len(tasks) > limit else None
    answer = MemoryTasks.model_construct(memory_id=memory_id, tasks=tasks[:limit], next_cursor=following)
    return Response(_MEMORY_TASKS.dump_json(answer), media_type=JSON)


@router.post(
    "/v1/projects/{project}/tasks/{task}/memories",
    operation_id="link_task_memories",
    summary="Link memories to a task, as read or as written",
    response_model=LinkedMemories,
    responses=reference.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=reference.takes(
        (TaskLinking,),
        {
            "read": {"memory_id": "019a5f00-0000-7000-8000-0000000000b2"},
            "written": {"memory_ids": ["019a5f00-0000-7000-8000-0000000000b2"], "role": "WRITE"},
        },
    ),
)
async def link_task_memories(request: Request, visit: InVisit, task: TaskPath) -> Response:
    """All of them or none; linking again changes nothing. READ: what you may read. WRITE: what you may write.

    A memory that you may not read answers like one that does not exist, and `errors` says which. For MEMBERs, AGENTs
    and those above: a VIEWER reads links and makes none.
    """
    body = await read_body(request, visit)
    given = parse(_LINKING, body)
    _must_write(visit.caller.role)

    async def link(tx: Transaction) -> tuple[int, bytes]:
        met = await store.link_memories(tx, task=task, role=given.role, ids=given.ids)
        must_all_be_there(given.memory_ids or given.ids, met, field="memory_ids" if given.memory_ids else "memory_id")
        links = [
            LinkedMemory.model_construct(memory_id=memory, role=given.role, created=met[memory]) for memory in given.ids
        ]
        return 200, _LINKED.dump_json(LinkedMemories.model_construct(task_id=task, links=links))

    answered = await once(visit, f"POST /v1/projects/{{project}}/tasks/{task}/memories", body, link)
    if not answered.repeated:
        await visit.room.bus.ring(subjects.BELL_CHANGES)
    return answered.response()


@router.delete(
    "/v1/projects/{project}/tasks/{task}/memories/{memory_id}",
    operation_id="unlink_task_memory",
    summary="Take a memory off a task",
    status_code=204,
    response_class=Response,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def unlink_task_memory(
    visit: InVisit,
    task: TaskPath,
    memory_id: Annotated[UUID, Path(description="Id of the memory.")],
    role: RoleQuery = None,
) -> Response:
    """In one role, or in both where none is said, under the rule by which it is linked; the memory stays."""
    _must_write(visit.caller.role)
    async with visit.transaction() as tx:
        await store.unlink_memory(tx, task=task, memory_id=memory_id, role=role)
    await visit.room.bus.ring(subjects.BELL_CHANGES)
    return Response(status_code=204)


def must_all_be_there(ids: Sequence[UUID], there: Collection[UUID], *, field: str) -> None:
    """Raises NotFound where one of `ids` is not `there`, with its place in `field`: hidden and absent alike."""
    missing = [place for place, one in enumerate(ids) if one not in there]
    if missing:
        said = "there is nothing here that you may see"
        raise NotFound(
            errors=[FieldError(f"{field}.{place}" if field.endswith("s") else field, said) for place in missing]
        )


def _must_write(role: str) -> None:
    if role not in WRITERS:
        raise NotAllowed("A VIEWER reads links and makes none.")
