"""How a change row reads as an event: one form, whether it comes live from the relay or again from Postgres."""

from __future__ import annotations

from datetime import datetime

import orjson


def event_json(project: str, position: int, type: str, at: datetime, body_json: str) -> bytes:
    """The event of one change: its identity first, then what the database wrote in `body_json` (a JSON object)."""
    head = orjson.dumps(
        {"id": f"{project}/{position}", "type": type, "project": project, "position": position, "at": at}
    )
    return head if body_json == "{}" else head[:-1] + b"," + body_json[1:].encode()
