"""What a memory says stands inside its own marks, whatever it says."""

from __future__ import annotations

import json
import re
from typing import get_args
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcube_common.contracts.scheduling import Format
from memcube_scheduling.domain.rendering import Told, block, render

PIECES = ["<", ">", "M", "end", ":", "\\", "\n", "\r", "#", "`", '"', "'", "&", "]", " ", "\x0b", "\u2028", "### ", "x"]
MARKS = ["<<MEM:", "\n<<ENDMEM>>\n", "<<endmem", "<< END MEM>>", "</memory>", "]]>", "<memory>"]
HOSTILE = st.lists(
    st.sampled_from(PIECES + MARKS) | st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12
).map("".join)
LABELS = HOSTILE.map(lambda text: re.sub(r"[\x00-\x1f\x7f-\x9f]", "", text)).filter(bool)
TOLD = st.builds(Told, label=LABELS, content=HOSTILE) | st.builds(
    Told, label=LABELS, content=st.none(), reference=HOSTILE, type=st.just("PARAMETER"), trust=st.just("untrusted")
)


def rendered(those: list[Told], form: Format) -> str:
    return render([block(one, form) for one in those], form)


@settings(max_examples=50, deadline=None)
@given(st.lists(TOLD, min_size=1, max_size=4))
def test_the_marks_of_memcube_are_as_many_as_the_memories(those: list[Told]) -> None:
    prompt = rendered(those, "memcube")
    blocks = re.findall(r"<<MEM:[^\n]*>>\n.*?\n<<ENDMEM>>", prompt, re.DOTALL)
    assert "\n".join(blocks) == prompt
    assert len(blocks) == len(those)
    assert len(re.findall(r"<<\s*END\s*MEM", prompt, re.IGNORECASE)) == len(those)
    assert len(re.findall(r"<<\s*MEM", prompt, re.IGNORECASE)) == len(those)


@settings(max_examples=30, deadline=None)
@given(st.lists(TOLD, min_size=1, max_size=4))
def test_xml_is_well_formed_and_holds_one_element_each(those: list[Told]) -> None:
    root = ElementTree.fromstring(rendered(those, "xml"))
    assert [child.tag for child in root] == ["memory"] * len(those)
    assert all(len(child) == 0 for child in root)


@settings(max_examples=30, deadline=None)
@given(st.lists(TOLD, min_size=1, max_size=4))
def test_json_gives_back_what_was_written(those: list[Told]) -> None:
    read = json.loads(rendered(those, "json"))
    assert [one["label"] for one in read] == [one.label for one in those]
    assert [one.get("content") for one in read] == [one.content for one in those]


@settings(max_examples=30, deadline=None)
@given(st.lists(TOLD, min_size=1, max_size=4))
def test_in_markdown_only_labels_stand_outside_of_quotes(those: list[Told]) -> None:
    lines = rendered(those, "markdown").split("\n")
    assert sum(line.startswith("### ") for line in lines) == len(those)
    assert all(not line or line.startswith(("### ", ">")) for line in lines)


def test_a_label_is_one_line_however_unicode_breaks_lines() -> None:
    told = [Told("a\u2028### b\u2029> c", "x")]
    assert rendered(told, "markdown") == "### a ### b > c\n> x"
    assert rendered(told, "memcube") == "<<MEM:a ### b \\> c>>\nx\n<<ENDMEM>>"


@pytest.mark.parametrize("form", get_args(Format))
def test_nothing_chosen_is_nothing_written(form: Format) -> None:
    assert rendered([], form) == ("[]" if form == "json" else "")


def test_the_formats_as_they_are_documented() -> None:
    text, binary = Told("Deploys", "Ask Ann."), Told("Adapter", None, "lora/7", "PARAMETER", trust="untrusted")
    waiting = Told("New", "Bob left.", kind="insight")
    assert rendered([text, waiting], "memcube") == (
        "<<MEM:Deploys>>\nAsk Ann.\n<<ENDMEM>>\n<<MEM:New [insight]>>\nBob left.\n<<ENDMEM>>"
    )
    assert rendered([binary], "memcube") == "<<MEM:Adapter [untrusted]>>\n(PARAMETER at lora/7)\n<<ENDMEM>>"
    assert rendered([text], "markdown") == "### Deploys\n> Ask Ann."
    assert rendered([text, binary], "xml") == (
        '<memories>\n<memory label="Deploys">Ask Ann.</memory>\n'
        '<memory label="Adapter" trust="untrusted" type="PARAMETER" ref="lora/7"/>\n</memories>'
    )
    assert rendered([text], "json") == '[{"label":"Deploys","content":"Ask Ann."}]'
