"""Agents over NATS are set up wholly or not at all, and never with a secret that protects nothing."""

from __future__ import annotations

import base64
import secrets
from typing import Any

import pytest
from pydantic import ValidationError

from memcube_common.security.nkeys import new_account_seed
from memcube_gateway.settings import GatewaySettings

WHOLE = {
    "nats_callout_url": "nats://callout:kT0aV9eYx2mQ8rLs7Wd4@127.0.0.1:4222",
    "nats_system_url": "nats://system:Zp3nB6cFh1jU5gKq0Xy9@127.0.0.1:4222",
    "nats_callout_seed": new_account_seed(),
}


def settings(**given: Any) -> GatewaySettings:
    token_keys = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return GatewaySettings(
        postgres_dsn="postgresql://x", nats_url="nats://x", token_keys=token_keys, **given,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def test_all_three_or_none() -> None:
    assert settings().nats_callout_seed is None
    assert settings(**WHOLE).nats_callout_seed is not None
    for missing in WHOLE:
        with pytest.raises(ValidationError, match="all of them or none"):
            settings(**{name: value for name, value in WHOLE.items() if name != missing})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nats_callout_url", "nats://127.0.0.1:4222"),
        ("nats_callout_url", "http://callout:kT0aV9eYx2mQ8rLs7Wd4@127.0.0.1"),
        ("nats_callout_url", "nats://callout:short@127.0.0.1"),
        ("nats_system_url", "nats://system:change-me-change-me@127.0.0.1"),
        ("nats_system_url", ""),
        ("nats_callout_seed", "SA"),
        ("nats_callout_seed", ""),
        ("nats_callout_seed", "SAAPN4W3EG6KCJGUQTKTJ5GSB5NHK5CHAJL4DBGFUM3HHROI4XUEP4OBK4"),
    ],
)
def test_what_is_malformed_or_known_refuses_to_start_and_is_not_repeated(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**{**WHOLE, name: value})
    assert name in str(refused.value)
    assert len(value) < 5 or value not in str(refused.value)
