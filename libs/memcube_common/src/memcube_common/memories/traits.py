"""How a text reads, as far as it helps to find it: whether it asks, tells a time, tells a number. English."""

from __future__ import annotations

import re
from typing import Final

ASKS: Final = 1
TELLS_TIME: Final = 2
TELLS_NUMBER: Final = 4
OWN_LABEL: Final = 8
"""Set by the database: the label is not just the text's beginning."""
UNTRUSTED: Final = 16
"""Kept by the database with `trust`."""

READ_MAX: Final = 4_096
"""Characters of a text that are looked at."""

_WORD: Final = re.compile(r"\w+")
_DIGIT: Final = re.compile(r"\d")
# fmt: off
_TIMES: Final = frozenset({
    "yesterday", "today", "tomorrow", "tonight", "since", "recently", "weekend", "day", "days", "week", "weeks",
    "month", "months", "year", "years", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
})
_NUMBERS: Final = frozenset({
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "dozen", "couple", "several",
})
# fmt: on
_NEAR: Final = frozenset({"last", "next", "this"})
_MONTHS: Final = "jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec|january|february|march|april|august|september"
_TIME: Final = re.compile(
    rf"""\b(?: last\ (?:night|summer|winter|spring|fall|autumn)
      | (?:next|this)\ (?:morning|afternoon|evening|summer|winter|spring|fall|autumn)
      | (?:{_MONTHS}|october|november|december)\.?\ \d{{1,2}}
      | \d{{1,2}}(?:st|nd|rd|th) | \d{{4}}-\d\d-\d\d | (?:19|20)\d\d )\b""",
    re.VERBOSE,
)


def traits_of(text: str) -> int:
    """The traits of a text as a sum of ASKS, TELLS_TIME and TELLS_NUMBER."""
    begins = text[:READ_MAX].lower()
    words = set(_WORD.findall(begins))
    has_digit = _DIGIT.search(begins) is not None
    asks = text.rstrip(" \t\r\n\"')").endswith("?")
    # Looked for word by word only where a word or a digit promises something: most texts have neither.
    tells_time = bool(words & _TIMES) or ((has_digit or bool(words & _NEAR)) and _TIME.search(begins) is not None)
    tells_number = has_digit or bool(words & _NUMBERS)
    return (ASKS if asks else 0) | (TELLS_TIME if tells_time else 0) | (TELLS_NUMBER if tells_number else 0)
