"""Access tokens: what is ours is read, and everything that only looks like it is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from nacl.signing import SigningKey

from memcube_common.errors import NotSignedIn
from memcube_common.security.tokens import LIFETIME, AccessTokens, TokenKeys

SEED = hashlib.sha256(b"a seed of these tests").digest()
OTHER_SEED = hashlib.sha256(b"a seed of somebody else").digest()
ACCOUNT, SESSION = uuid4(), uuid4()
NOW = 1_800_000_000


def b64(raw: bytes | str) -> str:
    return base64.urlsafe_b64encode(raw.encode() if isinstance(raw, str) else raw).rstrip(b"=").decode()


def house(*seeds: bytes, now: float = NOW, issuer: str = "memcube") -> AccessTokens:
    keys = TokenKeys(",".join(b64(seed) for seed in (seeds or (SEED,))))
    return AccessTokens(keys, issuer=issuer, clock=lambda: now)


KID = str(TokenKeys(b64(SEED)).jwks()["keys"][0]["kid"])
HEADER: dict[str, Any] = {"alg": "EdDSA", "kid": KID, "typ": "JWT"}
PAYLOAD: dict[str, Any] = {
    "iss": "memcube",
    "aud": "memcube",
    "sub": str(ACCOUNT),
    "sid": str(SESSION),
    "iat": NOW,
    "exp": NOW + LIFETIME,
    "jti": "1",
}


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def signed(header: object, payload: object, sign: Callable[[bytes], bytes] | None = None) -> str:
    """A JWT of whatever header and payload, signed by our own key unless told otherwise."""
    first = b64(header if isinstance(header, str | bytes) else compact(header))
    second = b64(payload if isinstance(payload, str | bytes) else compact(payload))
    made = f"{first}.{second}".encode()
    signature = SigningKey(SEED).sign(made).signature if sign is None else sign(made)
    return f"{first}.{second}.{b64(signature)}"


def changed(**claims: Any) -> str:
    return signed(HEADER, {**PAYLOAD, **claims})


def without(claim: str) -> str:
    return signed(HEADER, {name: value for name, value in PAYLOAD.items() if name != claim})


def by_hmac(made: bytes) -> bytes:
    return hmac.digest(bytes(SigningKey(SEED).verify_key), made, "sha256")


def by_rsa(made: bytes) -> bytes:
    return rsa.generate_private_key(65537, 2048).sign(made, padding.PKCS1v15(), hashes.SHA256())


def by_ecdsa(made: bytes) -> bytes:
    r, s = decode_dss_signature(ec.generate_private_key(ec.SECP256R1()).sign(made, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def by_another(made: bytes) -> bytes:
    return SigningKey(OTHER_SEED).sign(made).signature


GOOD = signed(HEADER, PAYLOAD)
ONE, TWO, THREE = GOOD.split(".")
OTHER_KEY = {"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(SigningKey(OTHER_SEED).verify_key))}

FORGED: dict[str, str] = {
    "alg none, no signature": f"{b64(compact({'alg': 'none', 'kid': KID, 'typ': 'JWT'}))}.{TWO}.",
    "alg none, old signature": f"{b64(compact({**HEADER, 'alg': 'none'}))}.{TWO}.{THREE}",
    "alg None": signed({**HEADER, "alg": "None"}, PAYLOAD),
    "alg NONE": signed({**HEADER, "alg": "NONE"}, PAYLOAD),
    "alg nOnE": signed({**HEADER, "alg": "nOnE"}, PAYLOAD, lambda _: b""),
    "no alg": signed({"kid": KID, "typ": "JWT"}, PAYLOAD),
    "HS256 with the public key": signed({**HEADER, "alg": "HS256"}, PAYLOAD, by_hmac),
    "HMAC under our header": signed(HEADER, PAYLOAD, by_hmac),
    "RS256": signed({**HEADER, "alg": "RS256"}, PAYLOAD, by_rsa),
    "ES256": signed({**HEADER, "alg": "ES256"}, PAYLOAD, by_ecdsa),
    "ECDSA under our header": signed(HEADER, PAYLOAD, by_ecdsa),
    "Ed25519 by another name": signed({**HEADER, "alg": "Ed25519"}, PAYLOAD),
    "another key under our kid": signed(HEADER, PAYLOAD, by_another),
    "foreign kid": signed({**HEADER, "kid": "another"}, PAYLOAD, by_another),
    "kid as a path": signed({**HEADER, "kid": "../../dev/null"}, PAYLOAD),
    "kid as SQL": signed({**HEADER, "kid": "' union select 'x"}, PAYLOAD),
    "no kid": signed({"alg": "EdDSA", "typ": "JWT"}, PAYLOAD),
    "jwk of the sender": signed({**HEADER, "jwk": OTHER_KEY}, PAYLOAD, by_another),
    "jku of the sender": signed({**HEADER, "jku": "https://example.org/jwks.json"}, PAYLOAD),
    "x5u of the sender": signed({**HEADER, "x5u": "https://example.org/cert.pem"}, PAYLOAD),
    "crit": signed({**HEADER, "crit": ["exp"]}, PAYLOAD),
    "b64 false": signed({**HEADER, "b64": False, "crit": ["b64"]}, PAYLOAD),
    "typ of something else": signed({**HEADER, "typ": "at+jwt"}, PAYLOAD),
    "cty, a nested one": signed({**HEADER, "cty": "JWT"}, GOOD),
    "a token inside a token": signed(HEADER, GOOD),
    "header twice the same key": signed(f'{{"alg":"none","alg":"EdDSA","kid":"{KID}","typ":"JWT"}}', PAYLOAD),
    "header in another order": signed(compact({"typ": "JWT", **HEADER}), PAYLOAD),
    "expired": changed(iat=NOW - LIFETIME - 31, exp=NOW - 31),
    "issued in the future": changed(iat=NOW + 31, exp=NOW + 31 + 60),
    "not yet valid": changed(nbf=NOW + 31),
    "nbf that is text": changed(nbf="now"),
    "valid for longer than ours are": changed(exp=NOW + LIFETIME + 1),
    "no exp": without("exp"),
    "no iat": without("iat"),
    "no aud": without("aud"),
    "no iss": without("iss"),
    "no sub": without("sub"),
    "no sid": without("sid"),
    "wrong aud": changed(aud="another"),
    "aud as a list": changed(aud=["memcube"]),
    "wrong iss": changed(iss="memcube.example.org"),
    "sub that is no uuid": changed(sub="ada"),
    "sub with braces": changed(sub="{" + str(ACCOUNT) + "}"),
    "sub in capitals": changed(sub=str(uuid4()).upper()),
    "sid that is no uuid": changed(sid=1),
    "exp that is a fraction": changed(exp=NOW + 60.5),
    "exp that is huge": changed(exp=10**30),
    "exp that is infinite": signed(HEADER, compact(PAYLOAD).replace(str(NOW + LIFETIME), "1e400")),
    "exp that is text": changed(exp=str(NOW + 60)),
    "exp that is true": changed(exp=True),
    "exp that is negative": changed(exp=-1),
    "payload that is a list": signed(HEADER, [PAYLOAD]),
    "payload that is no JSON": signed(HEADER, "{"),
    "payload that is nothing": signed(HEADER, ""),
    "payload that is no UTF-8": signed(HEADER, b"\xff\xfe"),
    "payload after the signature": f"{ONE}.{b64(compact({**PAYLOAD, 'sub': str(uuid4())}))}.{THREE}",
    "signature with a flipped bit": f"{ONE}.{TWO}.{('A' if THREE[0] != 'A' else 'B') + THREE[1:]}",
    "signature of nothing": f"{ONE}.{TWO}.",
    "signature of zeros": f"{ONE}.{TWO}.{b64(bytes(64))}",
    "signature cut short": GOOD[:-1],
    "signature spelt otherwise": f"{ONE}.{TWO}.{THREE[:-1]}{chr(ord(THREE[-1]) + 1)}",
    "two segments": f"{ONE}.{TWO}",
    "four segments": f"{GOOD}.{THREE}",
    "five segments, as a JWE": f"{b64(compact({'alg': 'dir', 'enc': 'A256GCM'}))}.{ONE}.{TWO}.{THREE}.{THREE}",
    "JSON serialisation": compact({"protected": ONE, "payload": TWO, "signature": THREE}),
    "a space before": f" {GOOD}",
    "a space behind": f"{GOOD} ",
    "a line behind": f"{GOOD}\n",
    "a space inside": f"{ONE}. {TWO}.{THREE}",
    "padding": f"{ONE}=.{TWO}.{THREE}",
    "plain base64": GOOD.replace("-", "+").replace("_", "/") + "+",
    "letters that look alike": GOOD.replace("e", "\u0435", 1),
    "a NUL": f"{ONE}.{TWO}\x00.{THREE}",
    "nothing": "",
    "dots": "..",
    "too large": signed(HEADER, {**PAYLOAD, "more": "x" * 2048}),
    "a mebibyte": GOOD + "A" * (1 << 20),
}


def test_our_own_token_is_read() -> None:
    tokens = house()
    for token in (GOOD, tokens.issue(account=ACCOUNT, session=SESSION)):
        claims = tokens.verify(token)
        assert (claims.account, claims.session) == (ACCOUNT, SESSION)
        assert claims.expires_at.timestamp() == NOW + LIFETIME


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(name: str) -> None:
    token = FORGED[name]
    assert token != GOOD
    with pytest.raises(NotSignedIn) as refused:
        house().verify(token)
    assert token == "" or token not in str(refused.value)


def test_there_are_more_than_25_forgeries_and_each_is_refused_in_a_millisecond() -> None:
    tokens = house()
    assert len(FORGED) > 25
    for token in FORGED.values():
        best = min(_seconds(tokens, token) for _ in range(3))
        assert best < 0.001


def _seconds(tokens: AccessTokens, token: str) -> float:
    started = time.perf_counter()
    with pytest.raises(NotSignedIn):
        tokens.verify(token)
    return time.perf_counter() - started


def test_clocks_may_differ_by_half_a_minute() -> None:
    token = house().issue(account=ACCOUNT, session=SESSION)
    for seconds in (-30, LIFETIME + 29):
        house(now=NOW + seconds).verify(token)
    for seconds in (-31, LIFETIME + 30):
        with pytest.raises(NotSignedIn):
            house(now=NOW + seconds).verify(token)


def test_keys_are_changed_one_after_the_other() -> None:
    old = house(SEED).issue(account=ACCOUNT, session=SESSION)
    both = house(OTHER_SEED, SEED)

    assert both.verify(old).account == ACCOUNT
    new = both.issue(account=ACCOUNT, session=SESSION)
    with pytest.raises(NotSignedIn):
        house(SEED).verify(new)
    with pytest.raises(NotSignedIn):
        house(OTHER_SEED).verify(old)


def test_another_issuer_is_not_ours() -> None:
    token = house(issuer="https://memory.example.org").issue(account=ACCOUNT, session=SESSION)
    with pytest.raises(NotSignedIn):
        house().verify(token)


def test_the_published_keys_hold_nothing_secret_and_their_names_are_thumbprints() -> None:
    [key] = TokenKeys(b64(SEED)).jwks()["keys"]

    assert key.keys() == {"kty", "crv", "x", "kid", "alg", "use"}
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{key["x"]}"}}'  # RFC 7638, section 3
    assert key["kid"] == b64(hashlib.sha256(canonical.encode()).digest())
