"""What a conversation is while it waits, and the insights it becomes: as a language model finds them, or as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from memcube_common.contracts.fields import METADATA_MAX_BYTES, Governance, Priority, governance_json
from memcube_common.contracts.learning import Conversation, is_said
from memcube_common.ids import derive_nth, new_id
from memcube_common.insights.domain import Insight
from memcube_common.language.protocol import Extracted, Said
from memcube_common.memories.domain import label_from
from memcube_common.screening import marked

TAGS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation. `governance` and `metadata` are JSON texts already validated and go with every insight of it."""

    id: UUID
    agent_id: str
    messages: tuple[Said, ...]
    tags: tuple[str, ...]
    priority: Priority
    governance: str
    metadata: str

    @property
    def spoken(self) -> list[tuple[int, Said]]:
        """The messages that say something, with their places."""
        return [(place, message) for place, message in enumerate(self.messages) if is_said(message.content)]

    @property
    def is_confidential(self) -> bool:
        """Whether nobody outside may see it."""
        return orjson.loads(self.governance).get("sensitivity") == "confidential"

    @property
    def contents(self) -> list[str]:
        """The texts that are kept if it is kept as it is: what it takes from the quotas as it comes in."""
        return [message.content for _, message in self.spoken]


def from_conversation(given: Conversation, agent: str) -> Talk:
    """The conversation that was posted, under its own id or a fresh one."""
    return Talk(
        id=given.id or new_id(),
        agent_id=given.agent_id or agent,
        messages=tuple(Said(m.role, m.content, m.name, m.at) for m in given.messages),
        tags=tuple(given.tags),
        priority=given.priority,
        governance=governance_json(given.governance),
        metadata=orjson.dumps(given.metadata).decode(),
    )


def to_json(talk: Talk) -> tuple[str, str]:
    """The messages, and what was said beside them, as two JSON texts."""
    messages = [
        {"role": m.role, "content": m.content, "name": m.name, "at": m.at and m.at.isoformat()} for m in talk.messages
    ]
    beside = {
        "tags": talk.tags,
        "priority": talk.priority,
        "governance": orjson.Fragment(talk.governance),
        "metadata": orjson.Fragment(talk.metadata),
    }
    return orjson.dumps(messages).decode(), orjson.dumps(beside).decode()


def from_json(id: UUID, agent_id: str, messages: str, beside: str) -> Talk:
    """The conversation that `to_json` wrote."""
    said: Mapping[str, Any] = orjson.loads(beside)
    return Talk(
        id=id,
        agent_id=agent_id,
        messages=tuple(
            Said(m["role"], m["content"], m["name"], m["at"] and datetime.fromisoformat(m["at"]))
            for m in orjson.loads(messages)
        ),
        tags=tuple(said["tags"]),
        priority=said["priority"],
        governance=orjson.dumps(said["governance"]).decode(),
        metadata=orjson.dumps(said["metadata"]).decode(),
    )


def as_they_are(talk: Talk) -> list[Insight]:
    """Each message that says something as one insight, named after its speaker; its id follows from the talk's own."""
    return [
        _insight(
            talk,
            place,
            text=message.content,
            label=f"{message.name or message.role}: {label_from(message.content)}",
            evidence=f"conversation:{talk.id}/{place}",
            beside={"role": message.role, "name": message.name, "said_at": message.at and message.at.isoformat()},
        )
        for place, message in talk.spoken
    ]


def as_extracted(talk: Talk, found: Sequence[Extracted]) -> list[Insight]:
    """What a language model found, as insights, marked with what screening found in it; its ids follow from the talk's
    own and their place.
    """
    return [
        _insight(
            _marked(talk, one.pii_kinds),
            place,
            text=one.text,
            label=one.label,
            tags=one.tags,
            evidence=f"conversation:{talk.id}",
            beside={"kind": one.kind, "confidence": one.confidence},
        )
        for place, one in enumerate(found)
    ]


def _marked(talk: Talk, kinds: Sequence[str]) -> Talk:
    if not kinds:
        return talk
    return replace(talk, governance=governance_json(marked(Governance.model_validate_json(talk.governance), kinds)))


def _insight(
    talk: Talk,
    place: int,
    *,
    text: str,
    label: str | None,
    evidence: str,
    beside: Mapping[str, object],
    tags: Sequence[str] = (),
) -> Insight:
    return Insight(
        id=derive_nth(talk.id, "insight", place),
        agent_id=talk.agent_id,
        insight=text,
        label=label,
        tags=tuple(dict.fromkeys((*talk.tags, *tags)))[:TAGS_MAX],
        evidence_refs=(evidence,),
        sentiment=None,
        priority=talk.priority,
        governance=talk.governance,
        metadata=_with(talk.metadata, {name: value for name, value in beside.items() if value is not None}),
    )


def _with(metadata: str, beside: Mapping[str, object]) -> str:
    """The sender's metadata, and beside it what is known of this insight, where there is room for it."""
    both = orjson.dumps({**beside, **orjson.loads(metadata)})
    return both.decode() if len(both) <= METADATA_MAX_BYTES else metadata
