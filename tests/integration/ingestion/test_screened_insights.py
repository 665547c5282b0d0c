"""Insights over NATS are screened by turns, outside of transactions; what can never be kept is set aside at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from tests.fakes.delivery import Delivery
from tests.rooms import an_insight, ingestion_room, submitted

from memcube_common.contracts.events import InsightSubmitted
from memcube_common.contracts.fields import Screening
from memcube_common.db.pool import Row
from memcube_common.errors import TryAgain
from memcube_common.insights.domain import Insight
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_ingestion import handlers
from memcube_ingestion.handlers import LAST_DELIVERIES, on_insights_submitted
from memcube_ingestion.room import Room
from memcube_ingestion.screened import screen_insights
from memcube_ingestion.turns import Returns, Turn

if TYPE_CHECKING:
    Psql = asyncpg.Connection[Row]

IN_A_TRANSACTION = """
select count(*) from pg_stat_activity
 where datname = current_database() and application_name = 'memcube-ingestion' and state like 'idle in transaction%'
"""


async def test_nothing_is_screened_inside_a_transaction(
    room: Room, psql: Psql, project: HouseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes, Postgres does not wait for it; and what the project says meanwhile is heard."""
    held: list[tuple[str, int]] = []

    async def slow(insights: Sequence[Insight], how: Screening, turn: Turn) -> list[Insight]:
        held.append((how, await psql.fetchval(IN_A_TRANSACTION)))
        if how == "tag":
            await psql.execute("update memcube.projects set screening = 'redact' where id = $1", project.slug)
        return await screen_insights(insights, how, turn)

    monkeypatch.setattr(handlers, "screen_insights", slow)
    await psql.execute("update memcube.projects set screening = 'tag' where id = $1", project.slug)
    assert await handlers.keep(project.slug, [an_insight("Ask ada@example.org.")], room) is None
    assert held == [("off", 0), ("tag", 0), ("redact", 0)]
    kept = await psql.fetchval("select content from memcube.memory_payloads where project_id = $1", project.slug)
    assert kept == "Ask [redacted:email]."


async def test_a_project_that_never_decides_is_come_back_to(
    room: Room, psql: Psql, project: HouseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def undecided(insights: Sequence[Insight], how: Screening, turn: Turn) -> list[Insight]:
        other = "redact" if how == "tag" else "tag"
        await psql.execute("update memcube.projects set screening = $2 where id = $1", project.slug, other)
        return list(insights)

    monkeypatch.setattr(handlers, "screen_insights", undecided)
    with pytest.raises(TryAgain):
        await handlers.keep(project.slug, [an_insight("Ask ada@example.org.")], room)
    assert await psql.fetchval("select count(*) from memcube.insights where project_id = $1", project.slug) == 0


def deliveries(project: str, *texts: str) -> list[Any]:
    subject = InsightSubmitted.subject(project, "bot")
    return [Delivery(submitted(text), place, subject=subject) for place, text in enumerate(texts)]


async def kept(psql: Psql, project: str) -> int:
    return int(await psql.fetchval("select count(*) from memcube.memories where project_id = $1", project))


async def test_what_takes_long_to_look_through_comes_back_and_nobody_waits_for_it(
    database: HouseDatabase, psql: Psql, project: HouseProject
) -> None:
    other = await database.project()
    await psql.execute("update memcube.projects set screening = 'redact' where id = $1", project.slug)
    numbers = "".join(f"+1 212 555 {n:04d} " for n in range(600))
    dear = deliveries(project.slug, *(f"{n} {numbers}" for n in range(6)))
    cheap = deliveries(other.slug, "Something short.")
    async with ingestion_room(database, portion=2, screening_share=0.001) as room:
        await on_insights_submitted([*dear, *cheap], room)
        assert cheap[0].answer == "ack"
        assert sorted(one.answer for one in dear) == ["ack"] * 2 + ["nak"] * 4
        delays = sorted(delay for one in dear for delay in one.delays)
        assert len(set(delays)) == 4, "they come back one after the other"
        assert 1 < delays[0] < delays[-1] < 60
        assert (await kept(psql, project.slug), await kept(psql, other.slug)) == (2, 1)

        back = [one for one in dear if one.answer == "nak"]
        for one in back:
            one.delivered = LAST_DELIVERIES  # before the server gives it up, it is waited for
        await on_insights_submitted(back, room)
    assert {one.answer for one in dear} == {"ack"}
    assert await kept(psql, project.slug) == 6


async def test_what_is_put_off_comes_back_behind_what_was_put_off_before_it(
    database: HouseDatabase, psql: Psql, project: HouseProject
) -> None:
    await psql.execute("update memcube.projects set screening = 'redact' where id = $1", project.slug)
    numbers = "".join(f"+1 212 555 {n:04d} " for n in range(600))
    first, second = (
        deliveries(project.slug, *(f"{batch} {n} {numbers}" for n in range(many))) for batch, many in ((1, 5), (2, 2))
    )
    async with ingestion_room(database, portion=1, screening_share=0.001) as opened:
        room = replace(opened, returns=Returns(clock=lambda: 0.0))
        await on_insights_submitted(first, room)
        await on_insights_submitted(second, room)
    before, behind = ([delay for one in batch for delay in one.delays] for batch in (first, second))
    assert (len(before), len(behind)) == (4, 1)
    assert max(before) < behind[0], "or they crowd out what others bring meanwhile"


async def test_what_is_too_long_once_redacted_is_set_aside_at_once_and_its_neighbours_are_kept(
    room: Room, psql: Psql, project: HouseProject
) -> None:
    await psql.execute("update memcube.projects set screening = 'redact' where id = $1", project.slug)
    messages = deliveries(project.slug, "Sound.", "ada@example.org " * 4_000, "Sound too.")
    await on_insights_submitted(messages, room)
    assert [message.answer for message in messages] == ["ack", "term", "ack"]
    assert await kept(psql, project.slug) == 2
    [row] = await psql.fetch("select reason, payload, attempts from memcube.parked where project_id = $1", project.slug)
    assert (row["reason"], row["attempts"]) == ("insight is over 65536 bytes once redacted", 1)
    assert b"ada@" not in bytes(row["payload"])
