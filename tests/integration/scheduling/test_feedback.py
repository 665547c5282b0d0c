"""What came of schedules: said by those who asked, counted once, the last word, bounded."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from tests.integration.scheduling.hands import Hands

from memcube_common.contracts.scheduling import Outcome
from memcube_common.feedback.domain import Voice, value_of
from memcube_common.memories.revisions import purge_memories
from memcube_common.testing.servers import HouseDatabase, HouseProject


@pytest_asyncio.fixture(scope="module")
async def crew(database: HouseDatabase) -> AsyncGenerator[Hands]:
    async with Hands.open(database) as hands:
        yield hands


@pytest.fixture
def hands(crew: Hands, project: HouseProject) -> Hands:
    return crew.into(project.slug)


async def test_what_was_said_moves_a_memory_and_saying_it_again_replaces_it(hands: Hands) -> None:
    one, other = await hands.remember("one", "other")
    schedule = await hands.told(one, other)
    assert await hands.say(schedule, {one: "harmful", other: "used"}) == 2
    assert (await hands.row(one))["feedback"] == 0, "nothing moves before it is counted"
    await hands.settle()
    assert (await hands.row(one))["feedback"] == pytest.approx(value_of([Voice(harmful=1)]))
    assert (await hands.row(other))["feedback"] == pytest.approx(value_of([Voice(used=1)]))
    assert await hands.say(schedule, {one: "helpful"}) == 2
    await hands.settle()
    await hands.settle()
    assert (await hands.row(one))["feedback"] == pytest.approx(value_of([Voice(helpful=1)]))


async def test_the_last_word_counts_also_where_none_was_counted_yet(hands: Hands) -> None:
    (one,) = await hands.remember("one")
    schedule = await hands.told(one)
    words: list[Outcome] = ["harmful", "ignored", "helpful"]
    for word in words:
        await hands.say(schedule, {one: word})
    await hands.settle()
    assert (await hands.row(one))["feedback"] == pytest.approx(value_of([Voice(helpful=1)]))


async def test_one_principal_is_one_voice_whatever_agents_it_names(hands: Hands) -> None:
    (one,) = await hands.remember("one")
    for number in range(12):
        await hands.say(await hands.told(one, agent=f"agent-{number}"), {one: "harmful"})
    await hands.settle()
    alone = (await hands.row(one))["feedback"]
    assert alone == pytest.approx(value_of([Voice(harmful=12)]))
    await hands.say(await hands.told(one, by="eve"), {one: "harmful"}, by="eve")
    await hands.settle()
    assert (await hands.row(one))["feedback"] == pytest.approx(value_of([Voice(harmful=12), Voice(harmful=1)]))
    assert (await hands.row(one))["feedback"] < alone


async def test_what_is_said_of_anothers_schedule_is_not_heard_but_from_the_privileged(hands: Hands) -> None:
    (one,) = await hands.remember("one")
    schedule = await hands.told(one)
    assert await hands.say(schedule, {one: "harmful"}, by="eve") is None
    assert await hands.say(schedule, {one: "harmful"}, by="bob", role="VIEWER") is None
    assert await hands.say(schedule, {one: "used"}, by="olga", role="OWNER") == 1
    await hands.settle()
    assert (await hands.row(one))["feedback"] == pytest.approx(value_of([Voice(used=1)]))


async def test_only_what_was_chosen_and_may_be_read_is_kept(hands: Hands) -> None:
    one, strange, hidden = await hands.remember("one", "strange", "hidden")
    schedule = await hands.told(one, hidden)
    await hands.rows(
        'update memcube.memories set governance = governance || \'{"visibility": "private"}\' where id = $1', hidden
    )
    assert await hands.say(schedule, {one: "used", strange: "harmful", hidden: "harmful"}) == 1
    await hands.settle()
    assert [(await hands.row(memory))["feedback"] for memory in (strange, hidden)] == [0, 0]


async def test_a_purged_memory_takes_with_it_what_was_said_and_counted(hands: Hands) -> None:
    one, other = await hands.remember("one", "other")
    schedule = await hands.told(one, other)
    await hands.say(schedule, {one: "helpful", other: "helpful"})
    await hands.settle()
    await hands.say(schedule, {one: "harmful"})
    async with hands.working() as tx:
        await purge_memories(tx, project=hands.project, ids=[one])
    await hands.settle()
    for table in ("schedule_outcomes", "memory_uses"):
        left = await hands.rows(f"select memory_id from memcube.{table} where project_id = $1", hands.project)
        assert [row["memory_id"] for row in left] == [other], table
    assert await hands.say(schedule, {one: "harmful"}) == 1, "nothing is kept of what is gone"


async def test_feedback_makes_no_version_and_no_change(hands: Hands) -> None:
    (one,) = await hands.remember("one")
    before = await hands.row(one)
    changes = "select count(*) as many from memcube.changes where project_id = $1"
    many = (await hands.rows(changes, hands.project))[0]["many"]
    await hands.say(await hands.told(one), {one: "helpful"})
    await hands.settle()
    after = await hands.row(one)
    assert (after["version"], after["updated_at"]) == (before["version"], before["updated_at"])
    assert after["feedback"] > 0
    assert (await hands.rows(changes, hands.project))[0]["many"] == many
