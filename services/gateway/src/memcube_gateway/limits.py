"""How often somebody may ask: token buckets per address, credential and project, in the memory of this process.

N gateways therefore allow N times as much; what a project may hold in all is counted in Postgres (quotas).
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from memcube_common.errors import TooManyRequests
from memcube_gateway.arrivals import Arrival
from memcube_gateway.settings import GatewaySettings

SECOND: Final = 1_000_000_000
GOOD_SECONDS: Final = 60
_NOT_LOOKED_AT: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Reading:
    """What one bucket said: requests left at this moment, seconds until it is full, seconds to wait (0: let in)."""

    bucket: Buckets
    left: int
    full_in: float
    after: float = 0.0


class Buckets:
    """Token buckets of one kind: `rate` a second each, `burst` at once, kept for the `remembered` last seen.

    The generic cell rate algorithm in its virtual-scheduling form (ITU-T I.371, ATM Forum Traffic Management 4.0): of
    a bucket only the theoretical arrival time of its next request is kept, in whole nanoseconds, so that in any t
    seconds at most burst + rate * t are let in. A bucket that is forgotten is full again; those not seen for longest
    are forgotten first. clock: monotonic nanoseconds.
    """

    def __init__(self, name: str, *, rate: float, burst: int, remembered: int, clock: Callable[[], int]) -> None:
        self.name = name
        self.policy = f'"{name}";q={burst};w={math.ceil(burst / rate)}'
        self._every = math.ceil(SECOND / rate)
        self._depth = self._every * burst
        self._remembered = remembered
        self._clock = clock
        self._arrivals: OrderedDict[str, int] = OrderedDict()

    def take(self, who: str) -> Reading:
        """Let one request of `who` in, or say how long to wait; a refused one takes nothing."""
        now = self._clock()
        next_arrival = max(self._arrivals.get(who, now), now) + self._every
        over = next_arrival - now - self._depth
        if over > 0:
            return Reading(self, 0, (next_arrival - self._every - now) / SECOND, over / SECOND)
        self._arrivals[who] = next_arrival
        self._arrivals.move_to_end(who)
        if len(self._arrivals) > self._remembered:
            self._arrivals.popitem(last=False)
        return Reading(self, -over // self._every, (next_arrival - now) / SECOND)

    def look(self, who: str) -> Reading:
        """What `take` would say, without taking."""
        now = self._clock()
        full_in = max(self._arrivals.get(who, now), now) - now
        over = full_in + self._every - self._depth
        return Reading(self, max(0, -over // self._every + 1), full_in / SECOND, max(0, over) / SECOND)

    def __len__(self) -> int:
        return len(self._arrivals)


class Limits:
    """All buckets of this process.

    Before anything is looked up: every request counts for its address. One without a credential, and one whose
    credential was refused (401), counts for the address's stricter bucket of strangers too; while that is empty, only
    credentials that were good within the last minute get past, so that guessing from an address does not lock out who
    shares it. After admission: every request counts for its credential and for its project.
    """

    def __init__(self, settings: GatewaySettings, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        def buckets(name: str, rate: float, burst: int) -> Buckets:
            return Buckets(name, rate=rate, burst=burst, remembered=settings.limits_remembered, clock=clock)

        self._clock = clock
        self._addresses = buckets("address", settings.address_rate, settings.address_burst)
        self._strangers = buckets("stranger", settings.stranger_rate, settings.stranger_burst)
        self._credentials = buckets("key", settings.key_rate, settings.key_burst)
        self._projects = buckets("project", settings.project_rate, settings.project_burst)
        self._remembered = settings.limits_remembered
        self._good: OrderedDict[bytes, int] = OrderedDict()

    def arrive(self, arrival: Arrival, *, preflight: bool = False) -> None:
        """A request is at the door; a browser's preflight never shows a credential. Raises TooManyRequests."""
        _pass(arrival, self._addresses.take(arrival.network))
        if preflight:
            return
        if arrival.credential is None:
            _pass(arrival, self._strangers.take(arrival.network))
        elif not self._was_good(arrival.credential):
            _pass(arrival, self._strangers.look(arrival.network))

    def admit(self, arrival: Arrival, *, credential: str, project: str) -> None:
        """The door knows whose request it is; `project` is empty for an account in none. Raises TooManyRequests."""
        arrival.admitted = True
        arrival.readings.append(self._credentials.take(credential))
        if project:
            arrival.readings.append(self._projects.take(project))
        for reading in arrival.readings:
            _refuse_if_over(reading)

    def leave(self, arrival: Arrival, status: int) -> None:
        """The request is answered: a refused credential is counted, a good one remembered.

        One that let nobody in, because nobody asked for it or it opens another project, counts as none at all.
        """
        if arrival.credential is None:
            return
        if status == 401:
            self._good.pop(arrival.credential, None)
            self._strangers.take(arrival.network)
        elif not arrival.admitted and status not in _NOT_LOOKED_AT:
            self._strangers.take(arrival.network)
        elif arrival.admitted:
            self._good[arrival.credential] = self._clock()
            self._good.move_to_end(arrival.credential)
            if len(self._good) > self._remembered:
                self._good.popitem(last=False)

    def _was_good(self, credential: bytes) -> bool:
        seen = self._good.get(credential)
        return seen is not None and self._clock() - seen <= GOOD_SECONDS * SECOND


def headers(readings: Sequence[Reading]) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): what is allowed, what is left.

    q requests are let in at once, and in w seconds an empty bucket is full again; r are left, full in t seconds.
    """
    if not readings:
        return []
    policies = ", ".join(reading.bucket.policy for reading in readings)
    states = ", ".join(f'"{r.bucket.name}";r={r.left};t={math.ceil(r.full_in)}' for r in readings)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", states.encode())]


def _pass(arrival: Arrival, reading: Reading) -> None:
    if reading.after > 0:
        arrival.readings[:] = [reading]
    _refuse_if_over(reading)


def _refuse_if_over(reading: Reading) -> None:
    if reading.after > 0:
        raise TooManyRequests(f"Too many requests for this {reading.bucket.name}; slow down.", after=reading.after)
