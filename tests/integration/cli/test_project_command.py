"""`memcube project set`: what the operator decides about a project holds, and is printed."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import typer

from memcube_cli.house import House
from memcube_cli.project import set_, set_project
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


async def test_what_is_given_is_set_and_the_rest_stays(
    house: House, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await set_project(house, house.project, screening="redact", near_duplicates=None, forget=False)
    await set_project(house, house.project, screening=None, near_duplicates=0.95, forget=False)

    told = (await http.get(str(http.base_url).rstrip("/"))).json()
    assert (told["screening"], told["near_duplicates"]) == ("redact", 0.95)
    capsys.readouterr()

    await set_project(house, house.project, screening=None, near_duplicates=None, forget=True)
    assert capsys.readouterr().out.splitlines() == [f"{house.project}: screening redact, near duplicates off"]


async def test_a_project_that_does_not_exist_is_named(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        await set_project(house, "no-such-project", screening="tag", near_duplicates=None, forget=False)

    assert "There is no project 'no-such-project'." in capsys.readouterr().err


@pytest.mark.parametrize("similarity", ["0.79", "1.01", "nan", "very"])
def test_a_similarity_out_of_its_limits_is_refused_before_anything_is_opened(
    similarity: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        set_("demo", near_duplicates=similarity)

    assert "0.8 … 1, or 'off'" in capsys.readouterr().err
