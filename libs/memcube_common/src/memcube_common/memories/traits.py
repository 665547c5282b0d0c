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

_MONTHS: Final = "jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec|january|february|march|april|august|september"
_DAYS: Final = "mon|tues|wednes|thurs|fri|satur|sun"
_TIME: Final = re.compile(
    rf"""\b(?: yesterday | today | tomorrow | tonight | since | recently | weekend | the\ other\ day
      | (?:day|week|month|year)s? | last\ (?:night|summer|winter|spring|fall|autumn)
      | (?:next|this)\ (?:morning|afternoon|evening|summer|winter|spring|fall|autumn)
      | (?:{_DAYS})day | (?:{_MONTHS}|october|november|december)\.?\ \d{{1,2}}
      | \d{{1,2}}(?:st|nd|rd|th) | \d{{4}}-\d\d-\d\d | (?:19|20)\d\d )\b""",
    re.IGNORECASE | re.VERBOSE,
)
_NUMBER: Final = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|dozen|couple|several)\b", re.IGNORECASE
)


def traits_of(text: str) -> int:
    """The traits of a text as a sum of ASKS, TELLS_TIME and TELLS_NUMBER."""
    begins = text[:READ_MAX]
    asks = text.rstrip(" \t\r\n\"')").endswith("?")
    return (
        (ASKS if asks else 0)
        | (TELLS_TIME if _TIME.search(begins) else 0)
        | (TELLS_NUMBER if _NUMBER.search(begins) else 0)
    )
