"""NATS' keys and JWTs as the auth callout needs them: Ed25519 behind base32 names with a checksum.

The formats are those of https://docs.nats.io/using-nats/developer/connecting/nkey and of ADR-14 (JWT, algorithm
`ed25519-nkey`) and ADR-26 (auth callout) in nats-io/nats-architecture-and-design.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any, Final, cast

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from memcube_common.security.strength import weakness_of_seed

ACCOUNT: Final = 0
SERVER: Final = 13 << 3
_SEED: Final = 18 << 3
# SHA-256 of seeds that the guides to the auth callout and the tests of nats-server show.
_PUBLISHED: Final = frozenset(
    {
        "06e6b6b95060eafcbaee1fee0f7b43bdc36a04662bea0a75a72c1d5a02a19474",
        "23d224fd9dc668eb8a14e9a4855f1470e5da1aefe177c0040b562e67f7dd4fcf",
    }
)
_HEADER: Final = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"ed25519-nkey"}').rstrip(b"=").decode()


class AccountKey:
    """An account's key pair. `seed` is the secret as NATS writes it (`SA…`); the public half is the issuer's name.

    Raises ValueError where the seed is malformed, not an account's, not random or a published example.
    """

    def __init__(self, seed: str) -> None:
        raw = decoded(seed)
        if len(raw) != 34 or raw[0] & 0xF8 != _SEED or (raw[0] & 7) << 5 | raw[1] >> 3 != ACCOUNT:
            raise ValueError("not the seed of an account key")
        weakness = weakness_of_seed(raw[2:])
        if weakness is not None:
            raise ValueError(f"the seed {weakness}")
        if hashlib.sha256(raw[2:]).hexdigest() in _PUBLISHED:
            raise ValueError("the seed is an example that everybody knows")
        self._private = SigningKey(raw[2:])
        self.issuer = encoded(bytes([ACCOUNT]) + bytes(self._private.verify_key))

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT with these claims, issued by this account now."""
        full = {"jti": _b64(os.urandom(16)), "iat": int(time.time()), "iss": self.issuer, **claims}
        signed = f"{_HEADER}.{_b64(json.dumps(full, separators=(',', ':')).encode())}"
        return f"{signed}.{_b64(self._private.sign(signed.encode()).signature)}"


def new_account_seed() -> str:
    """A fresh account seed: 256 random bits."""
    return encoded(bytes([_SEED | ACCOUNT >> 5, (ACCOUNT & 31) << 3]) + os.urandom(32))


def verified(token: str, *, issued_by: int) -> dict[str, Any]:
    """The claims of a JWT whose signature is that of its issuer, a key of the kind `issued_by` (e.g. SERVER).

    Raises ValueError for anything else. Whether that issuer is to be trusted, the caller must know.
    """
    try:
        header, body, signature = token.split(".")
        algorithm = json.loads(_unb64(header))["alg"]
        claims = cast("dict[str, Any]", json.loads(_unb64(body)))
        key = decoded(claims["iss"])
        if algorithm != "ed25519-nkey" or len(key) != 33 or key[0] != issued_by:
            raise ValueError("not issued by such a key")
        VerifyKey(key[1:]).verify(f"{header}.{body}".encode(), _unb64(signature))
    except (BadSignatureError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError("not a JWT of NATS") from error
    return claims


def encoded(raw: bytes) -> str:
    """A key as NATS writes it: kind and bytes with a CRC-16 (XMODEM), in base32."""
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Kind and bytes of a key that NATS wrote. Raises ValueError for anything else."""
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    if len(raw) < 3 or binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") != raw[-2:]:
        raise ValueError("a key of NATS with a wrong checksum")
    return raw[:-2]


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
