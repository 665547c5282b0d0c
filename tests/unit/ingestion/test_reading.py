"""Reading a message off the bus never raises: it is an insight, or it is spoilt with its reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.contracts.events import InsightSubmitted
from memcube_common.ids import new_id
from memcube_ingestion.domain import MAX_REASONS, Readable, Spoilt, portions, read

SUBJECT = InsightSubmitted.subject("demo", "bot")


def body(**fields: object) -> bytes:
    return json.dumps({"id": str(new_id()), "insight": "x", **fields}).encode()


@given(st.text(max_size=60), st.binary(max_size=200))
def test_nothing_that_arrives_raises(subject: str, payload: bytes) -> None:
    assert isinstance(read(subject, payload), Readable | Spoilt)
    assert isinstance(read(SUBJECT, payload), Spoilt)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda t: st.dictionaries(st.text(), t)))
def test_no_json_raises(value: object) -> None:
    assert isinstance(read(SUBJECT, json.dumps(value).encode()), Readable | Spoilt)


@pytest.mark.parametrize("depth", [1_000, 1_000_000])
def test_deep_json_is_spoilt(depth: int) -> None:
    assert isinstance(read(SUBJECT, b"[" * depth), Spoilt)


def test_project_and_sender_come_from_the_subject_alone() -> None:
    letter = read(SUBJECT, body(project="other", agent="root", agent_id="root"))
    assert isinstance(letter, Readable)
    assert (letter.sender.project, letter.sender.agent, letter.insight.agent_id) == ("demo", "bot", "bot")


@pytest.mark.parametrize(
    "subject",
    [
        "memcube.Demo.insight.v1.submitted.bot",
        "memcube.demo.insight.v1.submitted.b!t",
        "memcube.demo.insight.v1.submitted",
        "memcube.demo.insight.v1.submitted.a.b",
        "memcube.-x.insight.v1.submitted.bot",
        "",
    ],
)
def test_a_subject_without_valid_names_has_no_sender(subject: str) -> None:
    letter = read(subject, body())
    assert isinstance(letter, Spoilt)
    assert letter.sender is None


def test_the_id_of_a_refused_body_is_kept_for_its_receipt() -> None:
    identity = new_id()
    letter = read(SUBJECT, body(id=str(identity), insight=""))
    assert isinstance(letter, Spoilt)
    assert letter.insight_id == identity
    for spoilt_id in ("x", "7d444840-9dc0-11d1-b245-5ffdce74fad2", None, 7):
        letter = read(SUBJECT, body(id=spoilt_id, insight=""))
        assert isinstance(letter, Spoilt)
        assert letter.insight_id is None


def test_a_reason_names_fields_and_never_what_they_held() -> None:
    letter = read(SUBJECT, body(insight="canary\x00", label="canary\n", tags=["canary\x00"]))
    assert isinstance(letter, Spoilt)
    assert "insight:" in letter.reason
    assert "label:" in letter.reason
    assert "tags.0:" in letter.reason
    assert "canary" not in letter.reason


def test_a_reason_is_short_however_much_is_wrong() -> None:
    letter = read(SUBJECT, body(tags=[""] * 60))
    assert isinstance(letter, Spoilt)
    assert letter.reason.count(";") == MAX_REASONS
    assert letter.reason.endswith(f"and {60 - MAX_REASONS} more")


def test_a_reason_can_always_be_kept() -> None:
    """A field's name is the sender's to choose: it may be long, or hold what no column can keep."""
    for name in ("a\x00b", "x" * 60_000, "a\nb\x1b"):
        letter = read(SUBJECT, body(governance={name: 1}))
        assert isinstance(letter, Spoilt)
        assert "\x00" not in letter.reason
        assert letter.reason.isprintable()
        assert len(letter.reason) <= 2_000


def test_portions_are_of_one_project_bounded_and_sorted_by_id() -> None:
    letters: list[tuple[int, Readable]] = []
    for number in range(20):
        letter = read(InsightSubmitted.subject("ab"[number % 2], "bot"), body())
        assert isinstance(letter, Readable)
        letters.insert(0, (number, letter))
    cut = portions([*letters, letters[0]], at_most=4)
    assert sorted(number for portion in cut for number, _ in portion) == sorted([*range(20), letters[0][0]])
    for portion in cut:
        assert 1 <= len(portion) <= 4
        assert len({letter.sender.project for _, letter in portion}) == 1
    for project in "ab":
        ids = [letter.insight.id for portion in cut for _, letter in portion if letter.sender.project == project]
        assert ids == sorted(ids)
