"""Access tokens: JWT (RFC 7519) signed with Ed25519, valid for an hour, verified without asking anybody."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, cast
from uuid import UUID, uuid4

import orjson
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from memcube_common.errors import NotSignedIn
from memcube_common.security.strength import weakness_of_seed

AUDIENCE: Final = "memcube"
LIFETIME: Final = 3600
LEEWAY: Final = 30
TOKEN_MAX: Final = 2048
_LATEST: Final = 2**53  # beyond it a JSON number is not exact everywhere
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]{1,512})\.([A-Za-z0-9_-]{1,1536})\.([A-Za-z0-9_-]{86})\Z")


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token says: whose it is, in which session, and until when."""

    account: UUID
    session: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str
    seed: bytes
    signer: SigningKey
    header: str


class TokenKeys:
    """The Ed25519 keys of this house: the first signs, all verify, so that they can be changed one after the other.

    text: seeds of 32 bytes in base64url, separated by commas. Raises ValueError for one that is short, repeated,
    text, a pattern or a published example; the message never holds the value.
    """

    def __init__(self, text: str) -> None:
        seeds = [_seed(place, part) for place, part in enumerate(text.split(","), start=1)]
        if len(set(seeds)) != len(seeds):
            raise ValueError("the same key stands there twice")
        self._keys = tuple(_key(seed) for seed in seeds)
        self._by_header: Mapping[str, VerifyKey] = MappingProxyType(
            {key.header: key.signer.verify_key for key in self._keys}
        )

    def sign(self, claims: Mapping[str, object]) -> str:
        """`claims` as a compact JWT under the first key."""
        key = self._keys[0]
        signed = f"{key.header}.{_b64(orjson.dumps(claims))}"
        return f"{signed}.{_b64(key.signer.sign(signed.encode()).signature)}"

    def verifier(self, header: str) -> VerifyKey | None:
        """The key a token under this encoded header was signed with.

        Headers are compared, never interpreted: each key has exactly one, which fixes alg and kid, so that `none`,
        another algorithm, `crit`, `jku` or a key of the sender's own cannot even be asked for.
        """
        return self._by_header.get(header)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys as a JWK Set (RFC 7517, RFC 8037)."""
        return {"keys": [{**_jwk(key.signer), "kid": key.kid, "alg": "EdDSA", "use": "sig"} for key in self._keys]}

    def derivation_keys(self, use: str = "refresh") -> Sequence[bytes]:
        """Keys for deriving refresh tokens, or for another use, newest first: of no use to sign tokens with."""
        return [hashlib.sha256(f"memcube/{use}/v1".encode() + key.seed).digest() for key in self._keys]


class AccessTokens:
    """Issues and verifies access tokens of one issuer. clock: seconds since 1970, for tests."""

    def __init__(self, keys: TokenKeys, *, issuer: str, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._issuer = issuer
        self._clock = clock

    def issue(self, *, account: UUID, session: UUID) -> str:
        """A token for one hour."""
        now = int(self._clock())
        return self._keys.sign(
            {
                "iss": self._issuer,
                "aud": AUDIENCE,
                "sub": str(account),
                "sid": str(session),
                "iat": now,
                "exp": now + LIFETIME,
                "jti": str(uuid4()),
            }
        )

    def verify(self, token: str) -> Claims:
        """What `token` says, if it is ours and valid at this moment, give or take 30 seconds.

        Asks nobody and reads nothing of a token before its signature was found good. Raises NotSignedIn.
        """
        match = _COMPACT.match(token) if len(token) <= TOKEN_MAX else None
        key = None if match is None else self._keys.verifier(match[1])
        if match is None or key is None:
            raise NotSignedIn
        try:
            key.verify(token[: match.end(2)].encode(), _unb64(match[3]))
            said: object = orjson.loads(_unb64(match[2]))
        except (BadSignatureError, ValueError):
            raise NotSignedIn from None
        if not isinstance(said, dict):
            raise NotSignedIn
        return self._claims(cast("dict[str, Any]", said))

    def _claims(self, said: Mapping[str, Any]) -> Claims:
        now = self._clock()
        issued, expires, not_before = _moment(said.get("iat")), _moment(said.get("exp")), said.get("nbf")
        account, session = _uuid(said.get("sub")), _uuid(said.get("sid"))
        if (
            said.get("iss") != self._issuer
            or said.get("aud") != AUDIENCE
            or account is None
            or session is None
            or issued is None
            or expires is None
            or not issued - LEEWAY <= now < expires + LEEWAY
            or expires - issued > LIFETIME
        ):
            raise NotSignedIn
        if not_before is not None and ((begins := _moment(not_before)) is None or now < begins - LEEWAY):
            raise NotSignedIn
        return Claims(account, session, datetime.fromtimestamp(expires, UTC))


def new_token_key() -> str:
    """A fresh key for MEMCUBE_TOKEN_KEYS: 32 random bytes in base64url."""
    return _b64(secrets.token_bytes(32))


def _seed(place: int, text: str) -> bytes:
    try:
        seed = _unb64(text.strip())
    except ValueError:
        raise ValueError(f"key {place} is not base64url") from None
    if (weakness := weakness_of_seed(seed)) is not None:
        raise ValueError(f"key {place} {weakness}")
    return seed


def _key(seed: bytes) -> _Key:
    signer = SigningKey(seed)
    thumbprint = hashlib.sha256(orjson.dumps(_jwk(signer))).digest()  # RFC 7638 §3: members in order, no spaces
    kid = _b64(thumbprint)
    return _Key(kid, seed, signer, _b64(orjson.dumps({"alg": "EdDSA", "kid": kid, "typ": "JWT"})))


def _jwk(signer: SigningKey) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": _b64(bytes(signer.verify_key))}


def _moment(value: object) -> int | None:
    """Whole seconds since 1970; JSON booleans, fractions and numbers nobody means are None."""
    return value if type(value) is int and 0 < value < _LATEST else None


def _uuid(value: object) -> UUID | None:
    if not isinstance(value, str) or len(value) != 36:
        return None
    try:
        made = UUID(value)
    except ValueError:
        return None
    return made if str(made) == value else None


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    """Strictly: the one spelling of these bytes, nothing that decodes to them as well. Raises ValueError."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if _b64(raw) != text:
        raise ValueError("not base64url")
    return raw
