"""The door of every route: who may come in, and as whom."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Final, Protocol, cast

from fastapi import Depends, Header, Path
from starlette.requests import Request

from memcube_common.db import Transaction
from memcube_common.errors import FieldError, Invalid, NotAllowed, NotFound, NotSignedIn, TryAgain
from memcube_common.projects.domain import ProjectSettings
from memcube_gateway.admission import Caller, Holder
from memcube_gateway.arrivals import arrival_of
from memcube_gateway.credentials import store
from memcube_gateway.patience import Patience

if TYPE_CHECKING:
    from memcube_gateway.room import Room

LOOK_AGAIN: Final = 1.5
UNSEEN_MAX: Final = 5.0
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")


class InRoom(Protocol):
    """Whoever is here, the room is the same."""

    @property
    def room(self) -> Room: ...


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of one caller."""

    room: Room
    caller: Caller
    patience: Patience
    idempotency_key: str | None
    authorization: str | None = field(default=None, repr=False)
    address: str = "unknown"

    @property
    def project(self) -> str:
        """The project the request is about."""
        return self.caller.project

    def transaction(self) -> contextlib.AbstractAsyncContextManager[Transaction]:
        """A transaction as the caller, within what is left of the request's patience. Raises TryAgain."""
        return self.patience.transaction(self.room.db, self.caller.principal)

    @contextlib.asynccontextmanager
    async def managing(self) -> AsyncGenerator[Transaction]:
        """A transaction that changes members or keys: one at a time in a project, and only while the caller's own role
        is still what it came in with. Raises NotAllowed, TryAgain.
        """
        async with self.transaction() as tx:
            await store.hold_members(tx, project=self.project)
            if await store.find_member(tx, project=self.project, handle=self.caller.handle) != self.caller.role:
                raise NotAllowed("Your role was changed at this moment.")
            yield tx

    async def settings(self) -> ProjectSettings:
        """What the project decided about what is written into it; three seconds old at most. Raises TryAgain."""
        return await self.room.decisions.of(self.caller, self.patience)

    async def until_shown_out(self) -> None:
        """Return once the caller's credential does not open the project any more, or not as what it did.

        Looks every second and a half at what the door remembers for three at most. While Postgres does not answer,
        the caller stays for five seconds.
        """
        seen = time.monotonic()
        while time.monotonic() - seen < UNSEEN_MAX:
            await asyncio.sleep(LOOK_AGAIN)
            patience = Patience(self.room.settings.answer_within)
            try:
                caller = await self.room.door.admit(self.project, self.authorization, patience, self.address)
            except (NotSignedIn, NotFound):
                return
            except TryAgain:
                continue
            if (caller.role, caller.handle) != (self.caller.role, self.caller.handle):
                return
            seen = time.monotonic()


@dataclass(frozen=True, slots=True)
class Stranger:
    """One request of somebody who shows no credential, or shows it in the body.

    address: a printable IP address. network: what failures are counted for.
    """

    room: Room
    patience: Patience
    address: str
    network: str


@dataclass(frozen=True, slots=True)
class AccountVisit:
    """One request of an account, in no project."""

    room: Room
    holder: Holder
    patience: Patience
    address: str
    network: str


@dataclass(frozen=True, slots=True)
class Knock:
    """One request of somebody whose credential is good, and who says in the body which project it is about, if at all.

    opens: the project of a key; None for an account.
    """

    room: Room
    patience: Patience
    opens: str | None
    idempotency_key: str | None
    authorization: str = field(repr=False)
    request: Request = field(repr=False)

    async def into(self, project: str | None) -> Visit:
        """The visit to `project`, or to the one the key opens, publishable keys too.

        Raises Invalid where nothing names a project, NotFound where the credential opens another, NotSignedIn,
        TryAgain.
        """
        slug = project or self.opens
        if slug is None:
            raise Invalid(errors=[FieldError("project_id", "must name the project: an access token opens several")])
        return await _visit_to(slug, self.request, self.room, self.patience, self.authorization, self.idempotency_key)


def _patience(room: Room) -> Patience:
    return Patience(room.settings.answer_within)


