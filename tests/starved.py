"""How long this thread had work and no processor: what a deadline allows for on a machine that is busy elsewhere."""

from __future__ import annotations

import contextlib
from pathlib import Path

_RUN_QUEUE = Path("/proc/thread-self/schedstat")


def starved() -> float:
    """Seconds since the thread began, to be taken off what something took; 0 where the system does not say.

    From Linux' schedstat (Documentation/scheduler/sched-stats): nanoseconds spent waiting on a run queue. What the
    thread computes or waits for itself is not in it.
    """
    with contextlib.suppress(OSError):
        return int(_RUN_QUEUE.read_text().split()[1]) / 1e9
    return 0.0
