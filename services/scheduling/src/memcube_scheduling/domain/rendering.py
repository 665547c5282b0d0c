"""How memories are written into a prompt: what one of them says cannot pass for its end, or for another one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never
from xml.sax.saxutils import escape, quoteattr

from memcube_common.contracts.fields import MemoryType, Trust
from memcube_common.contracts.scheduling import Format, Kind

_MARK: Final = re.compile(r"<<(?=\s*(?:END\s*)?MEM)", re.IGNORECASE)
_BRACKET: Final = re.compile(r"[<>]")
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Told:
    """What is written of a memory: its text, or where the bytes of a binary one are found (`reference`)."""

    label: str
    content: str | None
    reference: str | None = None
    type: MemoryType = "PLAINTEXT"
    kind: Kind = "memory"
    trust: Trust = "trusted"


def frame(form: Format) -> tuple[str, str, str]:
    """What stands before all memories, between two of them, and behind them."""
    match form:
        case "memcube":
            return "", "\n", ""
        case "markdown":
            return "", "\n\n", ""
        case "xml":
            return "<memories>\n", "\n", "\n</memories>"
        case "json":
            return "[", ",", "]"
        case _:
            assert_never(form)


def block(told: Told, form: Format) -> str:
    """One memory in a format."""
    match form:
        case "memcube":
            label = _BRACKET.sub(lambda found: "\\" + found[0], _marked(told))
            return f"<<MEM:{label}>>\n{_MARK.sub(_broken, _said(told))}\n<<ENDMEM>>"
        case "markdown":
            lines = "\n".join(f"> {line}" if line else ">" for line in _said(told).splitlines())
            return f"### {_marked(told)}\n{lines}"
        case "xml":
            more = "" if told.kind == "memory" else f" kind={quoteattr(told.kind)}"
            more += "" if told.trust == "trusted" else f" trust={quoteattr(told.trust)}"
            if told.content is None:
                more += f" type={quoteattr(told.type)} ref={_attribute(told.reference or '')}"
                return f"<memory label={_attribute(told.label)}{more}/>"
            return f"<memory label={_attribute(told.label)}{more}>{escape(_NOT_XML.sub('�', told.content))}</memory>"
        case "json":
            said: dict[str, str] = {"label": told.label}
            if told.kind != "memory":
                said["kind"] = told.kind
            if told.trust != "trusted":
                said["trust"] = told.trust
            if told.content is None:
                said |= {"type": told.type, "ref": told.reference or ""}
            else:
                said["content"] = told.content
            return json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        case _:
            assert_never(form)


def render(blocks: Sequence[str], form: Format) -> str:
    """The prompt: nothing where nothing was chosen, but for JSON, which says that it is nothing."""
    before, between, behind = frame(form)
    if not blocks:
        return "[]" if form == "json" else ""
    return before + between.join(blocks) + behind


def _marked(told: Told) -> str:
    """The label on one line, however Unicode breaks lines, with a word about what is not a trusted memory."""
    kind = "" if told.kind == "memory" else f" [{told.kind}]"
    trust = "" if told.trust == "trusted" else f" [{told.trust}]"
    return " ".join(told.label.splitlines()) + kind + trust


def _said(told: Told) -> str:
    return told.content if told.content is not None else f"({told.type} at {told.reference})"


def _broken(mark: re.Match[str]) -> str:
    return "<\\<"


def _attribute(value: str) -> str:
    return quoteattr(_NOT_XML.sub("�", value))
