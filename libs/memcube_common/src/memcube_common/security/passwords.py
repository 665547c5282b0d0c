"""Passwords: argon2id (RFC 9106) in threads, at most four at once, and as slow for strangers as for friends."""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from memcube_common.errors import TryAgain

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE: Final = 4
WAITING_MAX: Final = 64
MEMORY_KIB: Final = 46 * 1024
PASSES: Final = 2


class Passwords:
    """Hashes and verifies passwords, one instance for the process.

    46 MiB and two passes: more than OWASP's least (19 MiB, 2 passes, 1 lane), 90 ms on two cores of 2026. What would
    wait behind more than 64 others is refused, so that a flood of sign-ins holds neither memory nor the others up.
    """

    def __init__(self, *, memory_kib: int = MEMORY_KIB, passes: int = PASSES) -> None:
        self._hasher = PasswordHasher(
            time_cost=passes, memory_cost=memory_kib, parallelism=1, hash_len=32, salt_len=16, type=Type.ID
        )
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2id")
        self._waiting = 0
        self.verified = 0
        """Passwords measured against a hash so far, those of nobody too."""
        # Of a password nobody has: what an unknown e-mail is measured against.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str) -> str:
        """The PHC string to keep of `password`. Raises TryAgain where too many wait."""
        return await self._run(self._hash, password)

    async def verify(self, password: str, kept: str | None) -> bool:
        """Whether `password` is the one `kept` was made of.

        None, for an account that does not exist, takes as long and is False. Raises TryAgain where too many wait.
        """
        self.verified += 1
        matches = await self._run(self._matches, password, self._nobody if kept is None else kept)
        return matches and kept is not None

    def is_outdated(self, kept: str) -> bool:
        """Whether `kept` was made with other parameters than today's, and should be made anew."""
        try:
            return self._hasher.check_needs_rehash(kept)
        except InvalidHashError:
            return True

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._waiting >= AT_ONCE + WAITING_MAX:
            raise TryAgain("too many sign-ins at once", after=2.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, functools.partial(work, *args, **kwargs)
            )
        finally:
            self._waiting -= 1

    def _hash(self, password: str) -> str:
        return self._hasher.hash(password)

    def _matches(self, password: str, kept: str) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False
