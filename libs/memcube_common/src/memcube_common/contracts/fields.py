"""The fields of the contract, each with its limit: text, tags, labels, free JSON, governance."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, cast

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

CONTENT_MAX_BYTES = 64 * 1024
METADATA_MAX_BYTES = 16 * 1024
METADATA_MAX_DEPTH = 32
INTEGER_LIMIT = 2**63

MemoryType = Literal["PLAINTEXT", "ACTIVATION", "PARAMETER"]
Priority = Literal["HOT", "WARM", "COLD"]
Lifecycle = Literal["NEW", "ACTIVE", "STALE", "ARCHIVED", "EXPIRED"]
Trust = Literal["trusted", "untrusted", "quarantined"]
EmbeddingState = Literal["pending", "ready", "failed"]
ReceiptState = Literal["accepted", "stored", "embedded", "searchable", "failed", "parked"]
Decision = Literal["new", "duplicate", "near_duplicate", "echo"]
Role = Literal["OWNER", "ADMIN", "MEMBER", "AGENT", "VIEWER", "SERVICE"]
QuotaResource = Literal["memories", "bytes", "insights_per_day", "packs"]
Screening = Literal["off", "tag", "redact"]


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Unicode's category Cc."""


def storable(text: str) -> str:
    """Refuse what no database column can keep: NUL characters and lone surrogates."""
    if "\x00" in text:
        raise ValueError("must not contain NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return text


def _not_blank(text: str) -> str:
    if text[:1].isalnum():
        return text
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise ValueError("must not be blank")
    return text


def _composed(text: str) -> str:
    """In Unicode's composed form (NFC), so that what looks alike is alike."""
    return unicodedata.normalize("NFC", text)


def _at_most(limit: int) -> Callable[[str], str]:
    """Once more, of what is kept: composing can lengthen a text."""

    def check(text: str) -> str:
        if len(text) > limit:
            raise ValueError(f"must be at most {limit} characters in Unicode's composed form, got {len(text)}")
        return text

    return check


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


def _at_most_bytes(limit: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if (size := len(text.encode())) > limit:
            raise ValueError(f"must be at most {limit} bytes of UTF-8, got {size}")
        return text

    return check


Text = Annotated[str, AfterValidator(storable)]
Content = Annotated[
    str,
    StringConstraints(min_length=1),  # before the functions: afterwards it would speak of "items"
    AfterValidator(storable),
    AfterValidator(_not_blank),
    AfterValidator(_at_most_bytes(CONTENT_MAX_BYTES)),
]
"""Memory text: 1 byte to 64 KiB of UTF-8, not blank, no NUL, no lone surrogates."""

Label = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(storable),
    AfterValidator(_composed),
    AfterValidator(_at_most(200)),
    AfterValidator(_not_blank),
    AfterValidator(_one_line),
]
Tag = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    AfterValidator(storable),
    AfterValidator(_composed),
    AfterValidator(_at_most(64)),
    AfterValidator(_not_blank),
    AfterValidator(_one_line),
]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(storable)]


def _unique(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


Tags = Annotated[list[Tag], Field(max_length=64), AfterValidator(_unique)]
"""At most 64 tags of 1-64 characters; repeats are dropped, order is kept."""


def checked_json(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Refuse JSON that does not survive storage: too deep, too large, not finite, beyond 64 bits, NUL or surrogates."""
    _walk(value, depth=1)
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > METADATA_MAX_BYTES:
        raise ValueError(f"must be at most {METADATA_MAX_BYTES} bytes as JSON, got {size}")
    return value


def _walk(value: object, depth: int) -> None:
    if depth > METADATA_MAX_DEPTH and isinstance(value, dict | list):
        raise ValueError(f"must be nested at most {METADATA_MAX_DEPTH} deep")
    match value:
        case str():
            storable(value)
        case bool() | None:
            pass
        case int() if not -INTEGER_LIMIT <= value < INTEGER_LIMIT:
            raise ValueError("integers must fit in 64 bits")
        case float() if not math.isfinite(value):
            raise ValueError("numbers must be finite")
        case dict():
            for key, inner in cast("dict[str, object]", value).items():
                storable(key)
                _walk(inner, depth + 1)
        case list():
            for inner in cast("list[object]", value):
                _walk(inner, depth + 1)
        case _:
            pass


FreeJson = Annotated[dict[str, JsonValue], AfterValidator(checked_json)]
"""A JSON object of at most 16 KiB and 32 levels, with finite numbers that fit 64 bits."""


def _in_utc(value: datetime) -> datetime:
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999") from None
    if not datetime(1, 1, 2, tzinfo=UTC) <= value <= datetime(9999, 12, 30, tzinfo=UTC):
        raise ValueError("must lie between the years 1 and 9999")
    return value


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""An instant with a time zone, kept in UTC."""


class Closed(BaseModel):
    """A body from outside: unknown fields are refused, because a misspelt field silently ignored is data lost."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


class Principals(Closed):
    """Named principals that governance lets in or keeps out; `deny` beats `allow`."""

    allow: Annotated[list[Reference], Field(max_length=256)] = []
    deny: Annotated[list[Reference], Field(max_length=256)] = []


class Decay(Closed):
    """How a memory's weight falls with age."""

    policy: Literal["none", "exponential"] = "none"
    half_life_days: Annotated[float, Field(gt=0, le=36500)] | None = None
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0


def _default_readers() -> list[Role]:
    return ["MEMBER", "AGENT"]


def _default_writers() -> list[Role]:
    return ["AGENT"]


def _default_sharers() -> list[Role]:
    return ["ADMIN"]


class Governance(Closed):
    """Who may read, change and share a memory, and how long it lives. A closed schema: unknown keys are refused."""

    read_roles: list[Role] = Field(default_factory=_default_readers, max_length=6)
    write_roles: list[Role] = Field(default_factory=_default_writers, max_length=6)
    share_roles: list[Role] = Field(default_factory=_default_sharers, max_length=6)
    principals: Principals = Principals()
    visibility: Literal["private", "project", "public"] = "project"
    shareable: bool = True
    license: Annotated[str, StringConstraints(max_length=100), AfterValidator(storable)] | None = None
    ttl_days: Annotated[int, Field(ge=1, le=36500)] | None = 365
    expires_at: Moment | None = None
    on_expire: Literal["archive", "purge"] = "archive"
    legal_hold: bool = False
    frozen: bool = False
    pin: bool = False
    decay: Decay = Decay()
    sensitivity: Literal["public", "internal", "confidential"] = "internal"
    pii_tagged: bool = False
    pii_kinds: Tags = []
    audit_reads: bool = False


DEFAULT_GOVERNANCE: Final = Governance().model_dump_json()
"""Governance of what was sent without any, as JSON."""


def governance_json(governance: Governance | None) -> str:
    """Governance as it is kept."""
    return DEFAULT_GOVERNANCE if governance is None else governance.model_dump_json()
