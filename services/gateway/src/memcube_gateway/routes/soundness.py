"""What a JSON body may not hold wherever it stands, in fields that no model looks at too."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, cast

from memcube_common.contracts.fields import INTEGER_LIMIT
from memcube_common.errors import FieldError

DEPTH_MAX: Final = 64
FAULTS_MAX: Final = 10
NAME_LENGTH: Final = 200

INTEGER_DIGITS: Final = len(str(INTEGER_LIMIT))

_UNFIT_CHARACTER: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def faults_of(body: bytes) -> list[FieldError]:
    """What is wrong with a body that is JSON as such: at most ten places, none where it is sound.

    Refused are a name twice in one object (readers differ in which they take), more than 64 levels, integers beyond 64
    bits and numbers that are not finite (they would come back as others), NUL and lone surrogates (no text column keeps
    them). Values are looked at one by one only where there is reason to.
    """
    repeated: list[str] = []
    suspect: list[str] = []

    def built(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs) and not repeated:
            repeated.append(_repeated(pairs))
        return made

    def whole(text: str) -> int:
        if len(text) >= INTEGER_DIGITS:
            suspect.append(text)
        return int(text)

    def broken(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            suspect.append(text)
        return number

    try:
        value: object = json.loads(
            body, object_pairs_hook=built, parse_int=whole, parse_float=broken, parse_constant=broken
        )
    except RecursionError:
        return [_too_deep()]
    except ValueError:  # as for an integer of more than 4,300 digits, which Python does not read
        return [FieldError("body", "must be JSON that every reader understands")]
    if repeated:
        return [FieldError(_printable(repeated[0]), "must not stand twice in one object")]
    if _is_deeper(value, DEPTH_MAX):
        return [_too_deep()]
    if suspect or (b"\\u" in body and _UNFIT_CHARACTER.search(body)):
        return list(islice(_faults(value), FAULTS_MAX))
    return []


def surrogates_of(body: bytes) -> list[FieldError]:
    """Where a body that is JSON but for lone surrogates has them; none where something else is wrong with it."""
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return list(islice((fault for fault in _faults(value) if "surrogates" in fault.message), FAULTS_MAX))


def _faults(value: object) -> Iterator[FieldError]:
    stack: list[tuple[tuple[str, ...], object]] = [((), value)]
    while stack:
        path, inner = stack.pop()
        match inner:
            case str():
                wrong = _wrong_with_text(inner)
            case bool():
                wrong = None
            case int():
                wrong = None if -INTEGER_LIMIT <= inner < INTEGER_LIMIT else "integers must fit in 64 bits"
            case float():
                wrong = None if math.isfinite(inner) else "numbers must be finite"
            case dict():
                wrong = None
                for name, held in cast("dict[str, object]", inner).items():
                    if (wrong_name := _wrong_with_text(name)) is None:
                        stack.append(((*path, name), held))
                    else:
                        wrong = wrong_name
            case list():
                wrong = None
                stack.extend(((*path, str(at)), held) for at, held in enumerate(cast("list[object]", inner)))
            case _:
                wrong = None
        if wrong is not None:
            yield FieldError(".".join(path)[:NAME_LENGTH] or "body", wrong)


def _wrong_with_text(text: str) -> str | None:
    if "\x00" in text:
        return "must not contain NUL characters"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must not contain lone surrogates"
    return None


def _is_deeper(value: object, levels: int) -> bool:
    """Whether `value` is nested more than `levels` deep; level by level, since it may be wide."""
    level: list[object] = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _repeated(pairs: list[tuple[str, object]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return "body"


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:NAME_LENGTH]) or "body"


def _too_deep() -> FieldError:
    return FieldError("body", f"must be nested at most {DEPTH_MAX} deep")
