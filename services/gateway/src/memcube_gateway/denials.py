"""Attempts that were refused: counted in memory, written to the project's events every few seconds."""

from __future__ import annotations

from collections import Counter
from typing import Final

from memcube_gateway.admission import Caller

KINDS_MAX: Final = 10_000


class Denials:
    """How often whom was refused what, since it was last taken; at most `most` kinds, later ones are left out."""

    def __init__(self, *, most: int = KINDS_MAX) -> None:
        self._most = most
        self._counted: Counter[tuple[str, str, str, str]] = Counter()

    def note(self, caller: Caller, action: str) -> None:
        """`caller` was refused `action` ('PATCH /v1/…')."""
        kind = (caller.project, caller.handle, caller.principal.source, action)
        if kind in self._counted or len(self._counted) < self._most:
            self._counted[kind] += 1

    def take(self) -> dict[str, list[tuple[str, str, str, int]]]:
        """What was counted, by project: handle, source, action, attempts."""
        taken: dict[str, list[tuple[str, str, str, int]]] = {}
        for (project, handle, source, action), attempts in self._counted.items():
            taken.setdefault(project, []).append((handle, source, action, attempts))
        self._counted.clear()
        return taken
