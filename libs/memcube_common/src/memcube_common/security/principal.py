"""Who a transaction acts for: the one argument every connection costs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from memcube_common.contracts.fields import Role
from memcube_common.ids import is_project_slug

DatabaseRole = Literal[
    "memcube_user", "memcube_anon", "memcube_doorkeeper", "memcube_worker", "memcube_relay", "memcube_operator"
]

_NAME = re.compile(r"[A-Za-z0-9_:.-]{1,128}\Z")
_LOOKUP = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z")
_SOURCE = re.compile(r"[A-Za-z0-9_:./ -]{1,200}\Z")


@dataclass(frozen=True, slots=True)
class Principal:
    """A reader, a writer or a room at work: what the database's policies see.

    name: the handle of a member or key, or 'room:<room>'. lookup: what a doorkeeper may look up: the SHA-256, in
    hexadecimal, of one secret or e-mail, or the id of one key or session. account: whose account it is about. source:
    by which credential and from which address, for the audit trail. Raises ValueError where a value is outside the
    alphabet of a SET statement.
    """

    database_role: DatabaseRole
    name: str
    project: str = ""
    role: Role | Literal["", "PUBLIC"] = ""
    lookup: str = ""
    account: UUID | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError("a principal's name is 1-128 characters of A-Z, a-z, 0-9, '_', ':', '.' and '-'")
        if self.project and not is_project_slug(self.project):
            raise ValueError("not a project slug")
        if self.lookup and not _LOOKUP.match(self.lookup):
            raise ValueError("a lookup is a SHA-256 in hexadecimal or an id")
        if self.source and not _SOURCE.match(self.source):
            raise ValueError("a source is 1-200 characters of A-Z, a-z, 0-9, '_', ':', '.', '/', ' ' and '-'")

    @classmethod
    def doorkeeper(
        cls, *, lookup: str = "", account: UUID | None = None, project: str = "", source: str = ""
    ) -> Principal:
        """The door, looking at one credential: the row behind `lookup`, or what belongs to `account`."""
        return cls("memcube_doorkeeper", "doorkeeper", project, lookup=lookup, account=account, source=source)

    @classmethod
    def user(cls, project: str, name: str, role: Role, *, account: UUID | None = None, source: str = "") -> Principal:
        """A request by `name`, who holds `role` in `project`."""
        return cls("memcube_user", name, project, role, account=account, source=source)

    @classmethod
    def public(cls, project: str, name: str, *, source: str = "") -> Principal:
        """A request under a publishable key: it reads what is public in `project`, nothing else."""
        return cls("memcube_anon", name, project, "PUBLIC", source=source)

    @classmethod
    def worker(cls, room: str, project: str = "") -> Principal:
        """A room doing its own work, for one project at a time."""
        return cls("memcube_worker", f"room:{room}", project)

    @classmethod
    def relay(cls) -> Principal:
        """The relay: reads every project's changes, numbers them, and nothing else."""
        return cls("memcube_relay", "room:relay")

    @classmethod
    def operator(cls) -> Principal:
        """The operator at the parked drawer."""
        return cls("memcube_operator", "operator")
