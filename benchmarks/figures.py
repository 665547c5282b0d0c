"""What a benchmark says: figures with their raw limits and budgets, and under which load they were taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Budget(BaseModel):
    """What a figure is held against: `mark` names the budget, `least` or `most` says which side of `at` is good."""

    model_config = ConfigDict(frozen=True)

    mark: str
    wants: Literal["least", "most"]
    at: float

    def is_met(self, value: float) -> bool:
        """Whether `value` is on the good side."""
        return value >= self.at if self.wants == "least" else value <= self.at

    def __str__(self) -> str:
        return f"{self.mark}: {'≥' if self.wants == 'least' else '≤'} {number(self.at)}"


class Figure(BaseModel):
    """One number in `unit`; `limit` is the raw limit of the same run in the same unit, `limit_of` says of what."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    unit: str
    limit: float | None = None
    limit_of: str = ""
    budgets: tuple[Budget, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How many times the raw limit this is; of a rate the share reached, of a time the factor paid."""
        return None if not self.limit else self.value / self.limit


class Outcome(BaseModel):
    """What one benchmark found, and the circumstances: without them a figure means nothing."""

    model_config = ConfigDict(frozen=True)

    name: str
    method: str
    at: datetime
    seed: int
    scale: float
    load: str
    seconds: float
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str | None = None
    failed: str | None = None


def least(mark: str, at: float) -> Budget:
    """A budget that asks for at least `at`."""
    return Budget(mark=mark, wants="least", at=at)


def most(mark: str, at: float) -> Budget:
    """A budget that allows at most `at`."""
    return Budget(mark=mark, wants="most", at=at)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `share` (0 … 1) of the values do not exceed."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def number(value: float) -> str:
    """A number with as many digits as it deserves: 3,214 · 87.1 · 4.25 · 0.997."""
    if math.isnan(value):
        return "–"
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 20 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
