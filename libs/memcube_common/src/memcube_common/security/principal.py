"""Who a transaction acts for: the one argument every connection costs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from memcube_common.contracts.fields import Role
from memcube_common.ids import is_project_slug

DatabaseRole = Literal["memcube_user", "memcube_anon", "memcube_worker", "memcube_relay", "memcube_operator"]

_NAME = re.compile(r"[A-Za-z0-9_:.-]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class Principal:
    """A reader, a writer or a room at work: what the database's policies see.

    Raises ValueError where a value is outside the alphabet that may stand in a SET statement.
    """

    database_role: DatabaseRole
    name: str
    project: str = ""
    role: Role | Literal[""] = ""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError("a principal's name is 1-128 characters of A-Z, a-z, 0-9, '_', ':', '.' and '-'")
        if self.project and not is_project_slug(self.project):
            raise ValueError("not a project slug")

    @classmethod
    def stranger(cls, project: str) -> Principal:
        """Somebody at the door of `project` whose key has not been looked at yet."""
        return cls("memcube_anon", "stranger", project)

    @classmethod
    def user(cls, project: str, name: str, role: Role) -> Principal:
        """A request by `name`, who holds `role` in `project`."""
        return cls("memcube_user", name, project, role)

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
