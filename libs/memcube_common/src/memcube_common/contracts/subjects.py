"""The subjects of the bus, and how to read one. Events derive their own (see `events`)."""

from __future__ import annotations

from dataclasses import dataclass

from memcube_common.ids import is_agent_name, is_project_slug

INSIGHTS = "memcube.*.insight.v1.submitted.*"
CHANGES = ("memcube.*.memory.v1.>", "memcube.*.receipt.v1.>")

EMBED_TEXTS = "rooms.embedding.v1.embed_texts"
BELL_INSIGHTS = "rooms.bell.insights"
BELL_MEMORIES = "rooms.bell.memories"
BELL_CHANGES = "rooms.bell.changes"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who published an insight, as its subject says."""

    project: str
    agent: str


def sender_of(subject: str) -> Sender | None:
    """Project and agent of an insight's subject, or None where either is not a valid name."""
    parts = subject.split(".")
    if len(parts) != 6 or not is_project_slug(parts[1]) or not is_agent_name(parts[5]):
        return None
    return Sender(project=parts[1], agent=parts[5])
