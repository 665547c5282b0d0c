"""Secrets that protect nothing: unset, short, repeated, or printed somewhere as an example."""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import Final

PASSWORD_LENGTH: Final = 16
_LEAST_DISTINCT_BYTES: Final = 16
_LEAST_DISTINCT_CHARACTERS: Final = 6
_EXAMPLE: Final = re.compile(
    r"change.?me|example|pass.?word|placeholder|replace.?(me|this)|your.?(secret|key|token|password)|<.*>", re.I
)
_PUBLISHED: Final = frozenset(
    {
        # SHA-256 of the private keys of RFC 8032 §7.1, which RFC 8037 and every library's tests show too.
        hashlib.sha256(bytes.fromhex(seed)).digest()
        for seed in (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        )
    }
)


def weakness_of_seed(seed: bytes) -> str | None:
    """Why 32 bytes cannot be a secret key, or None: text, patterns and published examples are not random."""
    if len(seed) != 32:
        return "must be 32 bytes"
    steps = {(after - before) % 256 for before, after in itertools.pairwise(seed)}
    if len(set(seed)) < _LEAST_DISTINCT_BYTES or len(steps) < _LEAST_DISTINCT_BYTES // 2:
        return "must be random, and follows a pattern"
    if all(0x20 <= byte < 0x7F for byte in seed):
        return "must be random bytes, and is text"
    if hashlib.sha256(seed).digest() in _PUBLISHED:
        return "is an example that everybody knows"
    return None


def weakness_of_password(password: str) -> str | None:
    """Why a server's password or token in a setting protects nothing, or None."""
    if len(password) < PASSWORD_LENGTH:
        return f"must have at least {PASSWORD_LENGTH} characters"
    if _EXAMPLE.search(password):
        return "is an example"
    if len(set(password)) < _LEAST_DISTINCT_CHARACTERS:
        return "must be random, and follows a pattern"
    return None
