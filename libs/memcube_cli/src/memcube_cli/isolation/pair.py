"""Two tenants alike in everything but their project: who is there, and ids that follow from the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from memcube_common.ids import new_id

HANDLES: Final[Mapping[str, str]] = {
    "olga": "OWNER",
    "adam": "ADMIN",
    "mia": "MEMBER",
    "max": "MEMBER",
    "ada": "AGENT",
    "bob": "AGENT",
    "vic": "VIEWER",
}
GENERATION: Final = 32_000


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tenants of one run, `a` and `b`, and a third name nobody has, `c`; ids follow from `run`."""

    run: UUID
    a: str
    b: str
    c: str

    @classmethod
    def fresh(cls) -> Pair:
        """A pair nobody has seen."""
        run = new_id()
        return cls(run, *(f"verify-{letter}-{run.hex[-10:]}" for letter in "abc"))

    def id(self, *what: str) -> str:
        """The id that belongs to `what`, always the same in one run."""
        return str(uuid5(self.run, "/".join(what)))

    def hash(self, *what: str) -> str:
        """64 hexadecimal digits that belong to `what`."""
        return hashlib.sha256(f"{self.run}/{'/'.join(what)}".encode()).hexdigest()

    def number(self, *what: str) -> int:
        """A number that belongs to `what`, far above any sequence in use."""
        return (1 << 61) + int(self.hash(*what)[:12], 16)


def ago(**by: float) -> str:
    """The time so long ago, as it is written."""
    return (datetime.now(UTC) - timedelta(**by)).isoformat()
