"""What each line of an import file is taken for, and that a refusal never repeats what it refuses."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import UUID

import pytest

from memcube_cli.imports.lines import MAX_LINE, Item, Line, Refusal, judge, read_lines


def line(content: Any, number: int = 1) -> Line:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Line(number, 0, len(text), text)


def item(content: Any, project: str = "demo") -> Item:
    found = judge(line(content), project=project)
    assert isinstance(found, Item), found
    return found


def test_lines_know_their_places_and_hold_at_most_a_line() -> None:
    long = b'"' + b"x" * (3 * MAX_LINE) + b'"'
    file = io.BytesIO(b"one\n\n" + long + b"\nlast without an end")
    lines = list(read_lines(file))
    assert [(one.number, one.start, one.end) for one in lines] == [
        (1, 0, 4),
        (2, 4, 5),
        (3, 5, 6 + len(long)),
        (4, 6 + len(long), 25 + len(long)),
    ]
    assert lines[2].text is None
    assert lines[3].text == b"last without an end"


def test_an_insight_keeps_its_id_and_one_without_gets_the_same_each_time() -> None:
    given = "01890a5d-ac96-774b-bcce-b302099a8058"
    assert item({"insight": "a", "id": given}).id == given
    made = item({"insight": "a", "tags": ["x"]})
    assert UUID(made.id).version == 7
    assert item({"tags": ["x"], "insight": "a"}).id == made.id
    assert item({"insight": "a", "tags": ["x"], "tokens": 4}).id == made.id
    assert item({"insight": "a", "tags": ["y"]}).id != made.id
    assert item({"insight": "a", "tags": ["x"]}, project="other").id != made.id


def test_a_memory_goes_by_its_own_id_else_by_its_content() -> None:
    assert item({"content": "c", "id": "D1:1"}).id == "D1:1"
    made = item({"content": "c"})
    assert made.id.startswith("line:")
    assert item({"content": "c"}).id == made.id
    assert made.kind == "memory"


def test_a_line_says_its_project_else_the_given_one_is_meant() -> None:
    found = item({"insight": "a", "project": "shop", "tokens": 3, "colour": "red"})
    assert found.project == "shop"
    assert found.ignored == ("tokens", "colour")
    assert "project" not in found.body
    assert item({"insight": "a"}, project="other").project == "other"


def test_a_blank_line_is_nothing_and_a_byte_order_mark_does_not_matter() -> None:
    assert judge(line(b"  \r\n"), project="demo") is None
    assert isinstance(judge(line(b'\xef\xbb\xbf{"insight": "a"}'), project="demo"), Item)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"{not json secret", "line"),
        (b'"secret"', "line"),
        (b'{"insight": "secret", "sentiment": NaN}', "line"),
        (b'{"insight": "secret", "sentiment": 1e400}', "sentiment"),
        (b'{"insight": "secret \xff"}', "line"),
        (b'{"insight": "secret", "metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", "line"),
        (b'{"insight": "secret", "metadata": {"n": ' + b"9" * 6000 + b"}}", "line"),
        ({"secret": 1}, "insight"),
        ({"insight": "   "}, "insight"),
        ({"insight": "secret\x00"}, "insight"),
        (b'{"insight": "secret \\ud800"}', "line"),
        ({"insight": "secret", "tags": ["x" * 65]}, "tags.0"),
        ({"insight": "secret", "id": "not-a-uuid"}, "id"),
        ({"insight": "secret", "project": "No Slug"}, "project"),
        ({"insight": "secret", "project": 7}, "project"),
        ({"insight": "secret", "governance": {"read_rolls": []}}, "governance.read_rolls"),
        ({"content": "secret", "id": "x", "created_at": "2024-01-01T00:00:00"}, "created_at"),
        ({"content": "s" * 70_000, "id": "x"}, "content"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_its_field_and_a_reason(content: Any, field: str) -> None:
    found = judge(line(content, number=12), project="demo")
    assert isinstance(found, Refusal)
    assert (found.number, found.field) == (12, field)
    assert found.reason
    assert "secret" not in found.reason


def test_a_line_beyond_the_limit_is_refused() -> None:
    found = judge(Line(3, 0, MAX_LINE + 5, None), project="demo")
    assert isinstance(found, Refusal)
    assert str(MAX_LINE) in found.reason
