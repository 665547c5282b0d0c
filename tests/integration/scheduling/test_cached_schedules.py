"""The same ask again, through the room: given out again while nothing has changed, and counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from tests.fakes.house_work import memory
from tests.integration.scheduling.conftest import Desk

from memcube_common.contracts.fields import DEFAULT_GOVERNANCE
from memcube_scheduling.room import Room
from memcube_scheduling.settling import Settling, SettlingMeters, settle_project

ASKED: dict[str, Any] = {"need_tags": ["ops"], "explain": False}


def governed(text: str, **governance: object) -> Any:
    stated = {**orjson.loads(DEFAULT_GOVERNANCE), **governance}
    return replace(memory(text, tags=["ops"]), governance=orjson.dumps(stated).decode())


async def test_the_same_ask_is_answered_by_the_same_schedule_until_something_changes(desk: Desk) -> None:
    await desk.keep(governed("restart the worker"))
    made = await desk.schedule(**ASKED)
    again = await desk.schedule(**ASKED)
    assert (made.cached, again.cached) == (False, True)
    assert again.model_copy(update={"cached": False, "took_ms": made.took_ms}) == made
    await desk.keep(governed("drain it first"))
    anew = await desk.schedule(**ASKED)
    assert not anew.cached
    assert len(anew.memories) == 2


async def test_whoever_or_whatever_else_is_asked_for_gets_its_own(desk: Desk) -> None:
    await desk.keep(governed("restart the worker", visibility="private", principals={"allow": ["bob"], "deny": []}))
    assert len((await desk.schedule(**ASKED)).memories) == 1
    other = await desk.schedule(**ASKED, reader="eve", agent_id="bob")
    assert (other.cached, other.memories) == (False, [])
    others: list[dict[str, Any]] = [
        {"format": "xml"},
        {"token_budget": 3000},
        {"agent_id": "bob-2"},
        {"need_tags": ["x"]},
    ]
    for more in others:
        assert not (await desk.schedule(**{**ASKED, **more})).cached, more


async def test_what_must_be_read_anew_each_time_is(desk: Desk) -> None:
    """A reading that governance wants to know of is marked each time; insights that wait are in no change."""
    await desk.keep(governed("audited", audit_reads=True))
    for _ in range(2):
        assert not (await desk.schedule(**ASKED)).cached
    marks = await desk.run(
        "select from memcube.memory_events where project_id = $1 and kind = 'ACCESSED'", desk.project
    )
    assert len(marks) == 2
    for _ in range(2):
        assert not (await desk.schedule(**ASKED, include_insights=True)).cached
        assert not (await desk.schedule(agent_id="bob", text="restart")).cached, "without a vector it is degraded"


async def test_what_is_given_out_again_counts_as_used(desk: Desk, room: Room) -> None:
    one = governed("restart the worker")
    await desk.keep(one)
    for _ in range(4):
        await desk.schedule(**ASKED)
    settling = Settling(room.db, room.deliveries, SettlingMeters.fresh(room.registry), every=30.0)
    await settle_project(settling, desk.project)
    (row,) = await desk.run("select usage_hits from memcube.memories where id = $1", one.id)
    assert row["usage_hits"] == 4
    assert not (await desk.schedule(**ASKED)).cached, "its use is counted: it scores otherwise"
