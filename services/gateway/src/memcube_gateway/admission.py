"""Who comes in with which key, and how long their request may keep Postgres waiting."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from memcube_common.db import Database, Transaction
from memcube_common.errors import NotSignedIn
from memcube_common.ids import is_agent_name, is_project_slug
from memcube_common.security.keys import is_well_formed, key_hash
from memcube_common.security.principal import Principal
from memcube_gateway import store

KEY_SECONDS: Final = 5.0
STRANGER_SECONDS: Final = 1.0
KEYS_MAX: Final = 10_000


class Patience:
    """The seconds one request may spend waiting for what it depends on, over all it does."""

    __slots__ = ("left",)

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextlib.asynccontextmanager
    async def spent(self) -> AsyncGenerator[None]:
        """What the block takes is taken off."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.left -= time.monotonic() - started

    @contextlib.asynccontextmanager
    async def transaction(self, db: Database, principal: Principal) -> AsyncGenerator[Transaction]:
        """A transaction that ends when the patience does. Raises TryAgain."""
        async with self.spent(), db.transaction(principal, deadline=max(0.05, self.left)) as tx:
            yield tx


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a key belongs to: `principal` is what the database sees, `agent` what insights are signed with."""

    principal: Principal
    agent: str

    @property
    def project(self) -> str:
        """The one project this caller is in."""
        return self.principal.project


class Door:
    """Looks keys up and remembers them for five seconds at most: a revoked key is dead after that everywhere."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, bytes], tuple[Caller | None, float]] = OrderedDict()

    async def admit(self, db: Database, project: str, authorization: str | None, patience: Patience) -> Caller:
        """The caller whose key opens `project`.

        A key that is unknown, revoked or another project's, and a project that does not exist, answer alike: whoever
        asks learns nothing about projects that are not theirs. Raises NotSignedIn, TryAgain.
        """
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not is_well_formed(key):
            raise NotSignedIn
        hashed = key_hash(key)
        remembered = self._known.get((project, hashed))
        if remembered is not None and self._clock() < remembered[1]:
            caller = remembered[0]
        else:
            caller = await self._look_up(db, project, hashed, patience) if is_project_slug(project) else None
            self._remember(project, hashed, caller)
        if caller is None:
            raise NotSignedIn("This key does not open this project.")
        return caller

    def forget_all(self) -> None:
        """Look every key up anew."""
        self._known.clear()

    async def _look_up(self, db: Database, project: str, hashed: bytes, patience: Patience) -> Caller | None:
        async with patience.transaction(db, Principal.stranger(project)) as tx:
            key = await store.find_key(tx, project=project, key_hash=hashed)
        if key is None:
            return None
        return Caller(
            principal=Principal.user(project, f"key:{key.id}", key.role),
            agent=key.name if is_agent_name(key.name) else "key",
        )

    def _remember(self, project: str, hashed: bytes, caller: Caller | None) -> None:
        if len(project) > 63:
            return
        until = self._clock() + (KEY_SECONDS if caller is not None else STRANGER_SECONDS)
        self._known[project, hashed] = (caller, until)
        self._known.move_to_end((project, hashed))
        while len(self._known) > KEYS_MAX:
            self._known.popitem(last=False)
