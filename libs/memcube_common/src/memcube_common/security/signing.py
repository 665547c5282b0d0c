"""What the house hands out and must know again: cursors and links, signed so that nobody can make or change one."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final

SIGNED_MAX: Final = 8_192
"""Longest text that is looked at, in characters."""

_TAG: Final = 32


class Signer:
    """Signs for one purpose: HMAC-SHA256 (RFC 2104) under a key derived for it, so that purposes never stand in for
    each other.

    secret: what signs. former: what signed before, still believed, so that keys can be changed one after the other.
    """

    def __init__(self, secret: bytes, purpose: str, *, former: Sequence[bytes] = ()) -> None:
        label = b"memcube/signing/v1/" + purpose.encode()
        self._keys = [hmac.digest(one, label, "sha256") for one in (secret, *former)]

    def sign(self, payload: bytes) -> str:
        """`payload` and its signature as base64url without padding. What is signed can be read by anybody."""
        return _b64(hmac.digest(self._keys[0], payload, "sha256") + payload)

    def open(self, text: str) -> bytes | None:
        """What was signed; None for anything this signer did not make, a second spelling of it included."""
        if len(text) > SIGNED_MAX:
            return None
        try:
            raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            return None
        tag, payload = raw[:_TAG], raw[_TAG:]
        made_here = [hmac.compare_digest(tag, hmac.digest(key, payload, "sha256")) for key in self._keys]
        return payload if any(made_here) and _b64(raw) == text else None


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
