"""Credentials in Postgres: what the door looks up, and what owners keep of members, invitations and keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

import orjson

from memcube_common.contracts.fields import Role
from memcube_common.contracts.identity import (
    AccountAnswer,
    EndReason,
    Invitation,
    KeyAnswer,
    Member,
    Membership,
    ProjectEvent,
)
from memcube_common.db import Statements, Transaction
from memcube_common.db.pool import Row
from memcube_common.db.refusals import refusals
from memcube_common.errors import NotAllowed, NotFound
from memcube_common.security.keys import KeyKind

QUERIES = Statements(__package__)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that opens `project`."""

    project: str
    id: UUID
    name: str
    role: Role | Literal["PUBLIC"]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Seat:
    """An account's place in a project: its handle there, None where it is no member."""

    handle: str | None
    role: Role | None


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """An account at the door, with what its password is proved against."""

    id: UUID
    email: str
    name: str
    password: str = field(repr=False)
    disabled: bool


@dataclass(frozen=True, slots=True)
class TakenToken:
    """A refresh token that was presented.

    used: it got a child before, whose hash is `child_hash`. reused: longer ago than racers take. alive: neither it,
    nor its session, nor its account has ended.
    """

    session: UUID
    used: bool
    reused: bool
    alive: bool
    child_hash: str | None
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class OpenInvitation:
    """To what an invitation invites."""

    project: str
    role: Role
    handle: str
    created_by: str


async def find_key(tx: Transaction, *, hashed: str) -> FoundKey | None:
    """The key with this hash, the transaction's lookup; None where it is unknown, revoked or expired."""
    return _found_key(await tx.fetch_one(QUERIES["find_key"], hashed))


async def find_key_by_id(tx: Transaction, *, project: str, key: UUID) -> FoundKey | None:
    """The key with this id, the transaction's lookup; None where it is unknown, revoked or expired."""
    return _found_key(await tx.fetch_one(QUERIES["find_key_by_id"], project, key))


async def find_session_account(tx: Transaction, *, session: UUID) -> UUID | None:
    """Whose session this is, the transaction's lookup; None where it is over."""
    return await tx.fetch_value(QUERIES["find_session_account"], session)


async def find_seat(tx: Transaction, *, account: UUID, session: UUID, project: str) -> Seat | None:
    """The place of `account`, the transaction's own, in `project`; None where the session or the account has ended."""
    row = await tx.fetch_one(QUERIES["find_seat"], account, session, project)
    return None if row is None else Seat(row["handle"], row["role"])


async def touch_key(tx: Transaction, *, hashed: str, at: datetime) -> None:
    """Note when a key, the transaction's lookup, was used."""
    await tx.execute(QUERIES["touch_key"], hashed, at)


async def find_account(tx: Transaction, *, email_key: str) -> FoundAccount | None:
    """The account behind an e-mail, the transaction's lookup."""
    row = await tx.fetch_one(QUERIES["find_account"], email_key)
    return None if row is None else FoundAccount(**dict(row))


async def read_account(tx: Transaction, *, account: UUID) -> AccountAnswer | None:
    """An account with its memberships."""
    row = await tx.fetch_one(QUERIES["read_account"], account)
    if row is None:
        return None
    return AccountAnswer.model_construct(**dict(row), memberships=await list_memberships(tx, account=account))


async def read_password(tx: Transaction, *, account: UUID) -> str | None:
    """The password hash of an account."""
    return await tx.fetch_value(QUERIES["read_password"], account)


async def insert_account(
    tx: Transaction, *, account: UUID, email: str, email_key: str, name: str, password: str
) -> bool:
    """Make an account; False where the e-mail has one."""
    return await tx.fetch_value(QUERIES["insert_account"], account, email, email_key, name, password) is not None


async def change_password(tx: Transaction, *, account: UUID, proved: str, password: str) -> bool:
    """Put a new hash in the place of `proved`; False where that is not the account's any more."""
    return await tx.fetch_value(QUERIES["change_password"], account, proved, password) is not None


async def rehash_password(tx: Transaction, *, account: UUID, proved: str, password: str) -> bool:
    """Keep the same password under other parameters; False where `proved` is not the account's any more."""
    return await tx.fetch_value(QUERIES["rehash_password"], account, proved, password) is not None


