"""Requests that meet share a transaction, and nobody fails, waits or is answered for a neighbour."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import pytest
import structlog
from tests.eventually import eventually

from memcube_common.db import Database, Transaction
from memcube_common.errors import Conflict, MemCubeError, NotFound, TryAgain
from memcube_common.security.principal import Principal
from memcube_gateway.gathering import Gathering
from memcube_gateway.patience import Patience

ADA = Principal.user("demo", "ada", "AGENT")
BO = Principal.user("demo", "bo", "AGENT")


class Counted:
    """A database whose transactions are counted, and which lets none begin until it is open."""

    def __init__(self) -> None:
        self.principals: list[Principal] = []
        self.open = asyncio.Event()
        self.away = False

    @contextlib.asynccontextmanager
    async def transaction(self, principal: Principal, **asked: Any) -> AsyncGenerator[Any]:
        try:
            async with asyncio.timeout(asked["deadline"]):
                await self.open.wait()
        except TimeoutError:
            raise TryAgain("away") from None
        if self.away:
            raise TryAgain("away")
        self.principals.append(principal)
        yield None


def gathering(database: Counted, **more: Any) -> Gathering[int, int]:
    """Doubles numbers; 13 is not there, 7 undoes everybody."""

    async def double(_: Transaction, asked: Sequence[int]) -> list[int | MemCubeError]:
        await asyncio.sleep(0)
        if 7 in asked:
            raise Conflict
        return [NotFound() if one == 13 else 2 * one for one in asked]

    return Gathering[int, int](cast("Database", database), double, **more)


async def ask(gathered: Gathering[int, int], *numbers: int, by: Principal = ADA, seconds: float = 5.0) -> list[Any]:
    """What each is answered, errors as values."""
    asked = [gathered.ask(by, Patience(seconds), number) for number in numbers]
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_what_comes_while_the_first_are_on_their_way_goes_together() -> None:
    database = Counted()
    database.open.set()
    rung = 0

    async def ring() -> None:
        nonlocal rung
        rung += 1

    gathered = gathering(database, at_once=1, after=ring)
    assert await ask(gathered, *range(20, 40)) == [2 * n for n in range(20, 40)]
    assert len(database.principals) == rung == 1
    assert await ask(gathered, 1) == [2]
    assert len(database.principals) == 2


async def test_principals_never_share_a_transaction() -> None:
    database = Counted()
    database.open.set()
    gathered = gathering(database)
    await asyncio.gather(ask(gathered, 1, 2, 3), ask(gathered, 4, 5, by=BO))
    assert sorted({p.name for p in database.principals}) == ["ada", "bo"]
    assert len(database.principals) <= 4


async def test_an_error_is_its_own_and_what_undoes_all_is_asked_one_by_one() -> None:
    database = Counted()
    database.open.set()
    gathered = gathering(database, at_once=1)
    answers = await ask(gathered, 1, 13, 2)
    assert (answers[0], type(answers[1]), answers[2]) == (2, NotFound, 4)
    answers = await ask(gathered, 1, 7, 13, 2)
    assert [type(answer) if isinstance(answer, Exception) else answer for answer in answers] == [
        2,
        Conflict,
        NotFound,
        4,
    ]


async def test_what_must_stay_apart_never_meets() -> None:
    met: list[Sequence[int]] = []

    async def note(_: Transaction, asked: Sequence[int]) -> list[int | MemCubeError]:
        met.append(asked)
        return list(asked)

    database = Counted()
    database.open.set()
    gathered = Gathering[int, int](cast("Database", database), note, apart=lambda n: n % 2, at_once=1)
    assert await ask(gathered, 1, 3, 2, 5) == [1, 3, 2, 5]
    assert all(len({n % 2 for n in group}) == len(group) for group in met)


async def test_nobody_waits_longer_than_its_patience_even_behind_others() -> None:
    database = Counted()
    gathered = gathering(database, at_once=1, most=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = await ask(gathered, 1, 2, 3, seconds=0.2)
    assert [type(answer) for answer in answers] == [TryAgain] * 3
    assert loop.time() - began < 1.0
    database.open.set()
    assert await ask(gathered, 4) == [8]


async def test_one_who_leaves_is_not_answered_and_the_others_are() -> None:
    database = Counted()
    gathered = gathering(database, at_once=1)
    first = asyncio.create_task(gathered.ask(ADA, Patience(5), 1))
    await asyncio.sleep(0)
    leaving = asyncio.create_task(gathered.ask(ADA, Patience(5), 2))
    staying = asyncio.create_task(gathered.ask(ADA, Patience(5), 3))
    await asyncio.sleep(0)
    leaving.cancel()
    database.open.set()
    assert (await first, await staying) == (2, 6)
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_while_the_database_is_away_everybody_hears_it_once() -> None:
    database = Counted()
    database.open.set()
    database.away = True
    answers = await ask(gathering(database, at_once=1), 1, 2, 3)
    assert [type(answer) for answer in answers] == [TryAgain] * 3
    assert database.principals == []


class Held:
    """Work that answers what it was asked, as often as it may; 7 undoes everybody."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may = asyncio.Semaphore(0)

    async def __call__(self, _: Transaction, asked: Sequence[int]) -> list[int | MemCubeError]:
        self.groups.append(list(asked))
        await self.may.acquire()
        if 7 in asked:
            raise Conflict
        return list(asked)

    def let(self, groups: int) -> None:
        """Let so many transactions end."""
        for _ in range(groups):
            self.may.release()

    async def begun(self, groups: int) -> None:
        """Return once so many transactions have got as far as their work."""
        await eventually(lambda: len(self.groups) == groups, within=2, every=0.001)


