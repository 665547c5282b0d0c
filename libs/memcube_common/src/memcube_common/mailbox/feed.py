"""How a change row reads as an event: one form, whether it comes live from the relay or again from Postgres."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import orjson

from memcube_common.db.pool import Row
from memcube_common.governance.domain import AUDIENCE_RESTRICTED, Access, access_of

ACCESS_HEADER: Final = "Memcube-Access"
"""Where a change on the bus says whom it concerns (`governance.domain.access_header`)."""


def event_json(project: str, position: int, type: str, at: datetime, body_json: str) -> bytes:
    """The event of one change: its identity first, then what the database wrote in `body_json` (a JSON object)."""
    head = orjson.dumps(
        {"id": f"{project}/{position}", "type": type, "project": project, "position": position, "at": at}
    )
    return head if body_json == "{}" else head[:-1] + b"," + body_json[1:].encode()


def change_subject(project: str, type: str, agent: str | None, audience: int) -> str:
    """The subject of a change: a receipt's ends in its agent, a restricted memory's is in a class of its own."""
    if agent is not None:
        return f"memcube.{project}.{type}.{agent}"
    if audience == AUDIENCE_RESTRICTED:
        noun_and_version, _, verb = type.rpartition(".")
        return f"memcube.{project}.{noun_and_version}.restricted.{verb}"
    return f"memcube.{project}.{type}"


def access_in(row: Row) -> Access:
    """Whom the change of a row concerns."""
    return access_of(row["agent"], row["visibility"], row["read_roles"], row["let_in"], row["denied"])
