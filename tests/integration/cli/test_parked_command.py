"""`memcube parked`: what was set aside is seen, and goes through ingestion again whichever way it came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.rooms import ingestion_room, work_due

from memcube_cli.house import House
from memcube_cli.parked import print_one, print_parked, replay_these
from memcube_common.insights.store import mark_parked
from memcube_common.insights.talks import park_conversation
from memcube_common.mailbox import work
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_ingestion import conversations
from memcube_ingestion.jobs import keep_due

TALK: dict[str, Any] = {"messages": [{"role": "user", "name": "Ada", "content": "I fly to Lyon tomorrow."}]}


@pytest.fixture
def house(database: HouseDatabase, project: HouseProject, tmp_path: Path) -> House:
    """The stack as its operator knows it."""
    return House(
        home=tmp_path,
        gateway="http://127.0.0.1:9",
        project=project.slug,
        key=project.key,
        nats=None,
        postgres=database.admin_dsn,
        is_local=True,
    )


async def test_what_came_over_http_is_seen_and_replayed(
    house: House,
    database: HouseDatabase,
    project: HouseProject,
    http: httpx.AsyncClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    talk, insight = [(await http.post("insights", json=body)).json()["id"] for body in (TALK, {"insight": "A fact."})]
    async with ingestion_room(database) as room:
        async with room.db.transaction(Principal.worker("ingestion", project.slug)) as tx:
            assert await work.finish(tx, kind="conversation", project=project.slug, ids=[talk])
            assert await work.finish(tx, kind="insight", project=project.slug, ids=[insight])
            await park_conversation(tx, project=project.slug, conversation_id=talk, reason="why not")
            await mark_parked(tx, project=project.slug, insight_id=insight, reason="nor this")

        capsys.readouterr()
        await print_parked(house, project.slug, 100)
        rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert {(row[1], row[2], row[3], row[5]) for row in rows} == {
            (talk, project.slug, "HTTP", "why not"),
            (insight, project.slug, "HTTP", "nor this"),
        }
        assert await print_one(house, talk) == 0
        shown = capsys.readouterr().out
        assert "I fly to Lyon tomorrow." in shown
        assert "why not" in shown

        assert await replay_these(house, [talk, insight]) == 0
        assert await replay_these(house, [talk]) == 1
        assert (await http.get(f"receipts/{talk}")).json()["state"] == "accepted"
        assert await work_due(conversations.line_of(room), room)
        assert await keep_due(room)
    receipts = [(await http.get(f"receipts/{id}")).json() for id in (talk, insight)]
    assert [receipt["state"] for receipt in receipts] == ["stored", "stored"]
    assert len(receipts[0]["insights"]) == 1
    capsys.readouterr()
    await print_parked(house, project.slug, 100)
    assert capsys.readouterr().out == ""
