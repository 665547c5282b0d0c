"""Signing in with e-mail and password; from then on the client shows the session and renews it by itself."""

from __future__ import annotations

from memcube.credential import Session
from memcube.transport import Transport


class Auth:
    """`client.auth`: who the client is."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def session(self) -> Session | None:
        """The session that is shown now, None before signing in and after signing out."""
        return self._transport.credential.session

    async def sign_in_with_password(self, email: str, password: str) -> Session:
        """Sign in; a key given to the client is not shown any more.

        Raises NotSignedIn where e-mail or password is wrong, TooManyRequests after too many failures.
        """
        session = await self._transport.sign_in({"email": email, "password": password})
        self._transport.credential.adopt(session)
        return session

    def resume(self, session: Session) -> None:
        """Go on with a session kept from before; its refresh token is exchanged when it is needed."""
        self._transport.credential.adopt(session.model_copy(update={"expires_in": 0}))

    async def sign_out(self) -> None:
        """End the session at the server, and show the client's key again, if it has one."""
        if self.session is not None:
            await self._transport.sign_out()
            self._transport.credential.drop()