async def open_session(tx: Transaction, *, account: UUID, session: UUID, proved: str, refresh_hash: str) -> bool:
    """Begin a session with its first refresh token; False where the password or the account changed meanwhile."""
    if await tx.fetch_value(QUERIES["open_session"], account, session, proved) is None:
        return False
    await tx.execute(QUERIES["keep_refresh_token"], account, session, refresh_hash)
    return True


async def take_refresh_token(tx: Transaction, *, account: UUID, hashed: str) -> TakenToken | None:
    """A refresh token, the transaction's lookup, held to the end of the transaction; None where it is unknown."""
    row = await tx.fetch_one(QUERIES["take_refresh_token"], account, hashed)
    if row is None:
        return None
    return TakenToken(
        session=row["session_id"],
        used=row["used"],
        reused=row["reused"],
        alive=row["alive"],
        child_hash=row["child_hash"],
        email=row["email"],
        name=row["name"],
    )


async def rotate(tx: Transaction, *, account: UUID, session: UUID, hashed: str, child_hash: str) -> None:
    """A refresh token gets its child."""
    await tx.execute(QUERIES["use_refresh_token"], account, hashed, child_hash)
    await tx.execute(QUERIES["keep_refresh_token"], account, session, child_hash)
    await tx.execute(QUERIES["touch_session"], account, session)


async def end_session(tx: Transaction, *, account: UUID, session: UUID, reason: EndReason) -> None:
    """End a session, and every token of it with it."""
    await tx.execute(QUERIES["end_session"], account, session, reason)


async def end_other_sessions(tx: Transaction, *, account: UUID, but: UUID) -> None:
    """End every session of an account but one."""
    await tx.execute(QUERIES["end_other_sessions"], account, but)


async def forget_sessions(tx: Transaction, *, at_most: int) -> int:
    """Drop sessions and refresh tokens that ended more than a day ago; returns how many of the more numerous."""
    tokens = len(await tx.fetch(QUERIES["forget_refresh_tokens"], at_most))
    return max(tokens, len(await tx.fetch(QUERIES["forget_sessions"], at_most)))


async def find_invitation(tx: Transaction, *, hashed: str) -> OpenInvitation | None:
    """An open invitation, the transaction's lookup."""
    row = await tx.fetch_one(QUERIES["find_invitation"], hashed)
    return None if row is None else OpenInvitation(row["project_id"], row["role"], row["handle"], row["created_by"])


async def join(tx: Transaction, *, account: UUID, invitation: OpenInvitation) -> None:
    """Make `account` a member by an invitation, the transaction's lookup.

    Raises Conflict for who is a member already, NotFound where somebody else used the invitation up meanwhile.
    """
    member = (invitation.project, account, invitation.handle, invitation.role, invitation.created_by)
    try:
        with refusals(conflict="This account is a member of the project already."):
            await tx.execute(QUERIES["insert_member"], *member)
    except NotAllowed as error:
        raise NotFound("This invitation is not open any more.") from error


async def list_memberships(tx: Transaction, *, account: UUID) -> list[Membership]:
    """Every project of an account, by name."""
    return [
        Membership.model_construct(
            project=row["project_id"], handle=row["handle"], role=row["role"], joined_at=row["created_at"]
        )
        for row in await tx.fetch(QUERIES["list_memberships"], account)
    ]


async def is_language(tx: Transaction, *, language: str) -> bool:
    """Whether Postgres has a text search configuration of this name."""
    return bool(await tx.fetch_value(QUERIES["is_language"], language))


async def make_project(tx: Transaction, *, account: UUID, project: str, language: str, handle: str) -> datetime | None:
    """Make a project with `account` as its OWNER; returns when, or None where there is one of this name."""
    made: datetime | None = await tx.fetch_value(QUERIES["insert_project"], project, language)
    if made is not None:
        await tx.execute(QUERIES["insert_member"], project, account, handle, "OWNER", handle)
    return made


async def list_members(tx: Transaction, *, project: str) -> list[Member]:
    """Who is in `project`, by handle."""
    return [_member(row) for row in await tx.fetch(QUERIES["list_members"], project)]


