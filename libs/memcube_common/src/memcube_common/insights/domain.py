"""What an insight is, and the memory it becomes."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, cast
from uuid import UUID

import orjson

from memcube_common.contracts.api import InsightSubmission
from memcube_common.contracts.events import InsightSubmitted
from memcube_common.contracts.fields import Decision, Priority, governance_json
from memcube_common.ids import derive, new_id
from memcube_common.memories.domain import NewMemory, label_from

Via = Literal["http", "nats"]

_TRAILING: Final = " .!…,;:。！，、"
_MOST_PARTS: Final = 200
_REDACTED: Final = re.compile(r"\[redacted:[a-z_:]+\]")
_OPENING, _CLOSING = "<<MEM:", "\n<<ENDMEM>>"


@dataclass(frozen=True, slots=True)
class Insight:
    """Something an agent learned. `governance` and `metadata` are JSON texts already validated."""

    id: UUID
    agent_id: str
    insight: str
    label: str | None
    tags: tuple[str, ...]
    evidence_refs: tuple[str, ...]
    sentiment: float | None
    priority: Priority
    governance: str
    metadata: str

    @property
    def memory_id(self) -> UUID:
        """The id of the memory this insight becomes: known from the first moment, the same on every delivery."""
        return derive(self.id, "memory")


@dataclass(frozen=True, slots=True)
class Settled:
    """An insight that becomes no memory of its own: the memory that holds its words, and the insight it supports."""

    insight_id: UUID
    decision: Decision
    memory_id: UUID
    supports: UUID | None

    @property
    def because(self) -> str:
        """Why, without a word of what it says."""
        if self.decision == "echo":
            return f"memory {self.memory_id} was recalled with these words"
        return f"same words as insight {self.supports}"


def from_event(event: InsightSubmitted, agent: str) -> Insight:
    """The insight that `agent` published."""
    return _build(event.id, agent, event)


def from_submission(submission: InsightSubmission, agent: str) -> Insight:
    """The insight that was posted, under its own id or a fresh one."""
    return _build(submission.id or new_id(), submission.agent_id or agent, submission)


def distil(insight: Insight, now: datetime) -> NewMemory:
    """The memory that an insight becomes: its own words, labelled, tagged and governed as its sender said."""
    memory_id = insight.memory_id
    return NewMemory(
        id=memory_id,
        label=insight.label or label_from(insight.insight),
        content=insight.insight,
        origin=f"insight:{insight.id}",
        provenance_id=memory_id,
        tags=insight.tags,
        governance=insight.governance,
        metadata=insight.metadata,
        priority=insight.priority,
        created_by=insight.agent_id,
        created_at=now,
    )


def normalised(text: str) -> str:
    """The words of `text` as they are compared: NFKC, casefolded, whitespace as single spaces, no full stop at the end.

    What remains different was said differently: other words, another order, or a question, whose mark stays because it
    changes what is said. Never longer than a few times `text`.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    spaced = " ".join(folded.split())
    return spaced.rstrip(_TRAILING) or spaced


def fingerprint(insight: Insight) -> bytes:
    """SHA-256 of an insight's normalised words and of their scope: 32 bytes, equal for what one memory may stand for.

    The scope is the governance, which must be the same, and, unless that lets every member and agent read, the agent:
    so nobody's words disappear in a memory they cannot read, and nobody learns of one they may not. What was redacted
    is equal to nothing: two secrets that were different leave the same words.
    """
    if _REDACTED.search(insight.insight):
        return hashlib.sha256(f"redacted/1\0{insight.id}".encode()).digest()
    governance, is_open = _scope(insight.governance)
    said = "\0".join(("insight/1", governance, "" if is_open else insight.agent_id, normalised(insight.insight)))
    return hashlib.sha256(said.encode()).digest()


def recalled_fingerprint(text: str) -> bytes:
    """SHA-256 of the normalised words of a memory that was recalled: 32 bytes."""
    return hashlib.sha256(f"recall/1\0{normalised(text)}".encode()).digest()


def recalled_parts(text: str) -> list[str]:
    """What `text` repeats, if it repeats: the contents of the memories it renders for a prompt, where it is nothing but
    `<<MEM:label>>`, a line break, the content, a line break, `<<ENDMEM>>` blocks (at most 200), else itself.
    """
    parts: list[str] = []
    rest = text.strip()
    while rest.startswith(_OPENING) and len(parts) < _MOST_PARTS:
        label_end = rest.find(">>\n")
        if label_end < 0 or "\n" in rest[:label_end]:
            return [text]
        end = rest.find(_CLOSING, label_end + 2)  # from the line's end on: what a block holds may be empty
        if end < 0:
            return [text]
        parts.append(rest[label_end + 3 : end])
        rest = rest[end + len(_CLOSING) :].lstrip()
    return parts if parts and not rest else [text]


@functools.lru_cache(maxsize=256)
def _scope(governance: str) -> tuple[str, bool]:
    """A governance in its one spelling, whoever wrote it, and whether it lets every member and agent read."""
    said = cast("dict[str, object]", orjson.loads(governance))
    principals = cast("dict[str, Sequence[str]]", said.get("principals") or {})
    is_open = (
        said.get("visibility") in ("project", "public")
        and {"MEMBER", "AGENT"} <= set(cast("Sequence[str]", said.get("read_roles") or ()))
        and not principals.get("deny")
    )
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode(), is_open


def _build(identity: UUID, agent: str, body: InsightSubmission | InsightSubmitted) -> Insight:
    return Insight(
        id=identity,
        agent_id=agent,
        insight=body.insight,
        label=body.label,
        tags=tuple(body.tags),
        evidence_refs=tuple(body.evidence_refs),
        sentiment=body.sentiment,
        priority=body.priority,
        governance=governance_json(body.governance),
        metadata=orjson.dumps(body.metadata).decode(),
    )
