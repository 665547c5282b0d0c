"""Identifiers: UUIDv7 made by the application, project slugs, and ids derived from other ids."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, NewType
from uuid import UUID

from pydantic import AfterValidator, StringConstraints
from uuid_utils.compat import uuid7

PROJECT_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
AGENT_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$"
TASK_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"

MemoryId = NewType("MemoryId", UUID)
InsightId = NewType("InsightId", UUID)

ProjectSlug = Annotated[str, StringConstraints(pattern=PROJECT_PATTERN)]
"""A project's name in URLs, subjects and settings: 1-63 characters of a-z, 0-9 and '-'."""

AgentName = Annotated[str, StringConstraints(pattern=AGENT_PATTERN)]
"""A sender's name as it stands in a subject: 1-64 characters of A-Z, a-z, 0-9, '_' and '-'."""

TaskName = Annotated[str, StringConstraints(pattern=TASK_PATTERN)]
"""A task's id as its tracker knows it, e.g. TASK-123: 1-128 characters of A-Z, a-z, 0-9, '.', '_', ':' and '-'."""

_PROJECT = re.compile(PROJECT_PATTERN.replace("$", r"\Z"))
_AGENT = re.compile(AGENT_PATTERN.replace("$", r"\Z"))


def _require_v7(value: UUID) -> UUID:
    if value.version != 7:
        raise ValueError("must be a UUID of version 7 (RFC 9562)")
    return value


Uuid7 = Annotated[UUID, AfterValidator(_require_v7)]


def new_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562): sorts by the millisecond it was made in."""
    return uuid7()


def derive(parent: UUID, what: str) -> UUID:
    """The UUIDv7 that belongs to `parent` under the name `what`: same millisecond, the rest from SHA-256.

    The same insight therefore always makes the same memory id, however often it is delivered.
    """
    return _compose(parent.int >> 80, hashlib.sha256(parent.bytes + b"/" + what.encode()).digest())


def derive_nth(parent: UUID, what: str, place: int) -> UUID:
    """The UUIDv7 of the `place`-th thing (from 0) that `parent` brings: so many milliseconds later, so they sort."""
    milliseconds = min((parent.int >> 80) + place, (1 << 48) - 1)
    return _compose(milliseconds, hashlib.sha256(parent.bytes + f"/{what}/{place}".encode()).digest())


def derive_external(project: str, external_id: str) -> UUID:
    """The UUIDv7 of something that has an id of its own elsewhere: the same whenever it comes; its time part is 0."""
    return _compose(0, hashlib.sha256(f"{project}/{external_id}".encode()).digest())


def _compose(milliseconds: int, digest: bytes) -> UUID:
    rest = int.from_bytes(digest[:10], "big")
    value = (milliseconds << 80) | (rest & ~(0xF << 76) & ((1 << 80) - 1)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)


def is_project_slug(text: str) -> bool:
    """Whether `text` may stand as a project in a subject, a URL or a setting."""
    return _PROJECT.match(text) is not None


def is_agent_name(text: str) -> bool:
    """Whether `text` may stand as a sender in a subject."""
    return _AGENT.match(text) is not None
