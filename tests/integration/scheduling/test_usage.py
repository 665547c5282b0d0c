"""Use is counted in batches and once; what an agent was told it does not learn as news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from tests.eventually import eventually
from tests.integration.scheduling.hands import Hands
from tests.rooms import admin, an_insight

from memcube_common.feedback import store
from memcube_common.insights.store import insert_insights, settle_insights
from memcube_common.memories.revisions import purge_memories
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_scheduling.settling import recall_due, settle_due

EARLIER = datetime.now(UTC) - timedelta(minutes=5)


@pytest_asyncio.fixture(scope="module")
async def crew(database: HouseDatabase) -> AsyncGenerator[Hands]:
    async with Hands.open(database) as hands:
        yield hands


@pytest.fixture
def hands(crew: Hands, project: HouseProject) -> Hands:
    return crew.into(project.slug)


async def test_use_is_counted_once_without_a_version_or_a_change(hands: Hands) -> None:
    one, other, unused = await hands.remember("one", "other", "unused")
    before = await hands.row(one)
    changes = "select count(*) as many from memcube.changes where project_id = $1"
    many = (await hands.rows(changes, hands.project))[0]["many"]
    last = EARLIER + timedelta(minutes=1)
    await hands.told(one, other, at=EARLIER)
    await hands.told(one, at=last)
    assert await hands.settle() == 2
    assert await hands.settle() == 0
    after = await hands.row(one)
    assert (after["usage_hits"], after["last_used"]) == (2, last)
    assert (after["version"], after["updated_at"]) == (before["version"], before["updated_at"])
    assert (await hands.row(other))["usage_hits"] == 1
    assert tuple(await hands.row(unused))[:2] == (0, None)
    assert (await hands.rows(changes, hands.project))[0]["many"] == many


async def test_two_rooms_at_once_count_each_schedule_once(hands: Hands) -> None:
    (one,) = await hands.remember("one")
    for _ in range(20):
        await hands.told(one)
    counted = await asyncio.gather(*(hands.settle() for _ in range(4)))
    while sum(counted) < 20:  # who met another at it counted nothing
        counted.append(await hands.settle())
    assert sum(counted) == 20
    assert (await hands.row(one))["usage_hits"] == 20


async def test_what_fails_is_counted_later_and_nothing_twice(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = await hands.remember("one")
    schedule = await hands.told(one)
    hands.settling.deliveries.add(hands.project, schedule, 3)

    async def broken(*_: object, **__: object) -> int:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(store, "keep_settlement", broken)
        with pytest.raises(RuntimeError):
            await hands.settle()
    assert (await hands.row(one))["usage_hits"] == 0
    await hands.settle()
    await hands.settle()
    assert (await hands.row(one))["usage_hits"] == 4, "made once and given out three times more"


async def test_what_was_given_out_again_counts_and_a_schedule_that_is_gone_does_not(hands: Hands) -> None:
    one, other = await hands.remember("one", "other")
    schedule = await hands.told(one)
    await hands.settle()
    hands.settling.deliveries.add(hands.project, schedule, 5)
    hands.settling.deliveries.add(hands.project, other, 5)
    await hands.settle()
    assert (await hands.row(one))["usage_hits"] == 6
    assert (await hands.row(other))["usage_hits"] == 0


async def test_a_memory_that_is_gone_does_not_keep_the_others_from_being_counted(hands: Hands) -> None:
    one, gone = await hands.remember("one", "gone")
    await hands.told(gone, one)
    async with hands.working() as tx:
        await purge_memories(tx, project=hands.project, ids=[gone])
    await hands.settle()
    assert (await hands.row(one))["usage_hits"] == 1
    assert await hands.rows("select from memcube.memory_uses where memory_id = $1", gone) == []


async def test_projects_are_looked_for_by_the_age_of_what_waits(hands: Hands) -> None:
    (one,) = await hands.remember("one")
    schedule = await hands.told(one)
    await settle_due(hands.settling, usage=60, feedback=60, deliveries=True)
    assert (await hands.row(one))["usage_hits"] == 0, "too young to be counted"
    await hands.say(schedule, {one: "helpful"})
    await settle_due(hands.settling, usage=60, feedback=0, deliveries=False)
    assert (await hands.row(one))["usage_hits"] == 1, "counted with the outcome that was due"
    await hands.told(one, at=EARLIER)
    await settle_due(hands.settling, usage=60, feedback=60, deliveries=False)
    assert (await hands.row(one))["usage_hits"] == 2


async def test_a_schedule_made_while_others_are_counted_is_counted_after_them(hands: Hands) -> None:
    """Its memories are not among those held: taken with the others, it would count on nothing."""
    one, late = await hands.remember("one", "late")
    await hands.told(one)
    async with admin(hands.house) as connection, connection.transaction():
        await connection.execute("select from memcube.memories where id = $1 for update", one)
        settling = asyncio.create_task(hands.settle())
        waits = "select from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'memcube-test'"
        await eventually(lambda: hands.rows(waits))
        await hands.told(late)
    assert await settling == 1
    assert await hands.settle() == 1
    assert ((await hands.row(one))["usage_hits"], (await hands.row(late))["usage_hits"]) == (1, 1)


async def test_work_across_projects_is_handed_out_to_the_scheduling_room_alone(hands: Hands) -> None:
    (one,) = await hands.remember("one")
    await hands.told(one, at=EARLIER)
    for room, found in (("scheduling", True), ("gateway", False)):
        async with hands.db.transaction(Principal.worker(room)) as tx:
            assert (hands.project in await store.projects_to_settle(tx, usage=1, feedback=1, at_most=1000)) is found
            assert (hands.project in await store.projects_to_recall(tx, at_most=1000)) is found


async def echoed(hands: Hands, text: str, *, agent: str) -> bool:
    """Whether `agent` that says `text` is heard as an echo; it is forgotten again."""
    insight = an_insight(text, agent=agent)
    async with hands.working() as tx:
        await insert_insights(tx, project=hands.project, via="http", state="accepted", insights=[insight])
        settled = await settle_insights(tx, project=hands.project, insights=[insight], echo_window=3600)
        return any(one.decision == "echo" for one in settled.values())


async def test_what_an_agent_was_told_does_not_come_back_as_news(hands: Hands) -> None:
    secret, other = await hands.remember(
        "the staging key rotates on mondays", "elsewhere", by="bob", visibility="private"
    )
    assert not await echoed(hands, "The staging key rotates on Mondays.", agent="bob")
    await hands.told(secret)
    await recall_due(hands.settling)
    assert await hands.recall() == 0, "noted once"
    assert await echoed(hands, "The staging key rotates on Mondays.", agent="bob")
    assert not await echoed(hands, "elsewhere", agent="bob")
    assert not await echoed(hands, "The staging key rotates on Mondays.", agent="eve"), "she was not told"
    assert other


async def test_who_may_not_speak_for_others_names_no_other_agent(hands: Hands) -> None:
    """Else anybody could keep another's words from being learned, by having them told to that name."""
    mine, theirs = await hands.remember("said by bob", "said by the service", by="bob", visibility="private")
    await hands.told(mine, by="bob", agent="victim")
    await hands.told(theirs, by="backend", role="SERVICE", agent="worker-7")
    await hands.recall()
    assert not await echoed(hands, "said by bob", agent="victim")
    assert await echoed(hands, "said by bob", agent="bob")
    assert await echoed(hands, "said by the service", agent="worker-7")


