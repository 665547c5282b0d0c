"""SQL as text in a file: each statement named and described, each prepared by a test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

_HEADER = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: its name, what it is for, and its text with $1, $2 … as parameters."""

    name: str
    about: str
    sql: str


class Statements:
    """The statements of one `queries.sql`, by name.

    Raises ValueError for a repeated name, a statement without a description, and text outside any statement.
    """

    def __init__(self, package: str | None, filename: str = "queries.sql") -> None:
        if package is None:
            raise ValueError("statements lie beside a package's modules")
        self.source = f"{package}/{filename}"
        self._by_name = {s.name: s for s in _parse((files(package) / filename).read_text(), self.source)}

    def __getitem__(self, name: str) -> Statement:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._by_name.values())


def _parse(text: str, source: str) -> Iterator[Statement]:
    headers = list(_HEADER.finditer(text))
    if not headers or text[: headers[0].start()].strip():
        raise ValueError(f"{source}: must begin with '-- name: …'")
    seen: set[str] = set()
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        name = header["name"]
        body = text[header.end() : following.start() if following else len(text)].strip()
        about: list[str] = []
        lines = body.splitlines()
        while lines and lines[0].startswith("--"):
            about.append(lines.pop(0).removeprefix("--").strip())
        if name in seen:
            raise ValueError(f"{source}: {name} stands twice")
        if not about or not lines:
            raise ValueError(f"{source}: {name} needs a description and a statement")
        seen.add(name)
        yield Statement(name, " ".join(about), "\n".join(lines).rstrip(";\n "))
