"""How a text reads."""

from __future__ import annotations

import pytest

from memcube_common.memories.traits import ASKS, READ_MAX, TELLS_NUMBER, TELLS_TIME, traits_of


@pytest.mark.parametrize(
    ("text", "traits"),
    [
        ("We met.", 0),
        ("Shall we meet?", ASKS),
        ("She asked: 'shall we meet?' ", ASKS),
        ("Shall we? I think so.", 0),
        ("We met yesterday", TELLS_TIME),
        ("We meet on Friday", TELLS_TIME),
        ("We met in 2019", TELLS_TIME | TELLS_NUMBER),
        ("I have two dogs", TELLS_NUMBER),
        ("", 0),
        ("x" * READ_MAX + " 2019", 0),
    ],
)
def test_traits(text: str, traits: int) -> None:
    assert traits_of(text) == traits
