"""What a download answers: ranges, validators, file names; and the link that stands for one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import orjson

from memcube_common.contracts.fields import MemoryType, Role
from memcube_common.security.grants import Grant
from memcube_common.security.principal import Principal

_RANGE: Final = re.compile(
    r"\s*bytes\s*=\s*(?:(\d{1,15})\s*-\s*(\d{0,15})|-\s*(\d{1,15}))\s*\Z", re.ASCII | re.IGNORECASE
)


class NotSatisfiable(Exception):
    """The range lies outside of what there is."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `start` to `end`, exclusive."""

    start: int
    end: int


def span_of(header: str | None, size: int) -> Span | None:
    """What a Range header asks of `size` bytes (RFC 9110 14.2); None for all: no header, another unit, several ranges.

    Raises NotSatisfiable.
    """
    match = _RANGE.match(header) if header is not None else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0:
            raise NotSatisfiable
        return Span(max(0, size - int(suffix)), size)
    start = int(first)
    if last and int(last) < start:  # not a range at all
        return None
    if start >= size:
        raise NotSatisfiable
    return Span(start, min(int(last) + 1, size) if last else size)


def names_tag(header: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names `tag` (compared weakly), or anything."""
    if header is None:
        return False
    said = [one.strip().removeprefix("W/") for one in header.split(",")]
    return "*" in said or tag in said


def file_name(memory_id: UUID, type: MemoryType, version: int) -> str:
    """What a download is saved as: of letters, digits, '-' and '.' only."""
    return f"{memory_id}-v{version}.{'txt' if type == 'PLAINTEXT' else 'bin'}"


def media_type(type: MemoryType) -> str:
    """What a payload is sent as: never anything a browser would run."""
    return "text/plain; charset=utf-8" if type == "PLAINTEXT" else "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Link:
    """A download that needs no credential: what of, in whose name, until when."""

    memory_id: UUID
    version: int
    grant: Grant
    account: UUID | None
    expires_at: datetime

    def principal(self, address: str) -> Principal:
        """Whom the database sees when it is used from `address`."""
        assert self.grant.role != "PUBLIC"
        source = f"{self.grant.credential} link {address}"
        return Principal.user(
            self.grant.project, self.grant.agent, self.grant.role, account=self.account, source=source
        )

    def packed(self) -> bytes:
        """As it is signed."""
        grant = self.grant
        until = None if grant.expires_at is None else grant.expires_at.timestamp()
        return orjson.dumps(
            [
                self.memory_id.hex,
                self.version,
                grant.project,
                grant.agent,
                grant.role,
                grant.credential,
                until,
                None if self.account is None else self.account.hex,
                int(self.expires_at.timestamp()),
            ]
        )

    @classmethod
    def unpacked(cls, packed: bytes) -> Link:
        """What was signed; only for bytes whose signature held."""
        memory, version, project, agent, role, credential, until, account, over = orjson.loads(packed)
        named: Role = role
        ends = None if until is None else datetime.fromtimestamp(until, UTC)
        return cls(
            UUID(hex=memory),
            version,
            Grant(project, agent, named, credential, ends),
            None if account is None else UUID(hex=account),
            datetime.fromtimestamp(over, UTC),
        )
