"""Signing in, staying signed in, and signing out: passwords to sessions, refresh tokens to the next ones."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from memcube_common.contracts.identity import SignedInAs, TokenAnswer
from memcube_common.db import Database
from memcube_common.errors import Conflict, NotFound, NotSignedIn, TryAgain
from memcube_common.ids import new_id
from memcube_common.security.emails import email_key, normal_email
from memcube_common.security.passwords import Passwords
from memcube_common.security.principal import Principal
from memcube_common.security.refresh import INVITATION, REFRESH, Bearer, new_bearer, read_bearer
from memcube_common.security.tokens import LIFETIME, AccessTokens, TokenKeys
from memcube_gateway.admission import Holder
from memcube_gateway.credentials import store
from memcube_gateway.credentials.attempts import Attempts
from memcube_gateway.patience import Patience

FAILURES_BY_EMAIL: Final = 5
FAILURES_BY_ADDRESS: Final = 20
_WRONG: Final = "The e-mail or the password is wrong."
_OVER: Final = "This refresh token is not valid: sign in again."


@dataclass(frozen=True, slots=True)
class Desk:
    """What signing in needs. Failed sign-ins are counted by e-mail and by address, in this process."""

    db: Database
    passwords: Passwords
    keys: TokenKeys
    tokens: AccessTokens
    by_email: Attempts
    by_address: Attempts

    @classmethod
    def open(cls, db: Database, keys: TokenKeys, tokens: AccessTokens) -> Desk:
        """A desk where nobody has failed yet."""
        return cls(
            db, Passwords(), keys, tokens, Attempts(at_most=FAILURES_BY_EMAIL), Attempts(at_most=FAILURES_BY_ADDRESS)
        )

    async def sign_in(self, *, email: str, password: str, patience: Patience, address: str) -> TokenAnswer:
        """A new session for who knows the password.

        An unknown e-mail, a wrong password and a disabled account answer alike, and each after one hash. Raises
        NotSignedIn, TooManyRequests, TryAgain.
        """
        account = await self._proved(email=email, password=password, patience=patience, address=address)
        proved = account.password
        session = new_id()
        first = new_bearer(REFRESH, account.id)
        renewed = await self.passwords.hash(password) if self.passwords.is_outdated(proved) else None
        async with patience.transaction(self.db, Principal.doorkeeper(account=account.id)) as tx:
            if renewed is not None and await store.rehash_password(
                tx, account=account.id, proved=proved, password=renewed
            ):
                proved = renewed
            opened = await store.open_session(
                tx, account=account.id, session=session, proved=proved, refresh_hash=first.hash
            )
        if not opened:
            raise NotSignedIn(_WRONG)
        return self._answer(SignedInAs(id=account.id, email=account.email, name=account.name), session, first)

    async def refresh(self, *, token: str, patience: Patience) -> TokenAnswer:
        """The next pair of tokens.

        Whoever presents the same token within ten seconds gets the same next one; later, it was stolen or lost, and its
        whole session ends. Raises NotSignedIn, TryAgain.
        """
        given = read_bearer(REFRESH, token)
        if given is None:
            raise NotSignedIn(_OVER)
        keys = self.keys.derivation_keys()
        child: Bearer | None = None
        keeper = Principal.doorkeeper(lookup=given.hash, account=given.id)
        async with patience.transaction(self.db, keeper) as tx:
            taken = await store.take_refresh_token(tx, account=given.id, hashed=given.hash)
            if taken is not None and taken.alive:
                if not taken.used:
                    child = given.child(keys[0])
                    await store.rotate(
                        tx, account=given.id, session=taken.session, hashed=given.hash, child_hash=child.hash
                    )
                elif taken.reused:
                    await store.end_session(tx, account=given.id, session=taken.session, reason="token_reused")
                else:
                    child = given.child_with(keys, taken.child_hash or "")
        if taken is None or child is None:
            raise NotSignedIn(_OVER)
        return self._answer(SignedInAs(id=given.id, email=taken.email, name=taken.name), taken.session, child)

    async def sign_out(self, holder: Holder, patience: Patience) -> None:
        """End the holder's session and every token of it. Raises TryAgain."""
        async with patience.transaction(self.db, Principal.doorkeeper(account=holder.account)) as tx:
            await store.end_session(tx, account=holder.account, session=holder.session, reason="signed_out")

    async def change_password(
        self, holder: Holder, *, current: str, new: str, patience: Patience, address: str
    ) -> None:
        """Change the holder's password and end their other sessions.

        Raises NotSignedIn where the current one is wrong, TooManyRequests, TryAgain.
        """
        keeper = Principal.doorkeeper(account=holder.account)
        async with patience.transaction(self.db, keeper) as tx:
            kept = await store.read_password(tx, account=holder.account)
        with self._counted(str(holder.account), address):
            if kept is None or not await self.passwords.verify(current, kept):
                raise NotSignedIn("The current password is wrong.")
        hashed = await self.passwords.hash(new)
        async with patience.transaction(self.db, keeper) as tx:
            if not await store.change_password(tx, account=holder.account, proved=kept, password=hashed):
                raise Conflict("The password was changed by somebody else meanwhile.")
            await store.end_other_sessions(tx, account=holder.account, but=holder.session)

    async def make_account(
        self, *, email: str, name: str, password: str, invitation: str, patience: Patience, address: str
    ) -> tuple[UUID, Literal["created", "joined"]]:
        """Join a project by an invitation, with a new account or, where the e-mail has one, with that.

        An existing account is proved by its password and never changed. Raises NotFound for an invitation that is not
        open, NotSignedIn for a wrong password, Conflict for who is a member already, TooManyRequests, TryAgain.
        """
        ticket = read_bearer(INVITATION, invitation)
        await self._open_invitation(ticket, patience)
        key = email_key(email)
        async with patience.transaction(self.db, Principal.doorkeeper(lookup=key)) as tx:
            known = await store.find_account(tx, email_key=key) is not None
        if known:
            account = await self._proved(email=email, password=password, patience=patience, address=address)
            await self.join(account.id, invitation=invitation, patience=patience, address=address)
            return account.id, "joined"
        hashed = await self.passwords.hash(password)
        made = new_id()
        open_ = await self._open_invitation(ticket, patience)
        keeper = Principal.doorkeeper(
            lookup=ticket.hash if ticket else "", account=made, project=open_.project, source=f"invitation {address}"
        )
        async with patience.transaction(self.db, keeper) as tx:
            if not await store.insert_account(
                tx, account=made, email=normal_email(email), email_key=key, name=name, password=hashed
            ):
                raise TryAgain("this e-mail got an account at this moment")
            await store.join(tx, account=made, invitation=open_)
        return made, "created"

    async def join(self, account: UUID, *, invitation: str, patience: Patience, address: str) -> store.OpenInvitation:
        """Use up an invitation for an account. Raises NotFound, Conflict, TryAgain."""
        ticket = read_bearer(INVITATION, invitation)
        open_ = await self._open_invitation(ticket, patience)
        keeper = Principal.doorkeeper(
            lookup=ticket.hash if ticket else "", account=account, project=open_.project, source=f"invitation {address}"
        )
        async with patience.transaction(self.db, keeper) as tx:
            await store.join(tx, account=account, invitation=open_)
        return open_

    async def _open_invitation(self, ticket: Bearer | None, patience: Patience) -> store.OpenInvitation:
        found = None
        if ticket is not None:
            async with patience.transaction(self.db, Principal.doorkeeper(lookup=ticket.hash)) as tx:
                found = await store.find_invitation(tx, hashed=ticket.hash)
        if found is None:
            raise NotFound("This invitation is not open: it never was, was used, withdrawn, or is over.")
        return found

    async def _proved(self, *, email: str, password: str, patience: Patience, address: str) -> store.FoundAccount:
        """The account that e-mail and password are of. The time is one look and one hash, whatever is wrong."""
        key = email_key(email)
        with self._counted(key, address):
            async with patience.transaction(self.db, Principal.doorkeeper(lookup=key)) as tx:
                account = await store.find_account(tx, email_key=key)
            matches = await self.passwords.verify(password, None if account is None else account.password)
            if account is None or not matches or account.disabled:
                raise NotSignedIn(_WRONG)
            return account

    @contextlib.contextmanager
    def _counted(self, name: str, address: str) -> Generator[None]:
        """Count the block as a failed attempt of `name` and `address`, unless it ends well or was not to blame."""
        self.by_address.begin(address)
        self.by_email.begin(name)
        try:
            yield
        except NotSignedIn:
            raise
        except BaseException:
            self._forgive(name, address)
            raise
        self._forgive(name, address)

    def _forgive(self, name: str, address: str) -> None:
        self.by_email.forgive(name)
        self.by_address.forgive(address)

    def _answer(self, account: SignedInAs, session: UUID, refresh: Bearer) -> TokenAnswer:
        return TokenAnswer(
            access_token=self.tokens.issue(account=account.id, session=session),
            expires_in=LIFETIME,
            refresh_token=refresh.text,
            account=account,
        )
