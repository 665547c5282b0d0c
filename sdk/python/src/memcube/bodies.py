"""What is sent: insights and memories as JSON, each under an id made here, so that sending twice is once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from memcube.errors import Invalid


def new_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562)."""
    return uuid7()


def insight_body(
    insight: str | Mapping[str, Any],
    *,
    id: UUID | str | None = None,
    agent_id: str | None = None,
    label: str | None = None,
    tags: Sequence[str] | None = None,
    evidence_refs: Sequence[str] | None = None,
    sentiment: float | None = None,
    priority: str | None = None,
    governance: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of one insight, from its text or a mapping of its fields; arguments given beside it win.

    An id is made where none is given.
    """
    body: dict[str, Any] = dict(insight) if isinstance(insight, Mapping) else {"insight": insight}
    given = {
        "id": id,
        "agent_id": agent_id,
        "label": label,
        "tags": None if tags is None else list(tags),
        "evidence_refs": None if evidence_refs is None else list(evidence_refs),
        "sentiment": sentiment,
        "priority": priority,
        "governance": governance,
        "metadata": metadata,
    }
    body |= {name: value for name, value in given.items() if value is not None}
    if body.get("id") is None:
        body["id"] = new_id()
    return body


def encoded(body: Mapping[str, Any]) -> bytes:
    """`body` as JSON in UTF-8. Raises Invalid for what JSON cannot say: NaN, lone surrogates, foreign objects."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, default=_plain, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise Invalid("text must not contain lone surrogates") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"this cannot be sent as JSON ({type(error).__name__})") from None


def _plain(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case datetime():
            return value.isoformat()
        case bytes() | bytearray():
            raise TypeError(type(value).__name__)
        case Mapping() | Sequence() | set() | frozenset():
            return dict(value) if isinstance(value, Mapping) else list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case _:
            raise TypeError(type(value).__name__)
