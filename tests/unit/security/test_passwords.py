"""Passwords: strong enough, never more than four at once, and nobody is as slow as somebody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator

import pytest
from argon2 import extract_parameters
from argon2.low_level import Type

from memcube_common.errors import TryAgain
from memcube_common.security.passwords import AT_ONCE, WAITING_MAX, Passwords


@pytest.fixture
def passwords() -> Generator[Passwords]:
    """Hashing that takes no time."""
    quick = Passwords(memory_kib=64, passes=1)
    yield quick
    quick.close()


async def test_what_is_kept_says_that_it_is_strong_enough() -> None:
    passwords = Passwords()
    kept = extract_parameters(await passwords.hash("correct horse battery staple"))
    passwords.close()

    assert kept.type is Type.ID
    assert kept.memory_cost >= 19 * 1024  # OWASP's least: 19 MiB, two passes, one lane
    assert kept.time_cost >= 2
    assert kept.parallelism == 1
    assert (kept.hash_len, kept.salt_len) == (32, 16)


async def test_only_the_password_itself_is_right(passwords: Passwords) -> None:
    kept = await passwords.hash("correct horse battery staple")

    assert await passwords.verify("correct horse battery staple", kept)
    assert not await passwords.verify("Correct horse battery staple", kept)
    assert not await passwords.verify("correct horse battery staple", "no hash at all")
    assert await passwords.hash("correct horse battery staple") != kept


async def test_nobodys_password_is_measured_against_a_hash_too(passwords: Passwords) -> None:
    measured: list[str] = []
    original = passwords._matches  # pyright: ignore[reportPrivateUsage]

    def watched(password: str, kept: str) -> bool:
        measured.append(kept)
        return original(password, kept)

    passwords._matches = watched  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]

    assert not await passwords.verify("whatever it is", None)
    assert extract_parameters(measured[0]) == extract_parameters(await passwords.hash("x"))


async def test_what_was_made_otherwise_is_outdated(passwords: Passwords) -> None:
    other = Passwords(memory_kib=128, passes=1)
    try:
        assert passwords.is_outdated(await other.hash("x"))
        assert passwords.is_outdated("no hash")
        assert not passwords.is_outdated(await passwords.hash("x"))
    finally:
        other.close()


async def test_four_hash_at_once_and_a_flood_is_refused(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    going, most, free = 0, 0, threading.Event()
    lock = threading.Lock()
    all_busy = threading.Event()

    def slow(*_: object) -> bool:
        nonlocal going, most
        with lock:
            going += 1
            most = max(most, going)
            if going == AT_ONCE:
                all_busy.set()
        free.wait(10)
        with lock:
            going -= 1
        return True

    monkeypatch.setattr(passwords, "_matches", slow)
    many = [asyncio.create_task(passwords.verify("x", "y")) for _ in range(AT_ONCE + WAITING_MAX)]
    assert await asyncio.to_thread(all_busy.wait, 10)
    with pytest.raises(TryAgain):
        await passwords.verify("x", "y")
    free.set()

    assert await asyncio.gather(*many) == [True] * len(many)
    assert most == AT_ONCE == 4
