"""What no JSON body may hold, wherever it stands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from memcube_common.errors import Invalid
from memcube_gateway.routes.bodies import parse
from memcube_gateway.routes.soundness import faults_of


class Loose(BaseModel):
    """A model that ignores what it does not know."""

    text: str = ""


LOOSE = TypeAdapter(Loose)


def nested(levels: int, kind: str) -> str:
    opening, closing = ('{"a":', "}") if kind == "object" else ("[", "]")
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b'{"text":"a","text":"b"}', "text", "twice"),
        (b'{"extra":{"a":1,"a":1}}', "a", "twice"),
        (b'{"extra":[{"a":1,"\\u0061":2}]}', "a", "twice"),
        (b'{"extra":9223372036854775808}', "extra", "64 bits"),
        (b'{"extra":[0,{"x":-9223372036854775809}]}', "extra.1.x", "64 bits"),
        (b'{"extra":' + b"9" * 4_000 + b"}", "extra", "64 bits"),
        (b'{"extra":1e999}', "extra", "finite"),
        (b'{"extra":[-1e999]}', "extra.0", "finite"),
        (b'{"extra":NaN}', "extra", "finite"),
        (b'{"extra":-Infinity}', "extra", "finite"),
        (b'{"extra":"\\u0000"}', "extra", "NUL"),
        (b'{"extra":{"\\u0000":1}}', "extra", "NUL"),
        (b'{"extra":' + nested(64, "object").encode() + b"}", "body", "64 deep"),
        (b'{"extra":' + nested(64, "list").encode() + b"}", "body", "64 deep"),
    ],
)
def test_it_is_refused_in_fields_that_the_model_ignores(body: bytes, field: str, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(LOOSE, body)

    assert [error.field for error in refused.value.errors] == [field]
    assert message in refused.value.errors[0].message


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"text":"a","extra":{"text":"b"}}',
        b'{"extra":[9223372036854775807,-9223372036854775808,1e308,12345678901234567890.5,1E-400]}',
        b'{"extra":"\\\\u0000 \\\\ud800 NaN 1e999 99999999999999999999"}',
        b'{"extra":"\\ud83d\\ude00"}',
        b'{"extra":' + nested(63, "object").encode() + b"}",
        b'{"extra":' + nested(63, "list").encode() + b"}",
    ],
)
def test_sound_bodies_pass(body: bytes) -> None:
    assert parse(LOOSE, body)


def test_a_lone_surrogate_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        parse(LOOSE, b'{"extra":[{"a":"\\ud800"}]}')

    assert [(e.field, e.message) for e in refused.value.errors] == [("extra.0.a", "must not contain lone surrogates")]


def test_names_are_made_printable_and_cut() -> None:
    [fault] = faults_of(b'{"\\u001b[31m' + b"x" * 500 + b'":1,"\\u001b[31m' + b"x" * 500 + b'":2}')

    assert fault.field.startswith("?[31mx")
    assert len(fault.field) == 200


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8", min_codepoint=1)), inner),
    max_leaves=20,
)


@given(_JSON, st.booleans())
def test_whatever_can_be_kept_is_sound(value: Any, ascii_only: bool) -> None:
    assert faults_of(json.dumps(value, ensure_ascii=ascii_only).encode()) == []
