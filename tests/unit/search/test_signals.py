"""What is read off a question: times, what is wanted, names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.search.signals import names_in, signals_of, without_names, written_as_names
from memcube_common.search.times import spans_of

NOW = datetime(2024, 3, 15, 18, 30, tzinfo=UTC)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("question", "start", "end"),
    [
        ("What happened on 2023-05-08?", "2023-05-08", "2023-05-09"),
        ("What happened on 8.5.2023?", "2023-05-08", "2023-05-09"),
        ("What happened on 8 May 2023?", "2023-05-08", "2023-05-09"),
        ("What happened on the 8th of May, 2023?", "2023-05-08", "2023-05-09"),
        ("What happened on May 8, 2023?", "2023-05-08", "2023-05-09"),
        ("What happened on March 3rd?", "2024-03-03", "2024-03-04"),
        ("What happened on December 24?", "2023-12-24", "2023-12-25"),
        ("What did she do in June 2023?", "2023-06-01", "2023-07-01"),
        ("What did she do in December 2023?", "2023-12-01", "2024-01-01"),
        ("What did she do in February?", "2024-02-01", "2024-03-01"),
        ("What did she do in 2022?", "2022-01-01", "2023-01-01"),
        ("What did I eat yesterday?", "2024-03-14", "2024-03-15"),
        ("What did I eat last week?", "2024-03-02", "2024-03-16"),
        ("What was three days ago?", "2024-03-11", "2024-03-14"),
        ("Today, what did I eat?", "2024-03-15", "2024-03-16"),
        ("What did she do in Aprıl 2023?", "2023-04-01", "2023-05-01"),
        ("What did she do in Auguſt 2023?", "2023-08-01", "2023-09-01"),
        ("What was thrEE days ago?", "2024-03-11", "2024-03-14"),
    ],
)
def test_a_time_is_read(question: str, start: str, end: str) -> None:
    [span] = spans_of(question, NOW)
    assert (span.start, span.end) == (day(start), day(end))


@pytest.mark.parametrize("question", ["May I ask you?", "on 31.02.2023", "2023-13-45", "version 1.2.3", "in 45 days"])
def test_what_is_no_time_is_none(question: str) -> None:
    assert spans_of(question, NOW) == []


@given(st.text(max_size=200), st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_no_question_is_refused(question: str, now: datetime) -> None:
    assert all(span.start < span.end for span in spans_of(question, now))


@pytest.mark.parametrize("year", [1, 200, 9999])
@pytest.mark.parametrize("question", ["yesterday", "today", "100 years ago", "in December", "since 31 December"])
def test_a_question_asked_ages_off_is_not_refused(question: str, year: int) -> None:
    assert signals_of(question, datetime(year, 12, 31, 23, tzinfo=UTC)).spans == ()


def test_what_was_told_soon_after_is_timely_too() -> None:
    asked = signals_of("What happened on 8 May 2023?", NOW)
    assert [asked.is_timely(day(text)) for text in ("2023-05-07", "2023-05-08", "2023-05-10", "2023-05-12")] == [
        False,
        True,
        True,
        False,
    ]


def test_what_an_answer_should_tell() -> None:
    assert signals_of("When did Ann leave?", NOW).wants_time
    assert not signals_of("Tell me when", NOW).wants_time
    assert signals_of("And how many were there?", NOW).wants_number
    assert not signals_of(None, NOW).wants_number


def test_names_begin_with_a_capital_in_any_alphabet_and_not_with_a_small_one() -> None:
    assert names_in("When did Ödön meet élan and Ann?") == ["Ödön", "Ann"]
    assert written_as_names("Ann met Bob, Ann?") == ["Ann", "Bob"]


def test_common_names_are_left_out_with_their_endings() -> None:
    assert without_names("What is Caroline's favourite colour?", ["Caroline"]) == "What is favourite colour?"
    assert without_names("What is Carolineville famous for?", ["Caroline"]) == "What is Carolineville famous for?"


def test_a_question_that_would_be_empty_stays_as_it_is() -> None:
    assert without_names("Who is Caroline?", ["Caroline"]) == "Who is Caroline?"
    assert without_names("What about (a+b)*?", ["(a+b)*"]) == "What about (a+b)*?"
