"""Who comes in with which credential, and how long their request may keep Postgres waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from memcube_common.db import Database
from memcube_common.errors import NotFound, NotSignedIn
from memcube_common.governance.domain import PRIVILEGED
from memcube_common.ids import is_agent_name, is_project_slug
from memcube_common.security.grants import Grant
from memcube_common.security.keys import is_key, is_well_formed, key_hash
from memcube_common.security.principal import Principal
from memcube_common.security.tokens import AccessTokens, Claims
from memcube_gateway.credentials import store
from memcube_gateway.credentials.domain import CallerRole
from memcube_gateway.credentials.store import FoundKey, Seat
from memcube_gateway.patience import Patience
from memcube_gateway.remembering import REMEMBERED_MAX, Remembered

BUS_PATIENCE: Final = 1.8


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a credential belongs to, in one project: `principal` is what the database sees.

    credential: 'key:<id>' or 'session:<id>'. account: None for a key. expires_at: when the credential ends by itself.
    """

    principal: Principal
    credential: str
    expires_at: datetime | None

    @property
    def project(self) -> str:
        """The one project this caller is in."""
        return self.principal.project

    @property
    def handle(self) -> str:
        """The caller's name inside the project."""
        return self.principal.name

    @property
    def agent(self) -> str:
        """What insights are signed with where they do not say."""
        return self.principal.name

    @property
    def role(self) -> CallerRole:
        """What the caller may do in the project."""
        return self.principal.role

    @property
    def account(self) -> UUID | None:
        """The caller's account, where it is one."""
        return self.principal.account


@dataclass(frozen=True, slots=True)
class Holder:
    """An account that is signed in, in no project."""

    account: UUID
    session: UUID
    expires_at: datetime
    source: str

    @property
    def credential(self) -> str:
        """By what it came in."""
        return f"session:{self.session}"


