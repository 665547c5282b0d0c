"""What any language model promises: insights out of messages, one text out of several, and what its failures mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a conversation: who said what, and when."""

    role: str
    content: str
    name: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """One thing worth remembering, within the limits of an insight: text of 1 byte to 64 KiB, label, at most 64 tags.

    kind: what it is in a word (fact, preference, decision, task, event). confidence: 0 … 1, as the model states it.
    pii_kinds: what screening found in it.
    """

    text: str
    label: str | None
    tags: tuple[str, ...]
    kind: str
    confidence: float
    pii_kinds: tuple[str, ...] = ()


class LanguageUnavailable(Exception):
    """The model did not answer usably; ask again after `after` seconds. Says why in `detail`, never what was sent."""

    def __init__(self, detail: str, *, after: float = 0.0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.after = after


class LanguageRefused(Exception):
    """The model will never answer this. Says why in `reason`, never what was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LanguageModel(Protocol):
    """A language model. What governance marks `confidential` must never be handed to one: that is its caller's part."""

    @property
    def name(self) -> str:
        """The model, as it is asked for."""
        ...

    async def extract(self, messages: Sequence[Said]) -> list[Extracted]:
        """What is worth remembering of `messages`, in order; an empty list where nothing is.

        Raises LanguageUnavailable (ask again later) and LanguageRefused (never).
        """
        ...

    async def summarise(self, texts: Sequence[str], instructions: str) -> str:
        """One text that says what `texts` say, made as `instructions` ask; never blank, at most 64 KiB of UTF-8.

        Raises LanguageUnavailable (ask again later) and LanguageRefused (never).
        """
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...
