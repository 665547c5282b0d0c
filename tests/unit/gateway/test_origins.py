"""CORS: exact origins, no wildcard, no cookies."""

from __future__ import annotations

import pytest

from memcube_gateway.origins import Origins, read_origins

APP = b"https://app.example.com"


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://user@app.example.com",
        "https://*.example.com",
        "HTTPS://app.example.com",
        "https://App.example.com",
        "ftp://app.example.com",
        "https://app.example.com:99999",
        "https://",
        "https://app.exämple.com",
    ],
)
def test_what_no_browser_sends_as_an_origin_refuses_to_start(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_origins(f"{APP.decode()},{text}")


def test_origins_are_read_as_they_stand() -> None:
    assert read_origins(" https://app.example.com , http://localhost:5173,https://[::1]:8443,") == {
        APP,
        b"http://localhost:5173",
        b"https://[::1]:8443",
    }


@pytest.mark.parametrize(
    "origin",
    [
        None,
        b"",
        b"null",
        b"https://app.example.com.evil.test",
        b"https://evilapp.example.com",
        b"http://app.example.com",
        b"https://app.example.com:444",
        b"https://APP.example.com",
    ],
)
def test_another_origin_is_told_nothing_but_that_answers_differ(origin: bytes | None) -> None:
    origins = Origins(frozenset({APP}))

    assert not origins.allows(origin)
    assert origins.headers(origin) == [(b"vary", b"Origin")]


def test_an_allowed_origin_is_named_and_never_with_cookies() -> None:
    origins = Origins(frozenset({APP}))
    said = dict([*origins.headers(APP), *origins.preflight(APP)])

    assert said[b"access-control-allow-origin"] == APP
    assert b"access-control-allow-credentials" not in said
    assert b"*" not in b"".join(said.values())


def test_without_origins_nothing_is_said() -> None:
    assert Origins(frozenset()).headers(APP) == []
