"""Project keys: `mc_sec_` or `mc_pub_`, 256 random bits and a checksum; only their SHA-256 is kept."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

KeyKind = Literal["secret", "publishable"]

PREFIX_LENGTH: Final = 12
_BEGINS: Final[Mapping[KeyKind, str]] = MappingProxyType({"secret": "mc_sec_", "publishable": "mc_pub_"})
_SHAPE: Final = re.compile(r"mc_(?:sec|pub)_([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{6})\Z")


def new_key(kind: KeyKind = "secret") -> str:
    """A fresh key, shown once and never stored."""
    body = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return f"{_BEGINS[kind]}{body}{_checksum(body)}"


def is_key(text: str) -> bool:
    """Whether `text` begins as keys do, well formed or not."""
    return text.startswith(tuple(_BEGINS.values()))


def is_well_formed(key: str) -> bool:
    """Whether `key` has the shape and checksum of a key: a typo is refused without asking the database."""
    match = _SHAPE.match(key)
    return match is not None and secrets.compare_digest(_checksum(match[1]), match[2])


def key_hash(key: str) -> str:
    """What the database keeps of a key: its SHA-256 in hexadecimal (the key itself has 256 bits of entropy)."""
    return hashlib.sha256(key.encode()).hexdigest()


def key_prefix(key: str) -> str:
    """The first 12 characters of a key: enough for people to tell theirs apart, and 30 of its 256 bits."""
    return key[:PREFIX_LENGTH]


def _checksum(body: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(b"memcube:" + body.encode()).digest()).decode()[:6]
