"""What the door grants to whoever comes by the bus: who an agent is, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from memcube_common.contracts.fields import Role


@dataclass(frozen=True, slots=True)
class Grant:
    """An agent let in by a credential: in which project, under which name, with which role.

    credential: 'key:<id>' or 'session:<id>'. expires_at: None where the credential does not end by itself.
    """

    project: str
    agent: str
    role: Role | Literal["PUBLIC"]
    credential: str
    expires_at: datetime | None
