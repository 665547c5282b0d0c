"""Bodies: every refused field by its path, never its value; JSON that is not JSON is said to be so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from memcube_common.contracts.api import InsightBatch, MemoryQuery
from memcube_common.errors import Invalid, Malformed
from memcube_gateway.routes.bodies import parse

BATCH = TypeAdapter(InsightBatch)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (rb'{"insights":[{"insight":"a"},{"insight":"a\u0000b"}]}', "insights.1.insight"),
        (rb'{"insights":[{"insight":"a\ud800"}]}', "insights.0.insight"),
        (rb'{"insights":[{"insight":"a","metadata":{"k":["\udfff"]}}]}', "insights.0.metadata.k.0"),
        (rb'{"insights":[{"insight":"a","tags":["\ud800"]}]}', "insights.0.tags.0"),
        (b'{"insights":[{"insight":"a","metadata":{"x":1e400}}]}', "insights.0.metadata"),
        (b'{"insights":[{"insight":"a","metadata":{"x":NaN}}]}', "insights.0.metadata"),
        (b'{"insights":[{"insight":"a","metadata":{"x":9223372036854775808}}]}', "insights.0.metadata"),
        (b'{"insights":[{"insight":"a","metadata":{"x":' + b"[" * 100 + b"]" * 100 + b"}}]}", "insights.0.metadata"),
        (b'{"insights":[{"insight":"a","sentiment":1e400}]}', "insights.0.sentiment"),
        (b'{"insights":[{"insight":"   "}]}', "insights.0.insight"),
        (b'{"insights":[{"insight":"a","tags":["' + b"x" * 65 + b'"]}]}', "insights.0.tags.0"),
        (b'{"insights":[{"insight":"a","colour":1}]}', "insights.0.colour"),
        (b'{"insights":[{}]}', "insights.0.insight"),
        (b'{"insights":[]}', "insights"),
        (b'{"insights":"\xed\xa0\x80"}', "insights"),
        (b"[]", "body"),
        (b"null", "body"),
    ],
)
def test_a_refused_field_is_named_by_its_path(body: bytes, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(BATCH, body)

    assert field in [error.field for error in refused.value.errors]


def test_a_limit_is_told_in_its_own_terms() -> None:
    with pytest.raises(Invalid) as refused:
        parse(BATCH, b'{"insights":[{"insight":"a","tags":["' + b"x" * 65 + b'"]}]}')

    assert refused.value.errors[0].message == "String should have at most 64 characters"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"insights":' + b"[" * 100_000, b'{"a":' + b"9" * 5_000 + b"}"],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse(BATCH, body)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
def test_no_body_brings_the_parser_down(body: bytes) -> None:
    with pytest.raises((Invalid, Malformed)):
        parse(BATCH, body)


@given(st.text(min_size=1, max_size=50))
def test_errors_never_carry_the_refused_value(value: str) -> None:
    secret = f"canary-{value}"
    body = TypeAdapter(dict[str, str]).dump_json({"text": "x", "mode": secret.encode(errors="replace").decode()})

    with pytest.raises(Invalid) as refused:
        parse(TypeAdapter(MemoryQuery), body)

    assert "canary" not in str([(error.field, error.message) for error in refused.value.errors])
