"""Refresh tokens: the child is derived, and what cannot be a token is not looked up."""

from __future__ import annotations

import secrets
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.security.refresh import INVITATION, REFRESH, new_bearer, read_bearer

KEYS = [secrets.token_bytes(32), secrets.token_bytes(32)]


def test_what_is_written_is_read() -> None:
    account = uuid4()
    token = new_bearer(REFRESH, account)

    assert read_bearer(REFRESH, token.text) == token
    assert token.id == account
    assert token.text.startswith("mc_ref_")
    assert len(token.text) == 71
    assert len(token.hash) == 64


def test_racers_get_one_child_and_strangers_another() -> None:
    token = new_bearer(REFRESH, uuid4())

    assert token.child(KEYS[0]) == token.child(KEYS[0])
    assert len({token.hash, token.child(KEYS[0]).hash, token.child(KEYS[1]).hash}) == 3
    assert token.child(KEYS[0]).id == token.id


def test_a_child_is_found_under_the_key_it_was_made_with() -> None:
    token = new_bearer(REFRESH, uuid4())

    for key in KEYS:
        assert token.child_with(KEYS, token.child(key).hash) == token.child(key)
    assert token.child_with(KEYS, token.hash) is None


def test_a_token_does_not_show_itself() -> None:
    token = new_bearer(REFRESH, uuid4())
    assert token.text[7:] not in repr(token)
    assert repr(token.secret) not in repr(token)


@given(st.text(max_size=80))
def test_whatever_is_no_token_is_none(text: str) -> None:
    assert read_bearer(REFRESH, text) is None
    assert read_bearer(REFRESH, REFRESH + text) is None or len(text) == 64


@pytest.mark.parametrize("other", ["+", "/", " ", "=", "é", "\n"])
def test_one_spelling_only(other: str) -> None:
    token = new_bearer(REFRESH, uuid4()).text
    assert read_bearer(REFRESH, token[:-1] + other) is None
    assert read_bearer(INVITATION, token) is None
