"""A clock that tests turn by hand."""

from __future__ import annotations

from memcube_gateway.limits import SECOND


class Clock:
    """Monotonic nanoseconds that stand still until told otherwise."""

    def __init__(self) -> None:
        self.now = 10**15

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)
