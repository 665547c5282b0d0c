"""Everything somebody wrote in one body, screened at once: what every road into the house calls before it stores."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar, cast

from pydantic import BaseModel, JsonValue

from memcube_common.contracts.fields import (
    CONTENT_MAX_BYTES,
    METADATA_MAX_BYTES,
    Governance,
    Screening,
    checked_json,
)
from memcube_common.errors import FieldError, Invalid
from memcube_common.screening.people import Proofs
from memcube_common.screening.text import screen
from memcube_common.screening.threads import ScreeningThreads

M = TypeVar("M", bound=BaseModel)

TEXTS: Final = ("content", "insight")
NAMES: Final[Mapping[str, int]] = {"label": 200, "name": 200, "description": 2_000, "kv_hint": 512}
LISTS: Final[Mapping[str, int]] = {"tags": 64, "evidence_refs": 512}
PARTS: Final = ("messages",)
WRITTEN: Final = frozenset((*TEXTS, *NAMES, *LISTS, *PARTS, "metadata"))
KINDS_MOST: Final = 64
INLINE_MOST: Final = 4 * 1024
"""Characters that are screened on the event loop (about a millisecond); more goes to a thread."""


class Screener:
    """Screens piece by piece, and remembers in `kinds` what it found."""

    def __init__(self, how: Screening) -> None:
        self.how: Screening = how
        self.kinds: set[str] = set()
        self._proofs = Proofs()

    def text(self, text: str, *, longest: int | None = None) -> str:
        """A text as it may be stored; cut to `longest` characters, since a mark may be longer than what it replaces."""
        screened = screen(text, self.how, self._proofs)
        self.kinds.update(screened.kinds)
        return screened.text[:longest]

    def texts(self, texts: Sequence[str], *, longest: int) -> list[str]:
        """Each of them; those that become the same once."""
        return list(dict.fromkeys(self.text(one, longest=longest) for one in texts))

    def json(self, value: JsonValue) -> JsonValue:
        """Every string of a JSON value, names too; two names that become one are numbered."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.json(one) for one in value]
        if not isinstance(value, dict):
            return value
        made: dict[str, JsonValue] = {}
        for name, inner in value.items():
            screened = named = self.text(name)
            number = 2
            while named in made:
                named, number = f"{screened} {number}", number + 1
            made[named] = self.json(inner)
        return made

    def metadata(self, metadata: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Raises Invalid where it is over its limit once it is redacted."""
        screened = cast("dict[str, JsonValue]", self.json(dict(metadata)))
        try:
            return checked_json(screened)
        except ValueError:
            fault = FieldError("metadata", f"is over {METADATA_MAX_BYTES} bytes once redacted")
            raise Invalid(errors=[fault]) from None

    def content(self, text: str, field: str = "content") -> str:
        """Raises Invalid where it is over its limit once it is redacted."""
        screened = self.text(text)
        if len(screened) > len(text) and len(screened.encode()) > CONTENT_MAX_BYTES:
            raise Invalid(errors=[FieldError(field, f"is over {CONTENT_MAX_BYTES} bytes once redacted")])
        return screened

    def body(self, body: M) -> M:
        """A body of the contract with what somebody wrote in it screened; its governance is left as it is."""
        changed: dict[str, object] = {}
        for name in type(body).model_fields:
            value: object = getattr(body, name)
            match value:
                case str() if name in TEXTS:
                    changed[name] = self.content(value, name)
                case str() if name in NAMES:
                    changed[name] = self.text(value, longest=NAMES[name])
                case list() if name in LISTS:
                    changed[name] = self.texts(cast("list[str]", value), longest=LISTS[name])
                case dict() if name == "metadata":
                    changed[name] = self.metadata(cast("dict[str, JsonValue]", value))
                case list() if name in PARTS:
                    changed[name] = [self.body(part) for part in cast("list[BaseModel]", value)]
                case _:
                    pass
        return body.model_copy(update={name: new for name, new in changed.items() if new != getattr(body, name)})


def marked(governance: Governance | None, kinds: Collection[str]) -> Governance | None:
    """`governance`, or the defaults, with `kinds` added to what it marks; itself where there are none."""
    if not kinds:
        return governance
    given = governance or Governance()
    both = list(dict.fromkeys((*given.pii_kinds, *sorted(kinds))))[:KINDS_MOST]
    return given.model_copy(update={"pii_tagged": True, "pii_kinds": both})


def screen_writing(body: M, how: Screening) -> M:
    """A body that makes something, as it may be stored, and marked in its governance with what was found.

    Names that grow over their limit are cut; raises Invalid where content or metadata do.
    """
    screened, kinds = screen_change(body, how)
    return _marked_body(screened, kinds)


def _marked_body(body: M, kinds: Collection[str]) -> M:
    if not kinds or "governance" not in type(body).model_fields:
        return body
    given: object = getattr(body, "governance", None)
    if given is not None and not isinstance(given, Governance):
        return body
    return body.model_copy(update={"governance": marked(given, kinds)})


def screen_change(body: M, how: Screening) -> tuple[M, set[str]]:
    """A body that changes something, as it may be stored, and the kinds that were found. Raises Invalid."""
    if how == "off":
        return body, set()
    screener = Screener(how)
    return screener.body(body), screener.kinds


def screen_message(body: bytes, how: Screening) -> bytes:
    """A message that could not be kept, as it may be set aside: its strings where it is JSON, and then as text.

    As text too, since of a name that stands twice in one object only the last value is read.
    """
    if how != "redact":
        return body
    screener = Screener(how)
    try:
        value: JsonValue = json.loads(body)
        screened = json.dumps(screener.json(value), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        screened = body
    if not screener.kinds:
        screened = screener.text(body.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    return screened if screener.kinds else body


async def screen_writing_soon(
    bodies: Sequence[M], how: Screening, threads: ScreeningThreads, *, within: float
) -> list[M]:
    """`screen_writing` of each, in a thread and for at most `within` seconds where they are long together.

    Raises Invalid, TryAgain where the seconds are over, TooLarge where it costs more than a request may.
    """
    if how == "off":
        return list(bodies)
    if size_of(bodies, INLINE_MOST) <= INLINE_MOST:
        return [screen_writing(body, how) for body in bodies]
    pieces: list[Callable[[], tuple[BaseModel, set[str]]]] = []
    for body in bodies:
        pieces += (partial(screen_change, part, how) for part in _parts(body))
        pieces.append(partial(screen_change, _without_parts(body), how))
    screened = iter(await threads.each(pieces, within=within))
    return [_together(body, screened) for body in bodies]


async def screen_change_soon(
    body: M, how: Screening, threads: ScreeningThreads, *, within: float
) -> tuple[M, set[str]]:
    """`screen_change`, in a thread where it is long. Raises as `screen_writing_soon` does."""
    if how == "off" or size_of([body], INLINE_MOST) <= INLINE_MOST:
        return screen_change(body, how)
    return (await threads.each([partial(screen_change, body, how)], within=within))[0]


async def screen_content_soon(
    text: str, how: Screening, threads: ScreeningThreads, *, within: float
) -> tuple[str, set[str]]:
    """A content as it may be stored, and the kinds found, in a thread where it is long. Raises as the others do."""
    if how == "off":
        return text, set()
    screener = Screener(how)
    if len(text) <= INLINE_MOST:
        return screener.content(text), screener.kinds
    return (await threads.each([partial(screener.content, text)], within=within))[0], screener.kinds


def size_of(bodies: Sequence[BaseModel], most: int) -> int:
    """How many characters there are to screen; no further than it takes to know that they are more than `most`."""
    size = 0
    for text in (text for body in bodies for text in _strings(body)):
        size += len(text)
        if size > most:
            break
    return size


def _parts(body: BaseModel) -> list[BaseModel]:
    """The messages of a conversation: each is a piece of its own."""
    return [part for name in PARTS for part in cast("list[BaseModel]", getattr(body, name, ()))]


def _without_parts(body: M) -> M:
    held: dict[str, list[BaseModel]] = {name: [] for name in PARTS if name in type(body).model_fields}
    return body.model_copy(update=held) if held else body


def _together(body: M, screened: Iterator[tuple[BaseModel, set[str]]]) -> M:
    """`body` out of its parts and the rest of it, in the order of the pieces, marked with what was found in any."""
    parts = [next(screened) for _ in _parts(body)]
    rest, kinds = next(screened)
    kinds = kinds.union(*(found for _, found in parts))
    whole = cast("M", rest).model_copy(update={name: [part for part, _ in parts] for name in PARTS if parts})
    return _marked_body(whole, kinds)


def _strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case BaseModel():
            for name in WRITTEN.intersection(type(value).model_fields):
                yield from _strings(getattr(value, name))
        case dict():
            for name, inner in cast("dict[str, object]", value).items():
                yield name
                yield from _strings(inner)
        case list() | tuple():
            for inner in cast("Sequence[object]", value):
                yield from _strings(inner)
        case _:
            pass
