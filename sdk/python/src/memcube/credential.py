"""What a client shows at the door: a key, or the tokens of a session that renews itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

RENEW_BEFORE: Final = 60.0  # seconds of an access token's life that are not relied on


class Account(BaseModel):
    """Whose session it is."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    email: str
    name: str


class Session(BaseModel):
    """A session: `access_token` for one hour, `refresh_token` for the next pair, valid once."""

    model_config = ConfigDict(frozen=True)

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    expires_in: int
    account: Account


class Credential:
    """A key, or a session; tasks that find it running out at once renew it once.

    clock: monotonic seconds.
    """

    def __init__(self, key: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._clock = clock
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()
        self.session: Session | None = None

    def adopt(self, session: Session) -> None:
        """Show this session's tokens from now on."""
        self.session = session
        self._renew_at = self._clock() + max(0.0, session.expires_in - RENEW_BEFORE)

    def drop(self) -> None:
        """Show the key again, or nothing."""
        self.session = None

    def expire(self, shown: str | None) -> bool:
        """The server did not take `shown`; True where renewing may help."""
        if self.session is None or shown is None:
            return False
        if shown == self.session.access_token:
            self._renew_at = 0.0
        return True

    async def shown(self, renew: Callable[[str], Awaitable[Session]]) -> str | None:
        """What to show now, renewed by `renew` where it runs out. Raises what `renew` raises."""
        if self._is_due():
            async with self._renewing:
                session = self.session
                if session is not None and self._is_due():
                    self.adopt(await renew(session.refresh_token))
        return self._key if self.session is None else self.session.access_token

    def _is_due(self) -> bool:
        return self.session is not None and self._clock() >= self._renew_at
