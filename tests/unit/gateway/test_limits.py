"""Token buckets: never more than they allow, nobody slowed by a neighbour, bounded memory, headers that add up."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.unit.gateway.clock import Clock

from memcube_common.errors import TooManyRequests
from memcube_gateway.arrivals import Arrival
from memcube_gateway.limits import Buckets, Limits, headers
from memcube_gateway.settings import GatewaySettings


def buckets(clock: Clock, *, rate: float = 100, burst: int = 50, remembered: int = 1_000) -> Buckets:
    return Buckets("key", rate=rate, burst=burst, remembered=remembered, clock=clock)


def limits(clock: Clock, **rates: Any) -> Limits:
    return Limits(GatewaySettings.model_construct(**rates), clock=clock)


def arriving(limits: Limits, *, network: str = "192.0.2.1", credential: bytes | None = b"key") -> Arrival:
    return Arrival(limits, network, network, https=False, origin=None, credential=credential)


@pytest.mark.parametrize(("rate", "burst"), [(1, 1), (3, 1), (7, 20), (100, 50), (2_000, 4_000), (0.5, 3)])
def test_ten_times_as_many_as_allowed_do_not_get_more_than_two_percent_beyond(rate: float, burst: int) -> None:
    clock, seconds = Clock(), max(10.0, 20 / rate)
    one = buckets(clock, rate=rate, burst=burst)
    let_in, asked = 0, int(10 * (rate * seconds + burst))

    for _ in range(asked):
        let_in += one.take("a").after == 0
        clock.forward(seconds / asked)

    allowed = burst + rate * seconds
    assert 0.85 * allowed <= let_in <= 1.02 * allowed  # a bucket of one waits for the next request to come by


def test_ten_bursts_at_one_moment_let_one_burst_in() -> None:
    one = buckets(Clock(), rate=100, burst=50)

    assert sum(one.take("a").after == 0 for _ in range(500)) == 50


def test_whoever_keeps_to_the_rate_is_never_refused_and_whoever_waits_as_told_gets_in() -> None:
    clock = Clock()
    one = buckets(clock, rate=100, burst=1)
    for _ in range(1_000):
        assert one.take("a").after == 0
        clock.forward(0.0101)
    assert one.take("a").after == 0

    refused = one.take("a")
    clock.forward(refused.after - 0.000_001)
    assert one.take("a").after > 0
    clock.forward(0.000_001)
    assert one.take("a").after == 0


def test_a_neighbour_is_not_slowed() -> None:
    clock = Clock()
    one = buckets(clock, rate=10, burst=5)
    for _ in range(1_000):
        one.take("greedy")
        clock.forward(0.001)

    assert [one.take("modest").after for _ in range(5)] == [0] * 5


def test_what_is_left_counts_down_and_comes_back() -> None:
    clock = Clock()
    one = buckets(clock, rate=10, burst=5)

    assert [one.take("a").left for _ in range(6)] == [4, 3, 2, 1, 0, 0]
    clock.forward(0.2)
    assert one.look("a").left == 2
    assert one.take("a").left == 1
    clock.forward(60)
    assert (one.look("a").left, one.look("a").full_in) == (5, 0)


def test_refusals_take_nothing() -> None:
    clock = Clock()
    one = buckets(clock, rate=10, burst=5)
    for _ in range(100):
        one.take("a")

    clock.forward(0.1)

    assert one.take("a").after == 0


def test_memory_is_bounded_and_the_longest_unseen_are_forgotten_first() -> None:
    clock = Clock()
    one = buckets(clock, rate=1, burst=1, remembered=1_000)
    for number in range(5_000):
        one.take("regular")
        one.take(f"passer-by {number}")
        one.take("regular")
        clock.forward(0.001)
        assert len(one) <= 1_000

    many = [one.take("regular").after == 0 for _ in range(10)]
    assert sum(many) <= 1


def test_an_address_is_stopped_before_its_credential_is_looked_at() -> None:
    guard = limits(Clock(), address_rate=10, address_burst=3)
    for _ in range(3):
        guard.arrive(arriving(guard))

    with pytest.raises(TooManyRequests) as refused:
        guard.arrive(arriving(guard))

    assert refused.value.after == pytest.approx(0.1)
    guard.arrive(arriving(guard, network="192.0.2.2"))


def test_who_shows_no_credential_has_the_stricter_bucket_only() -> None:
    guard = limits(Clock(), stranger_rate=1, stranger_burst=3)
    for _ in range(3):
        guard.arrive(arriving(guard, credential=None))

    with pytest.raises(TooManyRequests):
        guard.arrive(arriving(guard, credential=None))


def test_guessing_is_stopped_and_does_not_lock_out_who_shares_the_address() -> None:
    clock = Clock()
    guard = limits(clock, stranger_rate=1, stranger_burst=10)
    good = arriving(guard, credential=b"good")
    guard.arrive(good)
    guard.admit(good, credential="key:1", project="p")
    guard.leave(good, 200)

    for number in range(10):
        guess = arriving(guard, credential=b"guess %d" % number)
        guard.arrive(guess)
        guard.leave(guess, 401)
    with pytest.raises(TooManyRequests):
        guard.arrive(arriving(guard, credential=b"one guess more"))

    guard.arrive(arriving(guard, credential=b"good"))
    guard.leave(arriving(guard, credential=b"good"), 401)  # it was revoked meanwhile
    with pytest.raises(TooManyRequests):
        guard.arrive(arriving(guard, credential=b"good"))


def test_a_credential_is_not_good_for_ever() -> None:
    clock = Clock()
    guard = limits(clock, stranger_rate=0.001, stranger_burst=1)
    good = arriving(guard)
    guard.admit(good, credential="key:1", project="p")
    guard.leave(good, 200)
    clock.forward(59)
    guard.arrive(arriving(guard, credential=None))
    guard.arrive(arriving(guard))
    clock.forward(2)

    with pytest.raises(TooManyRequests):
        guard.arrive(arriving(guard))


def test_a_key_and_its_project_are_counted_apart() -> None:
    guard = limits(Clock(), key_rate=1, key_burst=2, project_rate=1, project_burst=3)

    def admit(credential: str, project: str) -> None:
        guard.admit(arriving(guard), credential=credential, project=project)

    admit("key:1", "p")
    admit("key:1", "p")
    with pytest.raises(TooManyRequests, match="this key"):
        admit("key:1", "p")
    with pytest.raises(TooManyRequests, match="this project"):
        admit("key:2", "p")
    admit("key:3", "q")


def test_the_headers_say_what_is_allowed_and_what_is_left() -> None:
    guard = limits(Clock(), key_rate=10, key_burst=20, project_rate=40, project_burst=50)
    arrival = arriving(guard)

    guard.arrive(arrival)
    assert headers(arrival.readings) == []
    guard.admit(arrival, credential="key:1", project="p")

    assert headers(arrival.readings) == [
        (b"ratelimit-policy", b'"key";q=20;w=2, "project";q=50;w=2'),
        (b"ratelimit", b'"key";r=19;t=1, "project";r=49;t=1'),
    ]


def test_any_mixture_of_waiting_and_asking_stays_within_every_window() -> None:
    """The definition of the bucket: in any stretch of time, however cut, at most burst + rate * length."""
    chance, clock = random.Random(20_261_122), Clock()
    one, times = buckets(clock, rate=50, burst=10), list[int]()
    for _ in range(3_000):
        if one.take("a").after == 0:
            times.append(clock.now)
        clock.forward(chance.choice([0, 0, 0.001, 0.01, 0.3]))

    for start in range(0, len(times), 7):
        for end in range(start, min(start + 200, len(times))):
            assert end - start + 1 <= 10 + 50 * (times[end] - times[start]) / 1e9 + 1e-6


def test_a_credential_that_nobody_looks_at_counts_as_none() -> None:
    one = limits(Clock(), stranger_rate=1, stranger_burst=3)

    for made_up in (b"a", b"b", b"c"):
        arrival = arriving(one, credential=made_up)
        one.arrive(arrival)
        one.leave(arrival, 404)
    with pytest.raises(TooManyRequests):
        one.arrive(arriving(one, credential=b"d"))


def test_who_is_answered_before_anybody_looked_is_no_stranger() -> None:
    one = limits(Clock(), stranger_rate=1, stranger_burst=1)

    for status in (503, 429, 503):
        arrival = arriving(one, credential=b"a")
        one.arrive(arrival)
        one.leave(arrival, status)
    one.arrive(arriving(one, credential=b"a"))
