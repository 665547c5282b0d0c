"""The extractive summary: word for word, the same every time, never over its budget, every source heard."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from memcube_common.contracts.fields import CONTENT_MAX_BYTES
from memcube_common.synthesis.domain import SENTENCES, beginning, sentences_of, summary
from memcube_common.tokens import count_tokens

DEPLOYS = "Deploys on Fridays fail more often. The on-call engineer leaves at four. Nobody likes to be paged."
CACHE = "Warm the cache before the first deploy. A cold cache doubles the latency of the checkout."
COFFEE = "The coffee machine on the second floor is broken."

WORDS = st.sampled_from(
    ["deploy", "cache", "friday", "café", "東京", "checkout", "the", "a", "is", "42", "§3", "e.g.", "Dr."]
)
SENTENCE = st.lists(WORDS, min_size=1, max_size=12).map(lambda words: " ".join(words).capitalize() + ".")
TEXT = st.one_of(
    st.lists(SENTENCE, min_size=1, max_size=6).map(" ".join),
    st.text(min_size=1, max_size=300).filter(lambda text: bool(sentences_of(text)) and _storable(text)),
)
TEXTS = st.lists(TEXT, min_size=2, max_size=6)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


@FEW
@given(texts=TEXTS, budget=st.integers(min_value=50, max_value=400))
def test_it_is_never_over_its_budget_and_never_empty(texts: list[str], budget: int) -> None:
    made = summary(texts, budget)
    assert made.strip()
    assert count_tokens(made) <= budget
    assert len(made.encode()) <= CONTENT_MAX_BYTES


@FEW
@example(texts=["Deploy.", "Deploy. Deploy. §3."], budget=50)
@given(texts=TEXTS, budget=st.integers(min_value=50, max_value=400))
def test_it_is_sentences_of_the_sources_word_for_word_in_their_order(texts: list[str], budget: int) -> None:
    lines = summary(texts, budget).split("\n")
    at = 0
    for line in lines:
        at = next(n for n in range(at, len(texts)) if _is_made_of(line, texts[n])) + 1
    assert at <= len(texts)


def _is_made_of(line: str, text: str) -> bool:
    """Whether a line is some of the text's sentences in their order, or the beginning of one."""
    rests = {line}  # what may be left of it: a sentence that could be taken need not have been
    for sentence in sentences_of(text):
        if sentence in rests:
            return True
        rests |= {rest[len(sentence) + 1 :] for rest in rests if rest.startswith(sentence + " ")}
    return text.strip().startswith(line) or any(s.startswith(rest) for s in sentences_of(text) for rest in rests)


@FEW
@given(texts=TEXTS, budget=st.integers(min_value=50, max_value=400))
def test_it_is_the_same_every_time(texts: list[str], budget: int) -> None:
    assert summary(texts, budget) == summary(list(texts), budget)


def test_every_source_is_heard_where_the_budget_allows() -> None:
    made = summary([DEPLOYS, CACHE, COFFEE], 50)
    assert COFFEE in made
    assert any(sentence in made for sentence in sentences_of(DEPLOYS))
    assert any(sentence in made for sentence in sentences_of(CACHE))
    assert [line.split()[0] for line in made.splitlines()][-1] == "The"


def test_many_sources_are_covered_by_short_sentences_where_the_good_ones_do_not_all_fit() -> None:
    long = (
        "The quarterly report of the deployment team says that releases, caches and deploys were slow in every region."
    )
    texts = [f"{long} Unit {number} agrees." for number in range(10)]
    made = summary(texts, 75)
    assert count_tokens(made) <= 75
    assert len(made.splitlines()) == 10


def test_what_is_said_twice_is_told_once() -> None:
    again = "deploys on FRIDAYS  fail more often. Deploys on fridays fail more often!"
    assert summary([DEPLOYS, again, CACHE], 400).casefold().count("fridays") == 1


def test_everything_that_fits_and_differs_is_there() -> None:
    made = summary([DEPLOYS, CACHE], 400)
    assert made == f"{DEPLOYS}\n{CACHE}"


def test_what_is_not_about_the_matter_goes_first() -> None:
    first = "Bo ate a bowl of soup in the garden of the office and read the newspaper until half past two o'clock."
    cause = "The deploy of the checkout failed because the cache of the checkout was cold during the whole deploy."
    again = "The next deploy of the checkout failed too: the cache of the checkout was cold again during the deploy."
    made = summary([f"{first} {cause}", again], 55)
    assert made == f"{cause}\n{again}"


def test_where_no_sentence_fits_it_is_the_beginning_of_the_first() -> None:
    endless = "word " * 500
    made = summary([endless, endless.upper()], 50)
    assert endless.startswith(made)
    assert 40 <= count_tokens(made) <= 50
    assert made.endswith("word")


def test_a_large_input_is_soon_done_and_within_bounds() -> None:
    text = " ".join(f"Service {n} of region {n % 7} was slow on day {n % 31}." for n in range(1_200))
    made = summary([text, text.replace("slow", "down"), COFFEE], 2_000)
    assert 500 < count_tokens(made) <= 2_000
    assert COFFEE in made


HOSTILE = {
    "one-letter sentences": "A. " * 21_800,
    "dots": "a." * 32_768,
    "nothing but dots": "." * 65_536,
    "dots and spaces": "... " * 16_384,
    "nothing that ends": " ".join(f"w{n}" for n in range(9_500)),
    "one word": "a" * 65_536,
    "empty lines": "\n" * 65_535 + "a",
    "brackets": "(" * 65_536,
    "a wide gap before brackets": "." + " " * 32_000 + "(" * 32_000,
    "quotes": '."' * 32_768,
    "abbreviations": "e.g. B " * 9_300,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_texts_made_to_be_slow_are_soon_done(text: str) -> None:
    begun = time.thread_time()
    assert len(sentences_of(text)) <= SENTENCES
    assert count_tokens(summary([text, COFFEE], 400)) <= 400
    assert time.thread_time() - begun < 5  # they take some hundredths of a second


def test_no_more_sentences_are_looked_for_than_are_wanted() -> None:
    assert sentences_of("One. Two. Three.", 2) == ["One.", "Two."]
    many = " ".join(f"Number {n} is here." for n in range(3 * SENTENCES))
    assert len(sentences_of(many)) == SENTENCES
    assert "Number 100 " not in summary([many], 8_000, among=SENTENCES // 100)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        (
            "It is approx. Ten (approx. Ten) of subapprox. Ten.",
            ["It is approx. Ten (approx. Ten) of subapprox.", "Ten."],
        ),
        ("See e.g. Berlin. Dr. Who came.", ["See e.g. Berlin.", "Dr. Who came."]),
        ('He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
        ("- first\n- second\n\n", ["- first", "- second"]),
        ("Version 1.2.3 is out. It works.", ["Version 1.2.3 is out.", "It works."]),
        ("東京は雨。大阪は晴れ。", ["東京は雨。", "大阪は晴れ。"]),
        ("lower case follows. not a new one.", ["lower case follows. not a new one."]),
        (" \u200b \n", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences


def test_a_beginning_ends_at_a_word() -> None:
    assert beginning("alpha beta gamma", 2) in {"alpha", "alpha beta"}
    assert beginning("alpha beta", 50) == "alpha beta"