async def _anybody(
    request: Request, project: Annotated[str, Path(description="The project's slug.", examples=["demo"])]
) -> Visit:
    room = cast("Room", request.app.state.room)
    key = _idempotency_key(request)
    return await _visit_to(project, request, room, _patience(room), request.headers.get("authorization"), key)


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and _IDEMPOTENCY_KEY.match(key) is None:
        raise Invalid(errors=[FieldError("Idempotency-Key", "must be 1-255 printable ASCII characters")])
    return key


async def _visit_to(
    project: str, request: Request, room: Room, patience: Patience, authorization: str | None, key: str | None
) -> Visit:
    arrival = arrival_of(request.scope)
    caller = await room.door.admit(project, authorization, patience, arrival.address)
    request.state.caller = caller
    arrival.admit(credential=caller.credential, project=caller.project)
    return Visit(room, caller, patience, key, authorization, arrival.address)


async def _knock(
    request: Request,
    apikey: Annotated[
        str | None, Header(description="The key, where `Authorization` shows none, as the seed's clients send it.")
    ] = None,
) -> Knock:
    room = cast("Room", request.app.state.room)
    patience = _patience(room)
    shown = request.headers.get("authorization") or (f"Bearer {apikey}" if apikey else "")
    opens = await room.door.opened_by(shown, patience, arrival_of(request.scope).address)
    return Knock(room, patience, opens, _idempotency_key(request), shown, request)


async def _visit(visit: Annotated[Visit, Depends(_anybody)]) -> Visit:
    if visit.caller.role == "PUBLIC":
        raise NotAllowed("A publishable key reads what is public: find memories and read one.")
    return visit


async def come_in(request: Request, project: str, *, publicly: bool) -> Visit:
    """As `InPublicVisit` and `InVisit` do, for who is not asked by the framework. Raises what they raise."""
    visit = await _anybody(request, project)
    return visit if publicly else await _visit(visit)


async def _account(request: Request, visit: Annotated[Visit, Depends(_visit)]) -> Visit:
    if visit.caller.account is None:
        raise NotAllowed("This is for people: sign in with an account.")
    # Nobody gives back to themselves, in the seconds a role is remembered, what was just taken from them.
    caller = await visit.room.door.admit(visit.project, visit.authorization, visit.patience, visit.address, anew=True)
    request.state.caller = caller
    return replace(visit, caller=caller)


async def _owner(visit: Annotated[Visit, Depends(_account)]) -> Visit:
    if visit.caller.role not in ("OWNER", "ADMIN"):
        raise NotAllowed("This is for the project's OWNERs and ADMINs.")
    return visit


async def _stranger(request: Request) -> Stranger:
    room = cast("Room", request.app.state.room)
    arrival = arrival_of(request.scope)
    return Stranger(room, _patience(room), arrival.address, arrival.network)


async def _holder(request: Request) -> AccountVisit:
    room = cast("Room", request.app.state.room)
    patience = _patience(room)
    arrival = arrival_of(request.scope)
    holder = await room.door.admit_account(request.headers.get("authorization"), patience, arrival.address)
    arrival.admit(credential=holder.credential, project="")
    return AccountVisit(room, holder, patience, arrival.address, arrival.network)


InPublicVisit = Annotated[Visit, Depends(_anybody)]
"""A route that takes this lets in whoever holds a credential of the project in its path, publishable keys too."""

InKnock = Annotated[Knock, Depends(_knock)]
"""A route that takes this lets in whoever holds a credential, and learns the project from the body or the key."""

InVisit = Annotated[Visit, Depends(_visit)]
"""A route that takes this lets in members and secret keys of the project in its path."""

InMemberVisit = Annotated[Visit, Depends(_account)]
"""A route that takes this lets in members, by an account."""

InOwnerVisit = Annotated[Visit, Depends(_owner)]
"""A route that takes this lets in OWNERs and ADMINs, by an account: no key manages members or keys."""

InStrangerVisit = Annotated[Stranger, Depends(_stranger)]
"""A route that takes this lets in everybody."""

InAccountVisit = Annotated[AccountVisit, Depends(_holder)]
"""A route that takes this lets in whoever is signed in."""
