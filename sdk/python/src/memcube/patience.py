"""How long to keep trying, and how long to pause between two attempts."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Retries are bounded by time, never by a count. All values in seconds.

    total: from the first attempt to the start of the last one; 0 means one attempt.
    first_pause, longest_pause: pauses double from one to the other; each is drawn between its half and its whole,
    so that many clients do not return at once. A server's Retry-After is honoured where it is longer.
    """

    total: float = 30.0
    first_pause: float = 0.1
    longest_pause: float = 5.0

    def __post_init__(self) -> None:
        if self.total < 0 or not 0 < self.first_pause <= self.longest_pause:
            raise ValueError("patience: total must be ≥ 0 and 0 < first_pause ≤ longest_pause")

    def pause(self, attempt: int, after: float | None = None) -> float:
        """Seconds to wait after the n-th failed attempt (from 1), at least `after`."""
        whole = min(self.longest_pause, self.first_pause * 2.0 ** min(attempt - 1, 30))
        drawn = random.SystemRandom().uniform(whole / 2, whole)
        return max(drawn, after or 0.0)
