"""What a line of the file says: an insight, a memory, nothing, or something that must be refused."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final, Literal, NoReturn, cast

from pydantic import BaseModel, ValidationError

from memcube_common.contracts.api import ImportedMemory, InsightSubmission
from memcube_common.ids import derive_external, is_project_slug

Kind = Literal["insight", "memory"]

MAX_LINE: Final = 1 << 20  # bytes; the largest valid line, every character escaped, stays below


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number from 1, its place in the file, and its bytes (None where it is longer than allowed)."""

    number: int
    start: int
    end: int
    text: bytes | None


@dataclass(frozen=True, slots=True)
class Item:
    """A line ready to be sent. `ignored`: fields of the line that mean nothing here."""

    line: Line
    kind: Kind
    project: str
    id: str
    body: dict[str, Any]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was not loaded, and why. Never what it held."""

    number: int
    field: str
    reason: str


def read_lines(file: IO[bytes]) -> Iterator[Line]:
    """The lines of `file`; no more than one of them is held at a time, and none beyond MAX_LINE bytes."""
    number = start = 0
    while text := file.readline(MAX_LINE + 1):
        number += 1
        end = start + len(text)
        too_long = len(text) > MAX_LINE
        while too_long and not text.endswith(b"\n") and (text := file.readline(MAX_LINE)):
            end += len(text)
        yield Line(number, start, end, None if too_long else text)
        start = end


def judge(line: Line, *, project: str) -> Item | Refusal | None:
    """What a line is; None for a blank one. `project` is used where the line names none.

    An insight without an id gets a UUIDv7 made of its content and project, so that the same line is the same
    insight whenever it is sent; its time part is zero, because the file does not say when. A memory without an id
    gets one in the same way.
    """
    if line.text is None:
        return Refusal(line.number, "line", f"longer than {MAX_LINE} bytes")
    try:
        text = line.text.decode("utf-8-sig" if line.start == 0 else "utf-8").strip()
        if not text:
            return None
        said: object = json.loads(text, parse_constant=_no_constant)
    except UnicodeDecodeError:
        return Refusal(line.number, "line", "not valid UTF-8")
    except RecursionError:
        return Refusal(line.number, "line", "nested too deeply")
    except json.JSONDecodeError as error:
        return Refusal(line.number, "line", f"not valid JSON at column {error.colno}")
    except ValueError:
        return Refusal(line.number, "line", "not valid JSON: a number out of range")
    if not isinstance(said, dict):
        return Refusal(line.number, "line", "not a JSON object")
    fields = cast("dict[str, Any]", said)
    named = fields.pop("project", None)
    where = project if named is None else named
    if not isinstance(where, str) or not is_project_slug(where):
        return Refusal(line.number, "project", "must be 1-63 characters of a-z, 0-9 and '-'")
    if "insight" in fields and "content" in fields:
        return Refusal(line.number, "content", "a line is an insight or a memory, not both")
    if "insight" in fields:
        return _item(line, "insight", where, InsightSubmission, fields)
    if "content" in fields:
        if fields.get("id") is None:
            fields["id"] = f"line:{_digest(fields)}"
        return _item(line, "memory", where, ImportedMemory, fields)
    return Refusal(line.number, "insight", "a line needs 'insight' or 'content'")


def _item(line: Line, kind: Kind, project: str, model: type[BaseModel], fields: dict[str, Any]) -> Item | Refusal:
    known = {name: value for name, value in fields.items() if name in model.model_fields}
    try:
        body = model.model_validate_json(json.dumps(known)).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in fault["loc"])[:100] or "line"
        return Refusal(line.number, field, fault["msg"].removeprefix("Value error, "))
    if body.get("id") is None:
        body["id"] = str(derive_external(project, f"line:{_digest(body)}"))
    return Item(line, kind, project, body["id"], body, tuple(name for name in fields if name not in known))


def _digest(fields: dict[str, Any]) -> str:
    meant = {name: value for name, value in fields.items() if name != "id"}
    return hashlib.sha256(json.dumps(meant, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _no_constant(_: str) -> NoReturn:
    raise ValueError
