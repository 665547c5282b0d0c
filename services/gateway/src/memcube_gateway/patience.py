"""How long one request may keep Postgres waiting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator

from memcube_common.db import Database, Transaction
from memcube_common.security.principal import Principal


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
