"""The reader's rule in plain Python: what is fanned out in memory follows the same rule as what Postgres shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from memcube_common.contracts.fields import Role

PRIVILEGED: Final[frozenset[str]] = frozenset({"OWNER", "ADMIN", "SERVICE"})
"""Roles that always read and write in their project."""

WRITERS: Final[frozenset[str]] = PRIVILEGED | {"MEMBER", "AGENT"}
"""Roles that may bring something in."""

AUDIENCE_RESTRICTED: Final = 2
"""Changes of this class travel on subjects of their own, which only privileged agents hear."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who wants to read: their handle in the project, and their role in it."""

    name: str
    role: Role | Literal["", "PUBLIC"]


@dataclass(frozen=True, slots=True)
class Access:
    """Whom a change concerns: the columns of the same names that the database wrote beside it.

    agent: the one sender a receipt is for; everything else is about memories.
    """

    agent: str | None = None
    visibility: str = "project"
    read_roles: tuple[str, ...] = ()
    let_in: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


def may_read(access: Access, reader: Reader) -> bool:
    """The rule of the policy `follower_select`: privileged roles always; a receipt its sender; else nobody denied,
    and whom the role or the name lets in.
    """
    if reader.role in PRIVILEGED:
        return True
    if access.agent is not None:
        return access.agent == reader.name
    if reader.role == "PUBLIC":
        return access.visibility == "public"
    if reader.name in access.denied:
        return False
    return (
        reader.name in access.let_in
        or access.visibility == "public"
        or (access.visibility == "project" and reader.role in access.read_roles)
    )


def access_of(
    agent: str | None, visibility: str, read_roles: Sequence[str], let_in: Sequence[str], denied: Sequence[str]
) -> Access:
    """Access from the columns of a change."""
    return Access(agent, visibility, tuple(read_roles), tuple(let_in), tuple(denied))


def access_header(access: Access) -> str:
    """Access as it travels beside a change on the bus: one line of JSON."""
    return orjson.dumps([access.agent, access.visibility, access.read_roles, access.let_in, access.denied]).decode()


def access_from_header(header: str) -> Access:
    """What `access_header` wrote. Raises ValueError for anything else: such a change is for nobody."""
    try:
        agent, visibility, read_roles, let_in, denied = _HEADER.validate_json(header)
    except ValidationError:
        raise ValueError("not the access of a change") from None
    return Access(agent, visibility, read_roles, let_in, denied)


_Names = tuple[str, ...]
_HEADER: Final = TypeAdapter(tuple[str | None, str, _Names, _Names, _Names])
