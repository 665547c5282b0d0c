"""A room whose settings are missing or unfit does not start, and says which by name, never by value."""

from __future__ import annotations

import base64
import secrets
import subprocess
import sys

import pytest

POSTGRES = "postgresql://memcube_login_x:0123456789abcdefXYZ_long@127.0.0.1:1/memcube"
NATS = "nats://x:0123456789abcdefXYZ_long@127.0.0.1:1"


def started(room: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The room, started with nothing but this in its environment."""
    return subprocess.run(
        [sys.executable, "-m", f"memcube_{room}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("room", ["gateway", "ingestion", "embedding", "scheduling", "marketplace", "lifecycle"])
def test_a_room_without_settings_names_them(room: str) -> None:
    ended = started(room)
    assert ended.returncode == 1
    assert "MEMCUBE_POSTGRES_DSN: is not set" in ended.stderr
    assert "MEMCUBE_NATS_URL: is not set" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("secret", ["", "short", "change-me", "0" * 43, "c2VjcmV0"])
def test_a_gateway_does_not_sign_with_a_weak_key(secret: str) -> None:
    ended = started("gateway", MEMCUBE_POSTGRES_DSN=POSTGRES, MEMCUBE_NATS_URL=NATS, MEMCUBE_TOKEN_KEYS=secret)
    assert ended.returncode == 1
    assert ended.stderr.startswith("MEMCUBE_TOKEN_KEYS: ")
    assert not secret or secret not in ended.stderr


def test_a_gateway_lets_agents_in_wholly_or_not() -> None:
    ended = started(
        "gateway",
        MEMCUBE_POSTGRES_DSN=POSTGRES,
        MEMCUBE_NATS_URL=NATS,
        MEMCUBE_TOKEN_KEYS=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("="),
        MEMCUBE_NATS_CALLOUT_URL=NATS.replace("//x", "//callout"),
    )
    assert ended.returncode == 1
    assert "set all of them or none" in ended.stderr
    assert "Traceback" not in ended.stderr
