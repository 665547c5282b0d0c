"""NATS' keys and JWTs: made as NATS makes them, and believed only where they are whole."""

from __future__ import annotations

import base64
import json

import pytest

from memcube_common.security import nkeys
from memcube_common.security.nkeys import ACCOUNT, SERVER, AccountKey, new_account_seed, verified

# A pair as the library `nkeys` of the NATS authors makes it.
SEED = "SAAG2LY32CSJ45ZVZDQQGQXZWZMF3UL2YMYJ4T4IWETAYXVJPPR5IGO2NM"
ISSUER = "ADWMNM252NIJAPAFCCZTO37PMM4G6FODIRTZSS4GU725HLJXD342VOVE"
DOCUMENTED = "SAAPN4W3EG6KCJGUQTKTJ5GSB5NHK5CHAJL4DBGFUM3HHROI4XUEP4OBK4"
COPIED_EVERYWHERE = (
    "SAANDLKMXL6CUS3CP52WIXBEDN6YJ545GDKC65U5JZPPV6WH6ESWUA6YAI"  # of the same guide, and of NATS' tests
)


def test_the_public_half_is_the_one_that_nats_makes_of_the_seed() -> None:
    assert AccountKey(SEED).issuer == ISSUER


def test_a_fresh_seed_is_an_accounts_and_never_the_same() -> None:
    one, other = new_account_seed(), new_account_seed()
    assert one != other
    assert one.startswith("SA")
    assert AccountKey(one).issuer.startswith("A")


@pytest.mark.parametrize(
    "seed",
    [
        "", "SA", DOCUMENTED, COPIED_EVERYWHERE,
        SEED[:-1], SEED + "A", SEED.replace("G2LY", "G2LZ"), SEED.lower(), "SU" + SEED[2:], ISSUER,
        nkeys.encoded(bytes([18 << 3, 0]) + b"\x00" * 32),
        nkeys.encoded(bytes([18 << 3, 0]) + b"0123456789abcdef0123456789abcdef"),
        nkeys.encoded(bytes([18 << 3 | 5, 0]) + bytes(range(7, 250, 8))[:32]),
    ],
)  # fmt: skip
def test_what_is_not_a_random_account_seed_is_refused(seed: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        AccountKey(seed)


def test_what_is_signed_is_believed_from_the_right_kind_of_issuer_only() -> None:
    token = AccountKey(SEED).sign({"sub": "x"})
    claims = verified(token, issued_by=ACCOUNT)
    assert (claims["sub"], claims["iss"]) == ("x", ISSUER)
    with pytest.raises(ValueError, match="issued"):
        verified(token, issued_by=SERVER)


def test_a_token_with_any_change_is_refused() -> None:
    header, body, signature = AccountKey(SEED).sign({"sub": "x"}).split(".")
    other = _b64({"typ": "JWT", "alg": "none"})
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    for forged in (
        "", "..", "a.b.c", f"{header}.{body}", f"{header}.{body}.", f"{other}.{body}.{signature}",
        f"{header}.{_b64({**claims, 'sub': 'y'})}.{signature}",
        f"{header}.{_b64({**claims, 'iss': AccountKey(new_account_seed()).issuer})}.{signature}",
        f"{header}.{_b64({**claims, 'iss': 7})}.{signature}", f"{header}.{_b64([])}.{signature}",
        f"{header}.{body}.{signature[:-4]}AAAA",
    ):  # fmt: skip
        with pytest.raises(ValueError):  # noqa: PT011
            verified(forged, issued_by=ACCOUNT)


def _b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
