"""Which time a question speaks of: dates, months, years, and words such as "last week", in English."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NUMBERS: Final = (
    *("one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_MONTH_OF: Final = {name: n for n, full in enumerate(_MONTHS, 1) for name in (full, full[:3])} | {"sept": 9}
_NUMBER_OF: Final = {word: n for n, word in enumerate(_NUMBERS, 1)} | {"a": 1, "an": 1, "couple of": 2, "few": 3}
_MONTH: Final = rf"(?P<month>{'|'.join(sorted(_MONTH_OF, key=len, reverse=True))})\b\.?"
_DAY: Final = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?\b"
_YEAR: Final = r"(?P<year>(?:19|20)\d\d)\b"
_PATTERNS: Final = tuple(
    re.compile(rf"\b{pattern}", re.IGNORECASE)
    for pattern in (
        r"(?P<year>(?:19|20)\d\d)-(?P<month_number>\d{1,2})-(?P<day>\d{1,2})\b",
        r"(?P<day>\d{1,2})[./](?P<month_number>\d{1,2})[./](?P<year>(?:19|20)\d\d)\b",
        rf"{_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?",
        rf"{_MONTH} {_DAY}(?:,? {_YEAR})?",
        rf"{_MONTH},? {_YEAR}",
        rf"(?:in|during|of|since|last|this) {_MONTH}",
        rf"(?:in|during|of|since) {_YEAR}",
        r"(?P<count>\d{1,3}|a|an|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|couple of|few)"
        r" (?P<unit>day|week|month|year)s? ago\b",
        r"(?P<which>last|past|this) (?P<unit>week|weekend|month|year)\b",
        r"(?P<near>yesterday|today|tonight|last night)\b",
    )
)
_PLAIN: Final = str.maketrans("ıİſ", "iIs")
"""Letters that a pattern takes for others in any case, and that stay themselves when made small."""
_YEARS: Final = range(1_000, 9_000)
"""Years seen from which every time that can be spoken of has a date."""
_UNIT_DAYS: Final = {"day": 1, "week": 7, "weekend": 7, "month": 30, "year": 365}


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` up to and without `end`, both with a time zone."""

    start: datetime
    end: datetime

    def holds(self, moment: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.start <= moment < self.end


def spans_of(question: str, now: datetime) -> list[Span]:
    """The times a question speaks of, seen from `now`; what is no date is left out, never refused.

    A month or a day without a year is its last one before `now`. From before the year 1000 or behind 8999 none is seen.
    """
    if now.year not in _YEARS:
        return []
    question = question[:2_000].translate(_PLAIN)
    return list(dict.fromkeys(span for span in _spans(question, now.astimezone(UTC)) if span is not None))


def _spans(question: str, now: datetime) -> Iterator[Span | None]:
    taken: list[tuple[int, int]] = []
    for pattern in _PATTERNS:
        for match in pattern.finditer(question):
            if any(match.start() < end and start < match.end() for start, end in taken):
                continue  # part of a date that said more
            taken.append(match.span())
            yield _span(match.groupdict(), now)


def _span(said: dict[str, str | None], now: datetime) -> Span | None:
    if near := said.get("near"):
        day = _midnight(now) - timedelta(days=0 if near.lower() in {"today", "tonight"} else 1)
        return Span(day, day + timedelta(days=1))
    unit = said.get("unit")
    if unit is not None:
        days = _UNIT_DAYS[unit.lower()]
        if (which := said.get("which")) is not None:
            until = _midnight(now) + timedelta(days=1)
            return Span(until - timedelta(days=days if which.lower() == "this" else 2 * days), until)
        count = said["count"] or "1"
        back = days * (int(count) if count.isdigit() else _NUMBER_OF[count.lower()])
        slack = max(1, days // 2)
        at = _midnight(now) - timedelta(days=min(back, 36_500))
        return Span(at - timedelta(days=slack), at + timedelta(days=slack + 1))
    return _date(said, now)


def _date(said: dict[str, str | None], now: datetime) -> Span | None:
    month = said.get("month")
    number = _MONTH_OF[month.lower()] if month else int(said.get("month_number") or 0)
    year = int(said.get("year") or 0)
    day = int(said.get("day") or 0)
    try:
        if not number:
            return Span(datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))
        if not year:
            year = now.year if datetime(now.year, number, day or 1, tzinfo=UTC) <= now else now.year - 1
        start = datetime(year, number, day or 1, tzinfo=UTC)
    except ValueError:
        return None
    if day:
        return Span(start, start + timedelta(days=1))
    return Span(start, datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC))


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
