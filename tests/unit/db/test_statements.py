"""SQL as named text: what the reader of `queries.sql` takes and refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memcube_common.db.statements import Statements

FOLDER = "statements_of_a_test"


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """An importable package without statements."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "__init__.py").touch()
    sys.path.insert(0, str(tmp_path))
    yield folder
    sys.path.remove(str(tmp_path))
    sys.modules.pop(FOLDER, None)


def read(package: Path, text: str) -> Statements:
    (package / "queries.sql").write_text(text)
    return Statements(FOLDER)


def test_a_statement_has_its_name_its_purpose_and_its_text(package: Path) -> None:
    statements = read(
        package, "-- name: one\n-- What it\n-- is for.\nselect 1;\n\n-- name: two\n-- Other.\nselect\n  2\n"
    )
    assert [s.name for s in statements] == ["one", "two"]
    assert statements["one"].about == "What it is for."
    assert statements["one"].sql == "select 1"
    assert statements["two"].sql == "select\n  2"


def test_a_comment_inside_a_statement_stays_in_it(package: Path) -> None:
    statements = read(package, "-- name: one\n-- About.\nselect 1 -- name: not_a_header\n  -- and this\n , 2")
    assert statements["one"].sql == "select 1 -- name: not_a_header\n  -- and this\n , 2"


def test_a_semicolon_inside_a_statement_stays_in_it(package: Path) -> None:
    assert read(package, "-- name: one\n-- About.\nselect ';';")["one"].sql == "select ';'"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "select 1",
        "select 0;\n-- name: one\n-- About.\nselect 1",
        "-- name: one\nselect 1",
        "-- name: one\n-- About.\n",
        "-- name: one\n-- About.\nselect 1;\n-- name: one\n-- Again.\nselect 2",
        "-- name: One\n-- About.\nselect 1",
    ],
    ids=["empty", "no name", "text before", "no description", "no statement", "a name twice", "a name in capitals"],
)
def test_what_is_not_named_and_described_is_refused(package: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"statements_of_a_test/queries\.sql"):
        read(package, text)


def test_a_statement_that_is_not_there_is_a_key_error(package: Path) -> None:
    with pytest.raises(KeyError):
        _ = read(package, "-- name: one\n-- About.\nselect 1")["two"]


def test_statements_outside_a_package_are_refused() -> None:
    with pytest.raises(ValueError, match="beside"):
        Statements(None)
