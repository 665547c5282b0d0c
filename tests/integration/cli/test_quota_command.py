"""`memcube quota`: what the operator sees and sets holds for the next write."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import typer

from memcube_cli.house import House
from memcube_cli.quota import set_, set_quota, show_quotas
from memcube_common.testing.servers import HouseDatabase, HouseProject


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


async def test_a_maximum_holds_for_the_next_write_and_is_shown(
    house: House, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await set_quota(house, house.project, "memories", 1)
    statuses = [(await http.post("insights", json={"insight": f"fact {n}"})).status_code for n in range(2)]
    await set_quota(house, house.project, "memories", None)
    statuses.append((await http.post("insights", json={"insight": "fact 3"})).status_code)
    capsys.readouterr()

    await show_quotas(house, None)

    assert statuses == [202, 403, 202]
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["memories", "2", "unlimited", "in all", "-"],
        ["bytes", "12", "10737418240", "in all", "-"],
        ["insights_per_day", "2", "1000000", "by day", "-"],
        ["packs", "0", "1000", "in all", "-"],
    ]


async def test_a_project_that_does_not_exist_is_named(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        await set_quota(house, "no-such-project", "memories", 1)

    assert "There is no project 'no-such-project'." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("resource", "maximum"), [("memory", "1"), ("memories", "-1"), ("memories", "many"), ("bytes", "9" * 30)]
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(resource: str, maximum: str) -> None:
    with pytest.raises(typer.Exit) as refused:
        set_("demo", resource, maximum)

    assert refused.value.exit_code == 2