def held(database: Counted, **more: Any) -> tuple[Held, Gathering[int, int]]:
    """Work that waits, one transaction at a time."""
    work = Held()
    return work, Gathering[int, int](cast("Database", database), work, at_once=1, **more)


def last_digit(number: int) -> int:
    """What may not meet: two that end alike."""
    return number % 10


def asking(gathered: Gathering[int, int], number: int, seconds: float = 5.0) -> asyncio.Task[int]:
    """One who asks; it has taken its place once the loop has turned."""
    return asyncio.create_task(gathered.ask(ADA, Patience(seconds), number))


async def test_many_who_must_stay_apart_all_leave_when_their_patience_ends() -> None:
    gathered = gathering(Counted(), apart=bool)
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = await ask(gathered, *range(1, 61), seconds=0.2)
    assert [type(answer) for answer in answers] == [TryAgain] * 60
    assert loop.time() - began < 0.6


async def test_one_leaves_on_time_whatever_its_transaction_and_those_before_it_do() -> None:
    database = Counted()
    database.open.set()
    work, gathered = held(database)
    async with asyncio.timeout(2):
        answers = await asyncio.gather(asking(gathered, 1, 0.1), asking(gathered, 2, 0.1), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["Postgres does not answer"] * 2
    assert [type(answer) for answer in answers] == [TryAgain] * 2
    work.let(9)
    assert await ask(gathered, 3) == [3]
    assert 3 in work.groups[-1]


async def test_an_impatient_one_does_not_fail_its_neighbours() -> None:
    database = Counted()
    database.open.set()
    work, gathered = held(database)
    first = asking(gathered, 1)
    await work.begun(1)
    impatient, patient = asking(gathered, 2, 0.1), asking(gathered, 3)
    await asyncio.sleep(0)
    database.open.clear()
    work.let(9)
    assert await first == 1
    with pytest.raises(TryAgain):
        await impatient
    assert not patient.done()
    database.open.set()
    assert await patient == 3
    assert work.groups == [[1], [3]]


async def test_who_left_while_its_group_ran_is_not_asked_again() -> None:
    database = Counted()
    database.open.set()
    work, gathered = held(database)
    first = asking(gathered, 1)
    await work.begun(1)
    gone, bad, good = asking(gathered, 2), asking(gathered, 7), asking(gathered, 4)
    await asyncio.sleep(0)
    work.let(1)
    assert await first == 1
    await work.begun(2)
    gone.cancel()
    work.let(9)
    with pytest.raises(Conflict):
        await bad
    assert await good == 4
    assert gone.cancelled()
    assert work.groups == [[1], [2, 7, 4], [7], [4]]
    assert len(database.principals) == 4


async def test_who_left_takes_nobody_s_place() -> None:
    database = Counted()
    database.open.set()
    work, gathered = held(database, most=2, apart=last_digit)
    first = asking(gathered, 1)
    await work.begun(1)
    gone, same, other = asking(gathered, 2), asking(gathered, 12), asking(gathered, 3)
    await asyncio.sleep(0)
    gone.cancel()
    work.let(9)
    assert (await first, await same, await other) == (1, 12, 3)
    assert work.groups == [[1], [12, 3]]


async def test_nothing_is_done_where_everybody_has_left_before_it_began() -> None:
    database = Counted()
    rung = 0

    async def ring() -> None:
        nonlocal rung
        rung += 1

    work, gathered = held(database, after=ring)
    work.let(9)
    leaving = [asking(gathered, number) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the first waits for its transaction
    for one in leaving:
        one.cancel()
    await asyncio.wait(leaving)
    database.open.set()
    assert await ask(gathered, 4) == [4]
    assert work.groups == [[4]]
    assert rung == 1


async def test_a_bell_that_fails_is_logged_and_nobody_waits_for_it() -> None:
    database = Counted()
    database.open.set()

    async def ring() -> None:
        raise RuntimeError("no bell")

    gathered = gathering(database, at_once=1, most=1, after=ring)
    with structlog.testing.capture_logs() as logged:
        async with asyncio.timeout(2):
            assert await ask(gathered, 1, 2, 3) == [2, 4, 6]
    assert [(one["event"], one["error"]) for one in logged] == [("not_told_of_a_commit", "RuntimeError")] * 3


async def test_who_is_cancelled_as_its_error_arrives_stays_cancelled_and_the_error_is_not_complained_about() -> None:
    database = Counted()
    database.open.set()
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    leaving: list[asyncio.Task[int]] = []

    async def cancel() -> None:
        leaving[0].cancel()

    leaving.append(asking(gathering(database, after=cancel), 13))
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        await asyncio.wait(leaving)
        assert leaving.pop().cancelled()
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(before)
    assert not [one for one in complaints if isinstance(one.get("exception"), NotFound)]


async def test_a_timeout_of_the_work_is_not_taken_for_the_end_of_patience() -> None:
    database = Counted()
    database.open.set()

    async def time_out(_: Transaction, asked: Sequence[int]) -> list[int | MemCubeError]:
        raise TimeoutError(f"the work's own, of {len(asked)}")

    gathered = Gathering[int, int](cast("Database", database), time_out)
    with pytest.raises(TimeoutError, match="the work's own, of 1"):
        await gathered.ask(ADA, Patience(5), 1)


async def test_who_is_on_the_way_when_the_gateway_stops_hears_so() -> None:
    database = Counted()
    database.open.set()

    async def stop(_: Transaction, asked: Sequence[int]) -> list[int | MemCubeError]:
        raise asyncio.CancelledError

    gathered = Gathering[int, int](cast("Database", database), stop, at_once=1)
    async with asyncio.timeout(2):
        answers = await ask(gathered, 1, 2)
    assert [str(answer) for answer in answers] == ["this gateway is stopping"] * 2


async def test_who_waits_behind_a_slow_transaction_is_answered_beside_it() -> None:
    database = Counted()
    database.open.set()
    hold = asyncio.Event()

    async def slow(_: Transaction, asked: Sequence[int]) -> list[int | MemCubeError]:
        if 1 in asked:
            await hold.wait()
        return [2 * one for one in asked]

    gathered = Gathering[int, int](cast("Database", database), slow)
    held = asyncio.create_task(gathered.ask(ADA, Patience(5.0), 1))
    await eventually(lambda: database.principals, within=2.0)
    async with asyncio.timeout(2.0):
        together = asyncio.gather(*(gathered.ask(ADA, Patience(5.0), n) for n in (2, 3, 4)))
        assert await together == [4, 6, 8]
        assert len(database.principals) == 2, "those who waited met"
        assert await gathered.ask(ADA, Patience(5.0), 5) == 10
    assert not held.done()
    hold.set()
    assert await held == 2
    assert not gathered._lanes  # pyright: ignore[reportPrivateUsage]


async def test_no_more_than_a_few_transactions_of_one_principal_run_at_once() -> None:
    database = Counted()
    database.open.set()
    hold = asyncio.Event()

    async def slow(_: Transaction, asked: Sequence[int]) -> list[int | MemCubeError]:
        await hold.wait()
        return [2 * one for one in asked]

    gathered = Gathering[int, int](cast("Database", database), slow, at_once=2, most=1)
    asked = [asyncio.create_task(gathered.ask(ADA, Patience(5.0), n)) for n in range(5)]
    await eventually(lambda: len(database.principals) == 2, within=2.0)
    other = asyncio.create_task(gathered.ask(BO, Patience(5.0), 9))
    await eventually(lambda: BO in database.principals, within=2.0)
    assert len(database.principals) == 3
    hold.set()
    assert await asyncio.gather(*asked, other) == [0, 2, 4, 6, 8, 18]
