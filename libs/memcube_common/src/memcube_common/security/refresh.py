"""Refresh tokens and invitations: secrets that name their row; the child of a refresh token is derived from it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

REFRESH: Final = "mc_ref_"
INVITATION: Final = "mc_inv_"
_LENGTH: Final = 16 + 32


@dataclass(frozen=True, slots=True)
class Bearer:
    """A secret of 256 bits together with the id of what it belongs to: an account, an invitation."""

    begins: str
    id: UUID
    secret: bytes

    def __repr__(self) -> str:
        return f"Bearer({self.begins}…)"

    @property
    def text(self) -> str:
        """As it is handed out."""
        return self.begins + base64.urlsafe_b64encode(self.id.bytes + self.secret).decode()

    @property
    def hash(self) -> str:
        """What the database keeps of it: SHA-256 in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def child(self, key: bytes) -> Bearer:
        """The next token of the same account: HMAC-SHA256 under `key`, so that racers all get the same one."""
        return Bearer(self.begins, self.id, hmac.digest(key, self.id.bytes + self.secret, "sha256"))

    def child_with(self, keys: Sequence[bytes], child_hash: str) -> Bearer | None:
        """The child that was made under one of `keys`, known by its hash; None where none fits."""
        children = (self.child(key) for key in keys)
        return next((child for child in children if hmac.compare_digest(child.hash, child_hash)), None)


def new_bearer(begins: str, of: UUID) -> Bearer:
    """A fresh secret for `of`."""
    return Bearer(begins, of, secrets.token_bytes(32))


def read_bearer(begins: str, text: str) -> Bearer | None:
    """The token that `text` is; None where it cannot be one, so that the database is not asked."""
    if not text.startswith(begins) or len(text) != len(begins) + _LENGTH * 4 // 3:
        return None
    try:
        raw = base64.b64decode(text[len(begins) :].encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    token = Bearer(begins, UUID(bytes=raw[:16]), raw[16:])
    return token if len(raw) == _LENGTH and token.text == text else None  # one spelling only
