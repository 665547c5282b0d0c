"""Which words are the same, for whom, and what an echo repeats."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rooms import an_insight

from memcube_common.contracts.fields import DEFAULT_GOVERNANCE, Governance
from memcube_common.ids import new_id
from memcube_common.insights.domain import fingerprint, normalised, recalled_parts

OPEN = an_insight("Ada is away.")


@pytest.mark.parametrize(
    "text", ["ada is away", " Ada\t\n is  AWAY!! ", "Ａｄａ is away…", "ADA IS AWAY.", "Ada is away;", "Ada is away。"]
)
def test_the_same_words_are_the_same_however_they_are_written(text: str) -> None:
    assert normalised(text) == "ada is away"
    assert fingerprint(replace(OPEN, insight=text)) == fingerprint(OPEN)


@pytest.mark.parametrize("text", ["Ada is away?", "Is Ada away.", "Ada isn't away.", "Ada is away 2.", "-Ada is away"])
def test_other_words_are_others(text: str) -> None:
    assert fingerprint(replace(OPEN, insight=text)) != fingerprint(OPEN)


@given(st.text(min_size=1, max_size=200))
def test_words_compared_are_compared_the_same_again(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert bool(once) == bool(text.split())


def test_punctuation_alone_stays_what_it_is() -> None:
    assert normalised(" ... ") == "..."
    assert normalised("!!") != normalised("...")


def test_what_was_redacted_is_the_same_as_nothing_but_itself() -> None:
    one = replace(OPEN, insight="Ask [redacted:email] for [redacted:secret:aws_key].")
    assert fingerprint(one) == fingerprint(replace(one))
    assert fingerprint(one) != fingerprint(replace(one, id=new_id()))
    for text in ("Ask [redacted].", "Ask [redacted:Email].", "Ask redacted:email."):
        other = replace(OPEN, insight=text)
        assert fingerprint(other) == fingerprint(replace(other, id=new_id()))


def governed(**said: object) -> str:
    return Governance.model_validate(said).model_dump_json()


@pytest.mark.parametrize(
    ("governance", "shared"),
    [
        (DEFAULT_GOVERNANCE, True),
        (governed(visibility="public"), True),
        (governed(read_roles=["VIEWER", "AGENT", "MEMBER"]), True),
        (governed(visibility="private"), False),
        (governed(read_roles=["AGENT"]), False),
        (governed(read_roles=[]), False),
        (governed(principals={"deny": ["bob"]}), False),
    ],
)
def test_only_what_all_may_read_is_one_for_all(governance: str, shared: bool) -> None:
    mine = replace(OPEN, governance=governance, agent_id="ada")
    assert (fingerprint(mine) == fingerprint(replace(mine, agent_id="bob"))) is shared
    assert fingerprint(mine) == fingerprint(replace(mine))
    assert governance == DEFAULT_GOVERNANCE or fingerprint(mine) != fingerprint(replace(OPEN, agent_id="ada"))


def test_governance_is_the_same_in_any_spelling() -> None:
    turned = dict(reversed(list(orjson.loads(DEFAULT_GOVERNANCE).items())))
    assert fingerprint(
        replace(OPEN, governance=orjson.dumps(turned, option=orjson.OPT_INDENT_2).decode())
    ) == fingerprint(OPEN)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("plain", ["plain"]),
        ("<<MEM:a>>\none\n<<ENDMEM>>", ["one"]),
        (" <<MEM:a>>\none\ntwo\n<<ENDMEM>>\n\n<<MEM:b: c>>\n\n<<ENDMEM>> ", ["one\ntwo", ""]),
        ("<<MEM:a>>\n<<ENDMEM>>", [""]),
    ],
)
def test_a_rendering_repeats_what_it_renders(text: str, parts: list[str]) -> None:
    assert recalled_parts(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "so: <<MEM:a>>\none\n<<ENDMEM>>",
        "<<MEM:a>>\none\n<<ENDMEM>> and more",
        "<<MEM:a>>\none",
        "<<MEM:a\n>>\none\n<<ENDMEM>>",
        "<<MEM:a>>one<<ENDMEM>>",
        "<<MEM:a>>\none\n<<ENDMEM>>" * 201,
    ],
)
def test_what_says_more_than_a_rendering_repeats_itself_only(text: str) -> None:
    assert recalled_parts(text) == [text]
