"""Schedules as they are recorded: listed for who asked, chosen again by another room, forgotten by their age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.fakes.embedding_room import FakeEmbeddingRoom
from tests.fakes.house_work import memory
from tests.integration.scheduling.conftest import Desk, scheduling_room

from memcube_common.contracts.fields import Role
from memcube_common.contracts.scheduling import ScheduleRecord
from memcube_common.errors import NotFound
from memcube_common.schedules import store
from memcube_common.security.principal import Principal
from memcube_scheduling.jobs import forget_old

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True, scope="module")
def _listening(embedding_room: FakeEmbeddingRoom) -> None:
    """Questions have vectors."""


async def listed(desk: Desk, reader: str, role: Role = "AGENT", **more: object) -> list[ScheduleRecord]:
    """All pages, two to a page."""
    records: list[ScheduleRecord] = []
    below = None
    while True:
        async with desk.room.db.transaction(Principal.user(desk.project, reader, role)) as tx:
            page, below = await store.list_schedules(
                tx,
                project=desk.project,
                limit=2,
                below=below,
                **more,  # pyright: ignore[reportArgumentType]
            )
        records += page
        if below is None:
            return records


async def test_records_are_listed_newest_first_for_who_asked_and_for_the_privileged(desk: Desk) -> None:
    await desk.keep(memory("the release train leaves on Tuesday", at=NOW))
    one = await desk.schedule("bob", text="release", task_id="T-1")
    two = await desk.schedule("bob", agent_id="helper", text="train")
    three = await desk.schedule("ann", text="release train", token_budget=500, format="xml")
    assert [r.id for r in await listed(desk, "bob")] == [two.id, one.id]
    assert [r.id for r in await listed(desk, "olga", "OWNER")] == [three.id, two.id, one.id]
    assert [r.id for r in await listed(desk, "bob", agent_id="helper")] == [two.id]
    assert [r.id for r in await listed(desk, "olga", "OWNER", task_id="T-1")] == [one.id]
    assert [r.id for r in await listed(desk, "olga", "OWNER", before=two.made_at)] == [one.id]
    assert [r.id for r in await listed(desk, "olga", "OWNER", after=two.made_at)] == [three.id]
    assert await listed(desk, "vic") == []
    [record] = await listed(desk, "ann")
    assert (record.made_by, record.agent_id, record.token_budget) == ("ann", "ann", 500)
    assert record.candidates is None
    async with desk.room.db.transaction(Principal.user(desk.project, "ann", "AGENT")) as tx:
        whole = await store.read_schedule(tx, project=desk.project, schedule_id=three.id)
        with pytest.raises(NotFound):
            await store.read_schedule(tx, project=desk.project, schedule_id=one.id)
    assert whole.candidates == three.candidates
    assert whole.chosen == [m.id for m in three.memories]
    assert whole.embedding_model == "fake"
    assert whole.asked["format"] == "xml"
    assert "text" not in whole.asked
    assert len(str(whole.asked["text_sha256"])) == 64


async def test_another_room_chooses_the_same_from_the_record_and_from_the_same_memories(desk: Desk) -> None:
    await desk.keep(*(memory(f"step {n} of the checklist is to look at gauge {n % 7}", at=NOW) for n in range(40)))
    later = NOW + timedelta(seconds=5)
    asked: dict[str, Any] = {"text": "which gauge is on the checklist", "token_budget": 300, "as_of": later}
    before = await desk.schedule(**asked)
    assert 3 < len(before.memories) < 40
    async with scheduling_room(desk.house, schedule_sharpness=3.0) as restarted:
        await desk.room.bus.client.flush()
        replays = [await desk.replay(before.id) for _ in range(4)]  # one queue: either room may answer
    assert restarted.meters is not desk.room.meters
    assert all(replay.same and replay.schedule.prompt == before.prompt for replay in replays)
    again = await desk.schedule(**asked, limit=99)  # another ask, so that it is made anew
    assert not again.cached
    assert again.prompt == before.prompt
    assert again.candidates == before.candidates


async def test_schedules_are_forgotten_by_their_age(desk: Desk) -> None:
    await desk.keep(memory("a note", at=NOW))
    old, new = await desk.schedule(need_tags=["x"]), await desk.schedule(need_tags=["y"])
    await desk.run("update memcube.schedules set made_at = made_at - interval '31 days' where id = $1", old.id)
    assert await forget_old(desk.room.db, days=31) >= 1
    assert [r.id for r in await listed(desk, "bob")] == [new.id]
