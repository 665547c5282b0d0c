"""A memory's payload survives packing; its label is one printable line."""

from __future__ import annotations

import hashlib

from hypothesis import example, given
from hypothesis import strategies as st

from memcube_common.memories.domain import INLINE_MAX_BYTES, LABEL_LENGTH, label_from, pack, unpack

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(texts)
@example("ä" * INLINE_MAX_BYTES)
@example("x" * 65_536)
def test_content_survives_packing(text: str) -> None:
    payload = pack(text)
    assert unpack(payload.content, payload.content_zstd) == text
    assert payload.checksum == hashlib.sha256(text.encode()).digest()
    assert payload.size_bytes == len(text.encode())
    assert (payload.content is None) != (payload.content_zstd is None)


def test_content_beyond_4_kib_is_compressed() -> None:
    assert pack("x" * INLINE_MAX_BYTES).storage_mode == "INLINE"
    assert pack("x" * (INLINE_MAX_BYTES + 1)).storage_mode == "COMPRESSED"


@given(texts.filter(lambda text: bool(text.strip())))
@example("\u200b")
@example("\x1b[31m")
@example("a\x1c\x85b")
@example("x" * 5000)
@example("word " * 40)
@example("\ufeff\n second")
def test_a_made_label_is_one_printable_line(text: str) -> None:
    label = label_from(text)
    assert 1 <= len(label) <= LABEL_LENGTH
    assert label.isprintable()
    assert label.strip() == label


def test_a_label_is_cut_at_a_word() -> None:
    assert label_from("word " * 40) == ("word " * 15).strip() + "…"
    assert label_from("first\nsecond") == "first"
