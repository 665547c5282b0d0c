"""A diff of lines is a shortest one, can be applied, and is soon given up for texts that were made to be slow."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.contracts.book import Version
from memcube_common.contracts.fields import Governance
from memcube_common.memories.domain import pack
from memcube_common.memories.history import Told, compare
from memcube_common.memories.lines import WORK_MAX, common, unified

ENDLESS = 10**9
GENEROUS = 5.0
"""Seconds of this thread; they take some hundredths."""

NAMES = ("one", "other")
LINES = st.lists(st.sampled_from(["", "a", "b", "c", "-d", "+e"]), max_size=30)
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@given(before=LINES, after=LINES)
def test_what_stays_is_a_longest_common_subsequence(before: list[str], after: list[str]) -> None:
    pairs = common(before, after, ENDLESS)
    assert pairs is not None
    assert all(before[x] == after[y] for x, y in pairs)
    assert all(x < next_x and y < next_y for (x, y), (next_x, next_y) in pairwise(pairs))
    assert len(pairs) == _longest(before, after)


def _longest(before: Sequence[str], after: Sequence[str]) -> int:
    row = [0] * (len(after) + 1)
    for old in before:
        next_row = [0]
        for y, new in enumerate(after):
            next_row.append(row[y] + 1 if old == new else max(row[y + 1], next_row[y]))
        row = next_row
    return row[-1]


@given(before=LINES, after=LINES)
def test_the_diff_makes_the_one_out_of_the_other(before: list[str], after: list[str]) -> None:
    diff = unified(before, after, NAMES)
    assert diff is not None
    assert _applied(before, diff) == after
    assert (diff == "") == (before == after)


def _applied(before: Sequence[str], diff: str) -> list[str]:
    """What a strict `patch` makes: every context line and every count must agree."""
    made: list[str] = []
    at = 0
    lines = diff.split("\n") if diff else []
    assert lines[:2] == (["--- one", "+++ other"] if diff else [])
    place = 2
    while place < len(lines):
        found = HUNK.fullmatch(lines[place])
        assert found
        begin, many, new_begin, new_many = (1 if one is None else int(one) for one in found.groups())
        begin, new_begin = begin - (many > 0), new_begin - (new_many > 0)
        made += before[at:begin]
        at = begin
        assert len(made) == new_begin
        place += 1
        while (at, len(made)) != (begin + many, new_begin + new_many):
            sign, line = lines[place][0], lines[place][1:]
            if sign in " -":
                assert before[at] == line
                at += 1
            if sign in " +":
                made.append(line)
            place += 1
    return made + list(before[at:])


def test_it_looks_as_everyone_knows_it() -> None:
    before = [f"line {n}" for n in range(1, 21)]
    after = [*before[:1], "new", *before[1:9], "ten", *before[10:19]]
    assert unified(before, after, NAMES) == "\n".join(
        [
            "--- one", "+++ other",
            "@@ -1,4 +1,5 @@", " line 1", "+new", " line 2", " line 3", " line 4",
            "@@ -7,7 +8,7 @@", " line 7", " line 8", " line 9", "-line 10", "+ten", " line 11", " line 12", " line 13",
            "@@ -17,4 +18,3 @@", " line 17", " line 18", " line 19", "-line 20",
        ]
    )  # fmt: skip


def test_a_text_written_anew_has_a_diff_however_long() -> None:
    before, after = [f"old {n}" for n in range(6_000)], [f"new {n}" for n in range(6_000)]
    diff = unified(["kept", *before], ["kept", *after], NAMES)
    assert diff is not None
    assert diff.count("\n-old") == diff.count("\n+new") == 6_000
    assert "\n kept\n" in diff


def test_the_limit_is_of_work() -> None:
    before = [str(n) for n in range(100)]
    assert common(before, before[::-1], ENDLESS) is not None
    assert common(before, before[::-1], 1_000) is None
    assert common(before, before, 0) == [(n, n) for n in range(100)]
    assert unified([str(n) for n in range(WORK_MAX)], ["", ""], NAMES) is None


HOSTILE = {
    "the same lines backwards": (
        "\n".join(str(n) for n in range(11_000)),
        "\n".join(str(n) for n in range(11_000, 0, -1)),
    ),
    "empty lines between two that changed places": ("a" + "\n" * 65_533 + "b", "b" + "\n" * 65_533 + "a"),
    "two lines, out of step": ("a\nb\n" * 16_000, "a\na\nb\n" * 10_000),
}


@pytest.mark.parametrize("texts", HOSTILE.values(), ids=HOSTILE)
def test_texts_made_to_be_slow_have_none_and_are_soon_done(texts: tuple[str, str]) -> None:
    begun = time.thread_time()
    (change,) = compare(_told(1, texts[0]), _told(2, texts[1]))
    assert time.thread_time() - begun < GENEROUS
    assert change.field == "content"
    assert change.diff is None


def test_what_is_cubic_for_difflib_is_soon_done() -> None:
    before = "\n".join(f"{n % 60}\nold {n}" for n in range(3_000))
    begun = time.thread_time()
    (change,) = compare(_told(1, before), _told(2, before.replace("old", "new")))
    assert time.thread_time() - begun < GENEROUS
    assert change.diff is not None
    assert change.diff.count("\n-old") == change.diff.count("\n+new") == 3_000


def test_texts_have_a_diff_with_their_versions_as_names() -> None:
    (change,) = compare(_told(1, "first\nsecond"), _told(2, "first\nthird"))
    assert change.diff == "--- version 1\n+++ version 2\n@@ -1,2 +1,2 @@\n first\n-second\n+third"


def _told(number: int, text: str) -> Told:
    version = Version(
        version=number,
        by="someone",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        changed=[],
        label="label",
        tags=[],
        metadata={},
        governance=Governance(),
        priority="WARM",
        lifecycle="ACTIVE",
        kv_hint=None,
        size_bytes=len(text),
        token_count=1,
        checksum=hashlib.sha256(text.encode()).hexdigest(),
    )
    return Told(version, pack(text), text)