async def test_a_memory_purged_meanwhile_leaves_no_words_behind(hands: Hands) -> None:
    (one,) = await hands.remember("to be forgotten")
    await hands.told(one)
    async with admin(hands.house) as connection, connection.transaction():
        await connection.execute("delete from memcube.memories where id = $1", one)
        noting = asyncio.create_task(hands.recall())
        waits = "select from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'memcube-test'"
        await eventually(lambda: hands.rows(waits))
    assert await noting == 1
    assert await hands.rows("select from memcube.recalls where memory_id = $1", one) == []


async def test_a_purge_and_a_settlement_at_once_wait_for_each_other_and_end(hands: Hands) -> None:
    """Both hold the memory before what goes with it: else each would wait for the other."""
    one, other = await hands.remember("one", "other")
    schedule = await hands.told(one, other)
    await hands.say(schedule, {one: "helpful", other: "helpful"})
    async with admin(hands.house) as connection, connection.transaction():
        await connection.execute("select from memcube.memories where id = $1 for update", one)
        settling = asyncio.create_task(hands.settle())
        waits = "select from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'memcube-test'"
        await eventually(lambda: hands.rows(waits))
        await connection.execute("delete from memcube.memories where id = $1", one)
    assert await settling == 2, "the schedule, and what was said of the memory that is left"
    assert (await hands.row(other))["feedback"] > 0
    assert await hands.rows("select from memcube.memory_uses where memory_id = $1", one) == []
