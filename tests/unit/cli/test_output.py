"""What commands print, and what the demo promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memcube import Change, Reset
from memcube_cli.console import cut, one_line, table
from memcube_cli.demo import QUESTIONS, TAG
from memcube_cli.imports.lines import Item, judge, read_lines
from memcube_cli.keys import KeyRing
from memcube_cli.watch import line_of

EXAMPLES = Path(__file__).parents[3] / "examples" / "insights.jsonl"
STOP_WORDS = set(
    """a an and are before by do does for give have i in is it of on
    the they to up than when who whom why""".split()  # noqa: SIM905
)


def examples() -> dict[str, Item]:
    with EXAMPLES.open("rb") as file:
        items = [judge(line, project="demo") for line in read_lines(file)]
    return {str(item.body["label"]): item for item in items if isinstance(item, Item)}


def words(text: str) -> set[str]:
    """Content words, roughly stemmed."""
    return {re.sub(r"(ing|ed|es|s)$", "", word) for word in re.findall(r"[a-z0-9]+", text.lower())} - STOP_WORDS


def test_every_example_is_valid_and_marked() -> None:
    with EXAMPLES.open("rb") as file:
        lines = sum(1 for _ in file)
    assert len(examples()) == lines == 20
    assert all(TAG in item.body["tags"] and not item.ignored for item in examples().values())


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.finds)
def test_a_question_by_meaning_shares_no_word_with_its_answer(question: object) -> None:
    asked = next(one for one in QUESTIONS if one is question)
    answer = examples()[asked.finds].body
    shared = words(asked.text) & words(f"{answer['label']} {answer['insight']}")
    assert bool(shared) is (asked.by == "words"), shared


def test_a_table_in_a_pipe_is_tab_separated_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    table(("score", "content"), [(0.5, "one\ntwo\x1b[31m red"), (1, "[bold]x[/bold]")], right=("score",))
    assert capsys.readouterr().out == "0.5\tone two [31m red\n1\t[bold]x[/bold]\n"


def test_text_is_cut_to_one_line_without_what_a_terminal_obeys() -> None:
    assert one_line(" a\r\n\tb\x1b]0;x\x07 c\u202e ") == "a b ]0;x c"
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"


def test_a_change_is_one_line() -> None:
    change = Change(type="memory.v1.created", position=7, label="a\nb", tags=["x", "y"])
    assert line_of(change).split() == ["7", "memory.v1.created", "a", "b", "[x", "y]"]
    assert "reset" in line_of(Reset(position=3))


def test_keys_are_kept_for_their_owner_only(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "home")
    assert ring.read("a") is None
    ring.keep("a", "1")
    ring.keep("b", "2")
    ring.keep("a", "3")
    assert (ring.read("a"), ring.read("b")) == ("3", "2")
    assert (tmp_path / "home" / "keys.json").stat().st_mode & 0o777 == 0o600
