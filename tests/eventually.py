"""Waiting for something to become so: looks again and again until a deadline, and fails with what it last saw."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")


async def eventually(
    check: Callable[[], T] | Callable[[], Awaitable[T]], *, within: float = 10.0, every: float = 0.02
) -> T:
    """The first truthy value of `check`, asked every `every` seconds for at most `within` seconds.

    `check` may be async; an assertion that fails inside it counts as not yet. Raises AssertionError.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        failed: AssertionError | None = None
        seen: object = None
        try:
            answer = check()
            seen = await cast("Awaitable[object]", answer) if inspect.isawaitable(answer) else answer
        except AssertionError as error:
            failed = error
        if failed is None and seen:
            return cast("T", seen)
        if loop.time() > deadline:
            raise AssertionError(f"not within {within} s; last: {failed or seen!r}")
        await asyncio.sleep(every)


async def stopped(task: asyncio.Task[Any]) -> None:
    """Cancel `task` until it has ended: before Python 3.12 a library's wait_for may swallow one cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
    await asyncio.gather(task, return_exceptions=True)
