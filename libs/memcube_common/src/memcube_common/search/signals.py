"""What a question tells besides its words: the times it speaks of, what kind of answer it wants, whom it names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from memcube_common.search.times import Span, spans_of

_WANTS_TIME: Final = re.compile(
    r"\s*(?:when|what (?:date|day|year|month|time)|how long|how many (?:days|weeks|months|years))\b", re.IGNORECASE
)
_WANTS_NUMBER: Final = re.compile(r"\bhow (?:many|much|old|long|often)\b", re.IGNORECASE)
_WORD: Final = re.compile(r"\b[^\W\d_][\w-]+")
_NAMES_MAX: Final = 8
_SLACK_MIN: Final = timedelta(days=2)
_SLACK_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Signals:
    """spans: when a memory should have been made. wants_time, wants_number: what the answer should tell."""

    now: datetime
    spans: tuple[Span, ...] = ()
    wants_time: bool = False
    wants_number: bool = False

    def is_timely(self, made_at: datetime) -> bool:
        """Whether a memory was made in a time the question speaks of, or soon after, when people still talk of it."""
        return any(span.holds(made_at) for span in self.spans)


def signals_of(text: str | None, now: datetime) -> Signals:
    """What can be read off a question asked at `now`."""
    if text is None:
        return Signals(now)
    spans = (Span(s.start, s.end + max(_SLACK_MIN, (s.end - s.start) * _SLACK_SHARE)) for s in spans_of(text, now))
    return Signals(now, tuple(spans), bool(_WANTS_TIME.match(text)), bool(_WANTS_NUMBER.search(text)))


def written_as_names(text: str) -> list[str]:
    """The words of a question that begin with a capital, its first word too; at most 8."""
    return list(dict.fromkeys(word for _, word in _capitalised(text)))[:_NAMES_MAX]


def names_in(text: str) -> list[str]:
    """The same without a word that begins the question, which proves nothing."""
    return list(dict.fromkeys(word for start, word in _capitalised(text) if start > 0))[:_NAMES_MAX]


def without_names(text: str, names: Collection[str]) -> str:
    """The question without `names`: what stands nearly everywhere tells words apart, but blurs a question's meaning.

    Where hardly anything would be left, the question as it is.
    """
    if not names:
        return text
    some = "|".join(re.escape(name) for name in names)
    bare = " ".join(re.sub(rf"\b(?:{some})(?:['’]s)?(?!\w)", " ", text).split())
    return bare if sum(character.isalnum() for character in bare) >= 12 else text


def _capitalised(text: str) -> Iterator[tuple[int, str]]:
    return ((match.start(), match.group()) for match in _WORD.finditer(text) if match.group()[0].isupper())
