"""Requests of one principal that meet share a transaction: the more come at once, the less each of them costs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import structlog

from memcube_common.db import Database, Transaction
from memcube_common.errors import MemCubeError, TryAgain
from memcube_common.security.principal import Principal
from memcube_gateway.patience import Patience

Q = TypeVar("Q")
A = TypeVar("A")

_log = structlog.get_logger(__name__)

MOST: Final = 64
AT_ONCE: Final = 4
SLOW_SECONDS: Final = 0.03
"""Who waits longer than this for those before them is not kept waiting: another transaction begins beside theirs."""
LEAST_SECONDS: Final = 0.05
"""What a question is given even where nothing is left of its patience."""

Work = Callable[[Transaction, Sequence[Q]], Awaitable[Sequence[A | MemCubeError]]]
"""Answers questions in one transaction, each with its answer or the error that is its own, in their order. What it
raises undoes them all; they are then asked one by one, so that nobody fails for a neighbour."""


@dataclass(slots=True)
class _Waiting(Generic[Q, A]):
    question: Q
    give_up: float
    answer: asyncio.Future[A]


@dataclass(slots=True)
class _Lane(Generic[Q, A]):
    """Who waits, and who serves them: each since when it is at its transaction."""

    waiting: deque[_Waiting[Q, A]] = field(default_factory=deque[_Waiting[Q, A]])
    serving: dict[asyncio.Task[None], float] = field(default_factory=dict[asyncio.Task[None], float])


class Gathering(Generic[Q, A]):
    """Questions of one kind, answered by `work`: the first at once, those that come meanwhile together in the next.

    Nobody waits for company: an idle lane answers at once. Only questions of one and the same principal meet (the same
    credential from the same address), since a transaction acts for one. One transaction a principal, and where it is
    slow (it waits for a lock, say) others beside it, `at_once` at most; no more is put into one once what is in it
    weighs `most`. weigh: how much a question weighs. apart: questions for which it says
    the same never share a transaction; None meets all. after: called when a transaction has been committed; what it
    raises is logged and nobody's error.

    Whoever asks leaves when its own patience ends, whatever the others do: a transaction lasts as long as the most
    patient in it, and those who left before theirs began are not in it.
    """

    def __init__(
        self,
        db: Database,
        work: Work[Q, A],
        *,
        apart: Callable[[Q], Hashable] = lambda _: None,
        after: Callable[[], Awaitable[None]] | None = None,
        weigh: Callable[[Q], int] = lambda _: 1,
        most: int = MOST,
        at_once: int = AT_ONCE,
    ) -> None:
        self._db = db
        self._work = work
        self._apart = apart
        self._after = after
        self._weigh = weigh
        self._most = most
        self._at_once = at_once
        self._lanes: dict[Principal, _Lane[Q, A]] = {}

    async def ask(self, principal: Principal, patience: Patience, question: Q) -> A:
        """The answer to one question, within what is left of its patience.

        Raises the error that is its own, TryAgain where Postgres is away or slower than the patience. Who leaves while
        its transaction runs does not know what became of it: its effect may stand.
        """
        loop = asyncio.get_running_loop()
        lane = self._lanes.setdefault(principal, _Lane[Q, A]())
        give_up = loop.time() + max(LEAST_SECONDS, patience.left)
        waiting = _Waiting[Q, A](question, give_up, loop.create_future())
        lane.waiting.append(waiting)
        self._serve_soon(principal, lane)
        timer = asyncio.timeout_at(give_up)
        async with patience.spent():
            try:
                async with timer:
                    return await waiting.answer  # who stops waiting, by timer or from outside, cancels it
            except TimeoutError as error:
                if not timer.expired():  # the answer itself
                    raise
                raise TryAgain("Postgres does not answer", after=1.0) from error

    def _serve_soon(self, principal: Principal, lane: _Lane[Q, A]) -> None:
        """Begin to serve who waits, unless somebody does who is not slow."""
        now = asyncio.get_running_loop().time()
        is_served = any(now - since < SLOW_SECONDS for since in lane.serving.values())
        if lane.waiting and not is_served and len(lane.serving) < self._at_once:
            lane.serving[asyncio.create_task(self._serve(principal, lane))] = now

    async def _serve(self, principal: Principal, lane: _Lane[Q, A]) -> None:
        """Answer what waits until nothing does."""
        loop = asyncio.get_running_loop()
        this = asyncio.current_task()
        assert this is not None
        try:
            while lane.waiting:
                lane.serving[this] = loop.time()
                slow = loop.call_later(SLOW_SECONDS, self._serve_soon, principal, lane)
                try:
                    await self._answer(principal, self._next(lane))
                finally:
                    slow.cancel()
        finally:
            del lane.serving[this]
            if not lane.serving and not lane.waiting:
                self._lanes.pop(principal, None)

    def _next(self, lane: _Lane[Q, A]) -> list[_Waiting[Q, A]]:
        """Those who go together now: the longest waiting first, without those that must stay apart from one of them."""
        together: list[_Waiting[Q, A]] = []
        others: list[_Waiting[Q, A]] = []
        met: set[Hashable] = set()
        weight = 0
        while lane.waiting and weight < self._most:
            one = lane.waiting.popleft()
            if one.answer.done():  # its asker has left
                continue
            mark = self._apart(one.question)
            if mark is not None and mark in met:
                others.append(one)
                continue
            met.add(mark)
            together.append(one)
            weight += self._weigh(one.question)
        lane.waiting.extendleft(reversed(others))
        return together

    async def _answer(self, principal: Principal, together: Sequence[_Waiting[Q, A]]) -> None:
        asked = _still_there(together)
        if not asked:
            return
        try:
            now = asyncio.get_running_loop().time()
            deadline = max(LEAST_SECONDS, max(one.give_up for one in asked) - now)
            async with self._db.transaction(principal, deadline=deadline, planned_once=True) as tx:
                asked = _still_there(asked)  # a connection may have been waited for
                answers = await self._work(tx, [one.question for one in asked]) if asked else ()
        except Exception as error:
            if isinstance(error, TryAgain) or len(asked) == 1:
                for one in asked:
                    _fail(one, error)
                return
        except BaseException:
            for one in asked:
                _fail(one, TryAgain("this gateway is stopping"))
            raise
        else:
            for one, answer in zip(asked, answers, strict=True):
                if isinstance(answer, MemCubeError):
                    _fail(one, answer)
                elif not one.answer.done():
                    one.answer.set_result(answer)
            if asked:
                await self._tell()
            return
        for one in asked:
            await self._answer(principal, [one])

    async def _tell(self) -> None:
        """Call `after`. Those who wait behind are not left alone for what it raises: what it tells is found anyway."""
        if self._after is None:
            return
        try:
            await self._after()
        except Exception as error:
            _log.warning("not_told_of_a_commit", error=type(error).__name__)


def _still_there(together: Sequence[_Waiting[Q, A]]) -> list[_Waiting[Q, A]]:
    """Those whose askers have not left."""
    return [one for one in together if not one.answer.done()]


def _fail(waiting: _Waiting[Q, A], error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