async def hold_members(tx: Transaction, *, project: str) -> None:
    """Nobody else changes the members, invitations and keys of `project` until this transaction ends."""
    await tx.execute(QUERIES["hold_members"], project)


async def find_member(tx: Transaction, *, project: str, handle: str) -> Role | None:
    """The role of a member; None where nobody has this handle."""
    return await tx.fetch_value(QUERIES["find_member"], project, handle)


async def change_role(tx: Transaction, *, project: str, handle: str, role: Role) -> Member | None:
    """Give a member another role; their open invitations end. Raises Conflict for the last OWNER."""
    await tx.execute(QUERIES["withdraw_invitations_of"], project, handle)
    with refusals(conflict="A project keeps at least one owner."):
        row = await tx.fetch_one(QUERIES["change_role"], project, handle, role)
    return None if row is None else _member(row)


async def remove_member(tx: Transaction, *, project: str, handle: str) -> bool:
    """Take a member out of a project, and what they invited to; False where nobody has this handle.

    Raises Conflict for the last OWNER.
    """
    await tx.execute(QUERIES["withdraw_invitations_of"], project, handle)
    with refusals(conflict="A project keeps at least one owner."):
        return await tx.fetch_value(QUERIES["remove_member"], project, handle) is not None


async def list_invitations(tx: Transaction, *, project: str) -> list[Invitation]:
    """Invitations nobody used yet, by handle; none for whoever may not see them."""
    return [Invitation.model_construct(**dict(row)) for row in await tx.fetch(QUERIES["list_invitations"], project)]


async def invite(tx: Transaction, *, project: str, invitation: UUID, hashed: str, role: Role, handle: str) -> datetime:
    """Keep an invitation in place of an earlier one for the same handle; returns when it ends.

    Raises Conflict where a member or a key has the handle.
    """
    with refusals(conflict="A member, a key or another invitation has this handle."):
        await tx.fetch_value(QUERIES["withdraw_invitation"], project, handle)
        return await tx.fetch_value(
            QUERIES["insert_invitation"], project, invitation, hashed, role, handle, tx.principal.name
        )


async def withdraw_invitation(tx: Transaction, *, project: str, handle: str) -> bool:
    """Take back the open invitation of a handle; False where there is none."""
    return await tx.fetch_value(QUERIES["withdraw_invitation"], project, handle) is not None


async def list_keys(tx: Transaction, *, project: str) -> list[KeyAnswer]:
    """The keys of `project`, newest first."""
    return [KeyAnswer.model_construct(**dict(row)) for row in await tx.fetch(QUERIES["list_keys"], project)]


async def find_key_role(tx: Transaction, *, project: str, key: UUID) -> str | None:
    """The role of a key of `project`."""
    return await tx.fetch_value(QUERIES["find_key_role"], project, key)


async def insert_key(
    tx: Transaction,
    *,
    project: str,
    key: UUID,
    name: str,
    role: str,
    kind: KeyKind,
    prefix: str,
    hashed: str,
    expires_at: datetime | None,
) -> datetime:
    """Keep a new key; returns when it was made. Raises Conflict where a member has its name."""
    with refusals(conflict="A member or an invitation has this name as its handle."):
        return await tx.fetch_value(
            QUERIES["insert_key"], project, key, name, role, kind, prefix, hashed, tx.principal.name, expires_at
        )


async def revoke_key(tx: Transaction, *, project: str, key: UUID) -> bool:
    """Revoke a key; False where there is none."""
    return await tx.fetch_value(QUERIES["revoke_key"], project, key) is not None


async def read_events(tx: Transaction, *, project: str, before: UUID | None, at_most: int) -> Sequence[ProjectEvent]:
    """What happened to `project`, newest first."""
    return [
        ProjectEvent.model_construct(**{**dict(row), "details": orjson.loads(row["details"])})
        for row in await tx.fetch(QUERIES["read_events"], project, before, at_most)
    ]


def _found_key(row: Row | None) -> FoundKey | None:
    if row is None:
        return None
    return FoundKey(row["project_id"], row["id"], row["name"], row["role"], row["expires_at"])


def _member(row: Row) -> Member:
    return Member.model_construct(
        handle=row["handle"], role=row["role"], joined_at=row["created_at"], invited_by=row["created_by"]
    )