class Door:
    """Looks credentials up and remembers what it found for three seconds at most, a miss for one.

    What is revoked, removed or changed is therefore noticed at every gateway within three seconds of the next request.
    clock: monotonic seconds. now: the time of day, which keys and tokens end by.
    """

    def __init__(
        self,
        db: Database,
        tokens: AccessTokens,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._db = db
        self._tokens = tokens
        self._now = now
        self._keys: Remembered[FoundKey] = Remembered(clock)
        self._seats: Remembered[Seat] = Remembered(clock)
        self._used: dict[str, datetime] = {}
        self._accounts: Remembered[UUID] = Remembered(clock)

    async def admit(
        self, project: str, authorization: str | None, patience: Patience, address: str, *, anew: bool = False
    ) -> Caller:
        """The caller whose credential opens `project`.

        A project that is not theirs and one that does not exist answer alike. anew: an account's session and membership
        are looked up whatever is remembered, for what could not be undone by the next look. Raises NotSignedIn where
        the credential is none, unknown or over, NotFound where it is good and opens another project, TryAgain.
        """
        return await self._caller(project, _bearer(authorization), patience, address, anew=anew)

    async def opened_by(self, authorization: str | None, patience: Patience, address: str) -> str | None:
        """The one project a key opens; None for an account's access token, which opens all the account is in.

        Raises NotSignedIn where the credential is none, unknown or over, TryAgain.
        """
        secret = _bearer(authorization)
        if not is_key(secret):
            await self.admit_account(authorization, patience, address)
            return None
        if not is_well_formed(secret):
            raise NotSignedIn
        key = await self._find_key(key_hash(secret), patience)
        if key is None or (key.expires_at is not None and key.expires_at <= self._now()):
            raise NotSignedIn
        return key.project

    async def admit_account(self, authorization: str | None, patience: Patience, address: str) -> Holder:
        """The account whose access token this is; a project's key is none. Raises NotSignedIn, TryAgain."""
        claims = self._tokens.verify(_bearer(authorization))
        await self._seat(claims, "", patience)
        return Holder(claims.account, claims.session, claims.expires_at, f"session:{claims.session} {address}")

    async def authenticate(self, project: str, agent: str, secret: str) -> Grant | None:
        """What the bearer of `secret` may do on the bus as `agent` of `project`; None for nothing.

        OWNER, ADMIN and SERVICE may come under any agent's name, everybody else under their handle only; a publishable
        key does not come to the bus. Raises TryAgain where Postgres is away.
        """
        if not is_agent_name(agent):
            return None
        try:
            caller = await self._caller(project, secret, Patience(BUS_PATIENCE), "bus")
        except (NotSignedIn, NotFound):
            return None
        if caller.role in ("", "PUBLIC") or (caller.role not in PRIVILEGED and agent != caller.handle):
            return None
        return Grant(project, agent, caller.role, caller.credential, caller.expires_at)

    async def still_valid(self, grants: Iterable[Grant]) -> set[Grant]:
        """Which of `grants`, given by whatever gateway, hold as they were given: same project and role, not over.

        To be asked every second and a half or more often: what is remembered is three seconds old at most. Raises
        TryAgain where Postgres is away.
        """
        return {grant for grant in grants if await self._holds(grant, Patience(BUS_PATIENCE))}

    async def _holds(self, grant: Grant, patience: Patience) -> bool:
        if grant.expires_at is not None and grant.expires_at <= self._now():
            return False
        kind, _, ident = grant.credential.partition(":")
        try:
            credential = UUID(ident)
            if kind == "key":
                caller = await self._by_key_id(grant.project, credential, patience)
            else:
                caller = await self._by_session(grant, credential, patience)
        except (ValueError, NotSignedIn, NotFound):
            return False
        return caller.role == grant.role and (caller.role in PRIVILEGED or caller.handle == grant.agent)

    def take_used_keys(self) -> Mapping[str, datetime]:
        """The keys used since the last call, by hash, and when; for the job that notes it."""
        used, self._used = self._used, {}
        return used

    def forget_all(self) -> None:
        """Look every credential up anew."""
        self._keys.clear()
        self._seats.clear()
        self._accounts.clear()

    async def _caller(
        self, project: str, secret: str, patience: Patience, address: str, *, anew: bool = False
    ) -> Caller:
        if not is_key(secret):
            return await self._by_claims(project, self._tokens.verify(secret), patience, address, anew=anew)
        if not is_well_formed(secret):
            raise NotSignedIn
        return await self._by_key(project, key_hash(secret), patience, address)

    async def _by_key(self, project: str, hashed: str, patience: Patience, address: str) -> Caller:
        return self._opened(project, await self._find_key(hashed, patience), address)

    async def _find_key(self, hashed: str, patience: Patience) -> FoundKey | None:
        async def look(patience: Patience) -> FoundKey | None:
            async with patience.transaction(self._db, Principal.doorkeeper(lookup=hashed)) as tx:
                return await store.find_key(tx, hashed=hashed)

        key = await self._keys.get(hashed, look, patience)
        if key is not None and (len(self._used) < REMEMBERED_MAX or hashed in self._used):
            self._used[hashed] = self._now()
        return key

    async def _by_key_id(self, project: str, key_id: UUID, patience: Patience) -> Caller:
        async def look(patience: Patience) -> FoundKey | None:
            async with patience.transaction(self._db, Principal.doorkeeper(lookup=str(key_id))) as tx:
                return await store.find_key_by_id(tx, project=project, key=key_id)

        return self._opened(project, await self._keys.get((project, key_id), look, patience), "bus")

    def _opened(self, project: str, key: FoundKey | None, address: str) -> Caller:
        """Who comes in by `key`, if it is one and opens `project`. Raises NotSignedIn, NotFound."""
        if key is None or (key.expires_at is not None and key.expires_at <= self._now()):
            raise NotSignedIn
        if key.project != project:
            raise NotFound
        credential = f"key:{key.id}"
        handle = key.name if is_agent_name(key.name) else "key"
        source = f"{credential} {address}"
        if key.role == "PUBLIC":
            principal = Principal.public(project, handle, source=source)
        else:
            principal = Principal.user(project, handle, key.role, source=source)
        return Caller(principal, credential, key.expires_at)

    async def _by_session(self, grant: Grant, session: UUID, patience: Patience) -> Caller:
        async def look(patience: Patience) -> UUID | None:
            async with patience.transaction(self._db, Principal.doorkeeper(lookup=str(session))) as tx:
                return await store.find_session_account(tx, session=session)

        account = await self._accounts.get(session, look, patience)
        if account is None:
            raise NotSignedIn
        until = grant.expires_at or self._now()
        return await self._by_claims(grant.project, Claims(account, session, until), patience, "bus")

    async def _by_claims(
        self, project: str, claims: Claims, patience: Patience, address: str, *, anew: bool = False
    ) -> Caller:
        seat = await self._seat(claims, project if is_project_slug(project) else "", patience, anew=anew)
        if seat.handle is None or seat.role is None:
            raise NotFound
        credential = f"session:{claims.session}"
        principal = Principal.user(
            project, seat.handle, seat.role, account=claims.account, source=f"{credential} {address}"
        )
        return Caller(principal, credential, claims.expires_at)

    async def _seat(self, claims: Claims, project: str, patience: Patience, *, anew: bool = False) -> Seat:
        """The account's place in `project`. Raises NotSignedIn where the session is over."""

        async def look(patience: Patience) -> Seat | None:
            keeper = Principal.doorkeeper(account=claims.account, project=project)
            async with patience.transaction(self._db, keeper) as tx:
                return await store.find_seat(tx, account=claims.account, session=claims.session, project=project)

        def is_good(seat: Seat) -> bool:
            return project == "" or seat.handle is not None

        seat = await self._seats.get((project, claims.account, claims.session), look, patience, is_good, anew=anew)
        if seat is None:
            raise NotSignedIn
        return seat


def _bearer(authorization: str | None) -> str:
    scheme, _, secret = (authorization or "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise NotSignedIn
    return secret
