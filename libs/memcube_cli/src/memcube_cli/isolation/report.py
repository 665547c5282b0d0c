"""What an attack has tried, what it found, and what it could not try."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["leak", "broken control"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as promised. `seen` describes it without quoting anybody's content.

    leak: something was read, changed or told that must not be. broken control: something that must work did not,
    or answered otherwise than it must.
    """

    kind: Kind
    road: str
    operation: str
    principal: str
    seen: str


@dataclass(frozen=True, slots=True)
class Untried:
    """Something no attempt was made at, and why."""

    road: str
    operation: str
    why: str


@dataclass(slots=True)
class Report:
    """Attempts per road, and everything that is not as promised."""

    attempts: Counter[str] = field(default_factory=Counter[str])
    findings: list[Finding] = field(default_factory=list[Finding])
    untried: list[Untried] = field(default_factory=list[Untried])

    def tried(self, road: str, many: int = 1) -> None:
        """Count attempts."""
        self.attempts[road] += many

    def leak(self, road: str, operation: str, principal: str, seen: str) -> None:
        """Something went across."""
        self.findings.append(Finding("leak", road, operation, principal, seen))

    def broken(self, road: str, operation: str, principal: str, seen: str) -> None:
        """Something that must work did not."""
        self.findings.append(Finding("broken control", road, operation, principal, seen))

    def could_not(self, road: str, operation: str, why: str) -> None:
        """Something was not tried."""
        self.untried.append(Untried(road, operation, why))

    @property
    def total(self) -> int:
        """Attempts over all roads."""
        return sum(self.attempts.values())

    def as_json(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return {
            "attempts": dict(self.attempts),
            "total": self.total,
            "leaks": [_shown(one) for one in self.findings if one.kind == "leak"],
            "broken_controls": [_shown(one) for one in self.findings if one.kind == "broken control"],
            "could_not_try": [{"road": one.road, "operation": one.operation, "why": one.why} for one in self.untried],
        }


def _shown(one: Finding) -> dict[str, str]:
    return {"road": one.road, "operation": one.operation, "principal": one.principal, "seen": one.seen}
