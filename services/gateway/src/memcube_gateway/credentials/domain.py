"""What a role may do to members and keys: decided here for a clear answer, and by the database's policies again."""

from __future__ import annotations

from typing import Final, Literal

from memcube_common.contracts.fields import Role
from memcube_common.governance.domain import PRIVILEGED, WRITERS

CallerRole = Role | Literal["", "PUBLIC"]

_BELOW_ADMIN: Final = frozenset({"MEMBER", "AGENT", "VIEWER"})


def manages(actor: CallerRole, target: str) -> bool:
    """Whether `actor` may invite, change or remove somebody with the role `target`."""
    return actor == "OWNER" or (actor == "ADMIN" and target in _BELOW_ADMIN)


def may_give_key(actor: CallerRole, role: str) -> bool:
    """Whether `actor` may make or revoke a key with `role`: never one above their own."""
    return actor == "OWNER" or (actor == "ADMIN" and role != "OWNER")


def may_sign_as(actor: CallerRole, handle: str, agent: str) -> bool:
    """Whether an insight by `handle` may be signed with `agent`: others' names are for the privileged."""
    return actor in PRIVILEGED or agent == handle


def may_submit(actor: CallerRole) -> bool:
    """Whether `actor` may bring insights in."""
    return actor in WRITERS


def may_hold(actor: CallerRole) -> bool:
    """Whether `actor` may put a memory under legal hold, also as it comes in: nobody could delete it then."""
    return actor in PRIVILEGED
