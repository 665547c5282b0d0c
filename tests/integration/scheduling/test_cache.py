"""The cache is never wrong: whatever is committed after the mark was taken, it does not hold any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from tests.integration.scheduling.hands import Hands
from tests.rooms import admin

from memcube_common.db.pool import Row
from memcube_common.feedback.store import Mark, mark_holds, take_mark
from memcube_common.links.store import link_memories
from memcube_common.memories.revisions import purge_memories
from memcube_common.testing.servers import HouseDatabase, HouseProject


@pytest_asyncio.fixture(scope="module")
async def crew(database: HouseDatabase) -> AsyncGenerator[Hands]:
    async with Hands.open(database) as hands:
        yield hands


@pytest.fixture
def hands(crew: Hands, project: HouseProject) -> Hands:
    return crew.into(project.slug)


async def marked(hands: Hands) -> Mark:
    async with hands.db.transaction(hands.reader()) as tx:
        mark = await take_mark(tx)
    assert mark is not None
    return mark


async def holds(hands: Hands, mark: Mark, until: datetime | None = None) -> bool:
    async with hands.db.transaction(hands.reader()) as tx:
        return await mark_holds(tx, mark=mark, until=until)


async def change(hands: Hands, sql: str, *args: object) -> None:
    await hands.rows(sql, *args)


async def link_a_task(hands: Hands, memory: UUID) -> None:
    async with hands.db.transaction(hands.reader()) as tx:
        await link_memories(tx, task="T-1", role="READ", ids=[memory])


async def purge(hands: Hands, memory: UUID) -> None:
    async with hands.working() as tx:
        await purge_memories(tx, project=hands.project, ids=[memory])


async def settle_use(hands: Hands, memory: UUID) -> None:
    await hands.told(memory)
    await hands.settle()


async def settle_feedback(hands: Hands, memory: UUID) -> None:
    schedule = await hands.told(memory)
    await hands.say(schedule, {memory: "helpful"})
    await hands.settle()


async def remember(hands: Hands, memory: UUID) -> None:
    await hands.remember("another")


def updates(what: str) -> Callable[[Hands, UUID], Awaitable[None]]:
    async def update(hands: Hands, memory: UUID) -> None:
        await change(hands, f"update memcube.memories set {what} where id = $1", memory)

    return update


async def count_words(hands: Hands, memory: UUID) -> None:
    async with admin(hands.house) as connection, connection.transaction():
        await connection.execute(f"set local app.project_id = '{hands.project}'")
        assert await connection.fetchval("select memcube.fold_terms(null, 1000)") > 0


CHANGES: dict[str, Callable[[Hands, UUID], Awaitable[None]]] = {
    "a new memory": remember,
    "a label": updates("label = 'x', version = version + 1"),
    "tags": updates("tags = '{x}', version = version + 1"),
    "priority": updates("priority = 'HOT', version = version + 1"),
    "put away": updates("lifecycle = 'ARCHIVED', version = version + 1"),
    "stale": updates("lifecycle = 'STALE'"),
    "distrusted": updates("trust = 'quarantined'"),
    "closed to the reader": updates("""governance = governance || '{"visibility": "private"}'"""),
    "pinned": updates("""governance = governance || '{"pin": true}'"""),
    "a vector": updates("embedding_state = 'ready', embedded_at = now()"),
    "purged": purge,
    "a task": link_a_task,
    "use that is counted": settle_use,
    "an outcome that is counted": settle_feedback,
    "statistics of words": count_words,
}


@pytest.mark.parametrize("what", CHANGES)
async def test_it_holds_until_something_changes(hands: Hands, what: str) -> None:
    (memory,) = await hands.remember("one")
    mark = await marked(hands)
    assert await holds(hands, mark)
    await CHANGES[what](hands, memory)
    assert not await holds(hands, mark)
    assert await holds(hands, await marked(hands)), "what is read now holds again"


async def test_a_change_that_was_on_its_way_and_is_committed_later_is_seen(hands: Hands) -> None:
    """Its number was drawn before the mark was taken, and nobody could see it then."""
    (memory,) = await hands.remember("one")
    async with admin(hands.house) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("update memcube.memories set label = 'x', version = 2 where id = $1", memory)
        mark = await marked(hands)
        assert await holds(hands, mark), "nothing is committed yet"
        await hands.remember("committed first, though its number came later")
        later = await marked(hands)
        assert not await holds(hands, mark)
        assert await holds(hands, later)
        await transaction.commit()
    assert not await holds(hands, later)


async def test_a_settlement_that_was_on_its_way_is_seen_once_it_is_committed(hands: Hands) -> None:
    (memory,) = await hands.remember("one")
    await settle_use(hands, memory)
    async with admin(hands.house) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "update memcube.usage_marks set settled = settled + 1 where project_id = $1", hands.project
        )
        mark = await marked(hands)
        assert await holds(hands, mark)
        await transaction.commit()
    assert not await holds(hands, mark)


async def test_what_was_rolled_back_changes_nothing(hands: Hands) -> None:
    (memory,) = await hands.remember("one")
    mark = await marked(hands)
    async with admin(hands.house) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("update memcube.memories set label = 'x', version = 2 where id = $1", memory)
        await transaction.rollback()
    assert await holds(hands, mark)


async def test_other_projects_change_nothing_and_their_long_transactions_keep_nothing_out(hands: Hands) -> None:
    neighbour = hands.into((await hands.house.project()).slug)
    (theirs,) = await neighbour.remember("theirs")
    async with admin(hands.house) as connection, connection.transaction():
        await connection.execute("update memcube.memories set label = 'x', version = 2 where id = $1", theirs)
        await hands.remember("one", "two")
        mark = await marked(hands)
        assert mark.seen > 0, "there beyond the horizon already"
        await neighbour.remember("more of theirs")
        assert await holds(hands, mark)
        await hands.remember("three")
        assert not await holds(hands, mark)


async def test_a_moment_that_has_passed_ends_it(hands: Hands) -> None:
    mark = await marked(hands)
    assert await holds(hands, mark, until=datetime.now(UTC) + timedelta(minutes=1))
    assert not await holds(hands, mark, until=datetime.now(UTC) - timedelta(milliseconds=1))


async def test_a_change_of_a_transaction_that_began_yesterday_is_seen(hands: Hands) -> None:
    mark = await marked(hands)
    await change(
        hands,
        """insert into memcube.changes (day, project_id, type, body)
           values ((now() at time zone 'utc')::date - 1, $1, 'x', '{}')""",
        hands.project,
    )
    assert not await holds(hands, mark)


async def test_no_mark_where_too_much_lies_beyond_the_horizon(hands: Hands) -> None:
    async with admin(hands.house) as connection, connection.transaction():
        await connection.execute("select memcube.enter_feed()")
        await change(
            hands,
            "insert into memcube.changes (project_id, type, body) select $1, 'x', '{}' from generate_series(1, 1000)",
            hands.project,
        )
        async with hands.db.transaction(hands.reader()) as tx:
            assert await take_mark(tx) is None
    assert await holds(hands, await marked(hands))


async def test_a_mark_is_refused_where_statements_do_not_see_what_is_committed(hands: Hands) -> None:
    async with admin(hands.house) as connection, connection.transaction(isolation="repeatable_read"):
        await connection.execute(f"set local app.project_id = '{hands.project}'")
        with pytest.raises(asyncpg.RaiseError):
            await connection.execute("select memcube.take_mark()")


async def test_whatever_writers_do_meanwhile_it_never_holds_for_what_is_different(hands: Hands) -> None:
    """Many who change and some who look: while a mark holds, what was read after it is what is there."""
    memories = await hands.remember(*(f"memory {n}" for n in range(6)))
    draw = random.Random(20261122)
    seen = "select id, version, tags, usage_hits, feedback from memcube.memories where project_id = $1 order by id"
    held = compared = 0
    done = asyncio.Event()

    async def write(connection: asyncpg.Connection[Row], number: int) -> None:
        for step in range(15):
            transaction = connection.transaction()
            await transaction.start()
            for memory in sorted(draw.sample(memories, 2)):
                await connection.execute(
                    "update memcube.memories set tags = array[$2::text], version = version + 1 where id = $1",
                    memory,
                    f"{number}-{step}",
                )
                await asyncio.sleep(draw.random() * 0.004)
            await (transaction.commit() if draw.random() < 0.8 else transaction.rollback())
            await asyncio.sleep(draw.random() * 0.01)

    async def count() -> None:
        for _ in range(6):
            await settle_feedback(hands, draw.choice(memories))

    async def look(connection: asyncpg.Connection[Row]) -> None:
        nonlocal held, compared
        while not done.is_set():
            mark = await marked(hands)
            first = await connection.fetch(seen, hands.project)
            for _ in range(3):
                again = await connection.fetch(seen, hands.project)
                if not await holds(hands, mark):
                    break
                held += 1
                assert again == first
            compared += 1

    async with admin(hands.house) as a, admin(hands.house) as b, admin(hands.house) as c, admin(hands.house) as d:
        looking = [asyncio.create_task(look(c)), asyncio.create_task(look(d))]
        await asyncio.gather(write(a, 1), write(b, 2), count())
        done.set()
        await asyncio.gather(*looking)
    assert held > 10
    assert compared > held / 4, "it was also found not to hold"
