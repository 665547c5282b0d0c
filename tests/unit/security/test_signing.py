"""What was signed comes back; nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.security.signing import SIGNED_MAX, Signer
from memcube_common.security.tokens import TokenKeys, new_token_key

SECRET = bytes(range(32))


@given(st.binary(max_size=300))
def test_what_was_signed_comes_back(payload: bytes) -> None:
    signer = Signer(SECRET, "cursor")
    assert signer.open(signer.sign(payload)) == payload


@given(st.binary(max_size=60), st.data())
def test_a_changed_character_is_not_believed(payload: bytes, data: st.DataObject) -> None:
    signer = Signer(SECRET, "cursor")
    text = signer.sign(payload)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABab01-_=é\n").filter(lambda c: c != text[place]))
    assert signer.open(text[:place] + other + text[place + 1 :]) is None


@pytest.mark.parametrize("text", ["", "A", "not signed", "é" * 50, "A" * 44, "A" * (SIGNED_MAX + 1)])
def test_what_nobody_signed_is_not_believed(text: str) -> None:
    assert Signer(SECRET, "cursor").open(text) is None


def test_a_second_spelling_is_not_believed() -> None:
    signer = Signer(SECRET, "cursor")
    text = signer.sign(b"12")
    assert [signer.open(text + more) for more in ("=", "==", "\n", " ")] == [None] * 4


def test_purposes_and_secrets_do_not_stand_in_for_each_other() -> None:
    text = Signer(SECRET, "cursor").sign(b"12")
    assert Signer(SECRET, "download").open(text) is None
    assert Signer(bytes(32), "cursor").open(text) is None


def test_a_former_secret_is_believed_and_no_longer_signs() -> None:
    earlier = Signer(bytes(32), "cursor")
    now = Signer(SECRET, "cursor", former=[bytes(32)])
    assert now.open(earlier.sign(b"12")) == b"12"
    assert earlier.open(now.sign(b"12")) is None


def test_keys_for_one_use_are_not_those_for_another() -> None:
    keys = TokenKeys(f"{new_token_key()},{new_token_key()}")
    assert len({*keys.derivation_keys(), *keys.derivation_keys("signing")}) == 4
