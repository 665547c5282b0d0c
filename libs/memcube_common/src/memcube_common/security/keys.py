"""Project keys: `mc_sec_` + 256 random bits + a checksum; only their SHA-256 is kept."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

_SHAPE = re.compile(r"mc_sec_([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{6})\Z")


def new_key() -> str:
    """A fresh secret key, shown once and never stored."""
    body = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return f"mc_sec_{body}{_checksum(body)}"


def is_well_formed(key: str) -> bool:
    """Whether `key` has the shape and checksum of a key: a typo is refused without asking the database."""
    match = _SHAPE.match(key)
    return match is not None and secrets.compare_digest(_checksum(match[1]), match[2])


def key_hash(key: str) -> bytes:
    """What the database keeps of a key: 32 bytes of SHA-256 (the key itself has 256 bits of entropy)."""
    return hashlib.sha256(key.encode()).digest()


def _checksum(body: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(b"memcube:" + body.encode()).digest()).decode()[:6]
