"""An import sends every line once, finds the one the server refuses, and goes on where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from memcube import Invalid, Unreachable
from memcube.errors import FieldError
from memcube_cli.imports.lines import Kind
from memcube_cli.imports.progress import ProgressFile
from memcube_cli.imports.run import Import, Sent, Tally


class House:
    """Takes batches: keeps what it takes by id, refuses what says `bad`, and is cut off after `until` batches."""

    def __init__(self, *, until: int | None = None) -> None:
        self.kept: dict[tuple[str, str], Mapping[str, Any]] = {}
        self.batches: list[int] = []
        self.until = until

    async def send(self, project: str, kind: Kind, bodies: Sequence[Mapping[str, Any]]) -> list[Sent]:
        if self.until is not None and len(self.batches) >= self.until:
            raise Unreachable
        self.batches.append(len(bodies))
        for place, body in enumerate(bodies):
            if "bad" in body.get("tags", []):
                raise Invalid(errors=[FieldError(f"{kind}s.{place}.tags.0", "is bad")])
        sent = [Sent(f"{project}/{body['id']}", (project, str(body["id"])) in self.kept) for body in bodies]
        self.kept |= {(project, str(body["id"])): body for body in bodies}
        return sent


def write(path: Path, lines: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


async def load(file: Path, house: House, home: Path, *, batch: int = 10, ignore_progress: bool = False) -> Tally:
    remember = ProgressFile(home, file, into="")
    loading = Import(house.send, project="demo", batch=batch, remember=remember, on_progress=lambda _: None)
    with file.open("rb") as lines:
        return await loading.run(lines, start=remember.fresh if ignore_progress else remember.read())


async def test_every_line_is_sent_once_in_batches_by_project_and_kind(tmp_path: Path) -> None:
    lines = [{"insight": f"i{n}"} for n in range(25)] + [
        {"content": f"c{n}", "id": f"{n}", "project": "shop"} for n in range(12)
    ]
    house = House()
    tally = await load(write(tmp_path / "f", lines), house, tmp_path)
    assert sorted(house.batches) == [2, 5, 10, 10, 10]
    assert len(house.kept) == 37
    assert (tally.lines, tally.loaded["insight"], tally.loaded["memory"]) == (37, 25, 12)
    assert tally.projects == {"demo", "shop"}


async def test_the_same_line_twice_is_one(tmp_path: Path) -> None:
    house = House()
    tally = await load(
        write(tmp_path / "f", [{"insight": "same"}, {"insight": "same"}, {"insight": "other"}]), house, tmp_path
    )
    assert len(house.kept) == 2
    assert (tally.loaded["insight"], tally.repeated) == (2, 1)


async def test_the_line_a_server_refuses_is_found_and_the_rest_is_loaded(tmp_path: Path) -> None:
    lines = [{"insight": f"i{n}", "tags": ["bad"] if n in {3, 17} else []} for n in range(20)]
    house = House()
    file = write(tmp_path / "f", lines)
    tally = await load(file, house, tmp_path)
    assert len(house.kept) == 18
    assert [(r.number, r.field, r.reason) for r in tally.refused] == [(4, "tags.0", "is bad"), (18, "tags.0", "is bad")]

    again = House()
    second = await load(file, again, tmp_path)
    assert again.batches == []
    assert [r.number for r in second.refused] == [4, 18]
    assert second.skipped == 18


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
@pytest.mark.parametrize("ignore_progress", [False, True])
async def test_an_import_cut_off_anywhere_is_finished_by_a_second_run(
    tmp_path: Path, cut: int, ignore_progress: bool
) -> None:
    lines = [{"insight": f"i{n}", "project": ("a", "b", "c")[n % 3]} for n in range(60)]
    file = write(tmp_path / "f", lines)
    house = House(until=cut)
    with pytest.raises(Unreachable):
        await load(file, house, tmp_path)
    house.until = None
    tally = await load(file, house, tmp_path, ignore_progress=ignore_progress)
    assert len(house.kept) == 60
    assert tally.loaded.total() + tally.skipped == 60
    assert tally.skipped == 0 or not ignore_progress


async def test_a_changed_file_is_loaded_anew(tmp_path: Path) -> None:
    file = write(tmp_path / "f", [{"insight": f"i{n}"} for n in range(10)])
    await load(file, House(), tmp_path)
    write(file, [{"insight": f"other {n}"} for n in range(11)])
    house = House()
    await load(file, house, tmp_path)
    assert len(house.kept) == 11


async def test_progress_that_cannot_be_read_is_no_progress(tmp_path: Path) -> None:
    file = write(tmp_path / "f", [{"insight": "a"}])
    await load(file, House(), tmp_path)
    (kept,) = (tmp_path / "imports").iterdir()
    kept.write_text("{")
    house = House()
    await load(file, house, tmp_path)
    assert len(house.kept) == 1
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_progress_holds_no_content(tmp_path: Path) -> None:
    lines = [{"insight": "secret words", "tags": ["bad"]}, {"insight": "secret words too"}]
    await load(write(tmp_path / "f", lines), House(), tmp_path)
    (kept,) = (tmp_path / "imports").iterdir()
    assert "secret" not in kept.read_text()
