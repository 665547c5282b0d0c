"""Secrets that protect nothing do not get a house started."""

from __future__ import annotations

import base64
import secrets
import string

import pytest
from pydantic import SecretStr, ValidationError

from memcube_common.security.strength import weakness_of_password, weakness_of_seed
from memcube_common.security.tokens import TokenKeys
from memcube_gateway.settings import GatewaySettings

GOOD = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


WEAK = {
    "unset": "",
    "a comma": f"{GOOD},",
    "short": b64(secrets.token_bytes(31)),
    "long": b64(secrets.token_bytes(33)),
    "no base64": "!" * 43,
    "padded": f"{GOOD}=",
    "zeros": b64(bytes(32)),
    "one byte": b64(b"\xaa" * 32),
    "counting up": b64(bytes(range(32))),
    "counting down": b64(bytes(range(255, 223, -1))),
    "repeating": b64(secrets.token_bytes(8) * 4),
    "text": b64(b"this is not a secret, only a try"),
    "hexadecimal digits": b64(secrets.token_hex(16).encode()),
    "of RFC 8032 and RFC 8037": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "twice the same": f"{GOOD},{GOOD}",
    "the words of an example": "change-me",
}


def settings(token_keys: str | None, **more: str) -> GatewaySettings:
    given = {
        "postgres_dsn": SecretStr("postgresql://somebody:7f3c1d9be8a2464f@127.0.0.1/memcube"),
        "nats_url": SecretStr("nats://somebody:7f3c1d9be8a2464f@127.0.0.1"),
        **({} if token_keys is None else {"token_keys": SecretStr(token_keys)}),
        **{name: SecretStr(value) for name, value in more.items()},
    }
    return GatewaySettings(**given)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", WEAK)
def test_a_weak_token_key_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(WEAK[name])
    assert "token_keys" in str(refused.value)
    assert not WEAK[name] or WEAK[name] not in str(refused.value)


def test_without_token_keys_the_gateway_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMCUBE_TOKEN_KEYS", raising=False)
    with pytest.raises(ValidationError, match="token_keys"):
        settings(None)


@pytest.mark.parametrize("name", ["postgres_dsn", "nats_url"])
@pytest.mark.parametrize(
    "password", ["secret", "change-me-change-me", "your-password-here-please", "PasswordPassword", "aaaaaaaaaaaaaaaa"]
)
def test_a_servers_weak_password_is_refused_and_not_repeated(name: str, password: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(GOOD, **{name: f"nats://memcube:{password}@127.0.0.1"})
    assert name in str(refused.value)
    assert password not in str(refused.value)


@pytest.mark.parametrize("name", ["postgres_dsn", "nats_url"])
@pytest.mark.parametrize("empty", ["", " "])
def test_no_address_at_all_is_refused(name: str, empty: str) -> None:
    with pytest.raises(ValidationError, match=name):
        settings(GOOD, **{name: empty})


def test_random_secrets_are_good() -> None:
    settings(GOOD)
    TokenKeys(f"{GOOD}, {b64(secrets.token_bytes(32))}")
    for _ in range(2_000):
        assert weakness_of_seed(secrets.token_bytes(32)) is None
        assert weakness_of_password(secrets.token_urlsafe(24)) is None
        assert weakness_of_password("".join(secrets.choice(string.hexdigits[:16]) for _ in range(64))) is None
