"""The subjects of the bus, and how to read one. Events derive their own (see `events`)."""

from __future__ import annotations

from dataclasses import dataclass

from memcube_common.ids import is_agent_name, is_project_slug

INSIGHTS = "memcube.*.insight.v1.submitted.*"
CHANGES = (
    "memcube.*.memory.v1.>",
    "memcube.*.receipt.v1.>",
    "memcube.*.quota.v1.>",
    "memcube.*.task.v1.>",
    "memcube.*.chain.v1.>",
)
GOVERNED = ("memory", "task", "chain")
"""What is told by who may read it, with a class of subjects of its own for what is restricted."""

EMBED_TEXTS = "rooms.embedding.v1.embed_texts"
MAKE_SCHEDULE = "rooms.scheduling.v1.make_schedule"
AGENT_ASKS = "memcube.*.ask.v1.*.*"
AGENT_INSIGHTS = "rooms.gateway.v1.keep_insight.*.*"
BELL_INSIGHTS = "rooms.bell.insights"
BELL_MEMORIES = "rooms.bell.memories"
BELL_CHANGES = "rooms.bell.changes"


AGENTS_ACCOUNT = "AGENTS"
AGENTS_NEXT = "MC.API.CONSUMER.MSG.NEXT.CHANGES"
CHANGES_ACK = "$JS.ACK.CHANGES"
ASK_FOLLOW = "follow"
ASK_QUERY = "query"
ASK_SCHEDULE = "schedule"


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


def ask_subject(project: str, question: str, agent: str) -> str:
    """Where `agent` of `project` asks `question` (ASK_FOLLOW, ASK_QUERY, ASK_SCHEDULE)."""
    return f"memcube.{project}.ask.v1.{question}.{agent}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an agent's ask says of itself in its subject."""

    project: str
    question: str
    agent: str


def asked_of(subject: str) -> Asked | None:
    """The parts of an ask's subject, or None where project or agent is not a valid name."""
    parts = subject.split(".")
    if len(parts) != 6 or not is_project_slug(parts[1]) or not is_agent_name(parts[5]):
        return None
    return Asked(project=parts[1], question=parts[4], agent=parts[5])


def followed_by(project: str, agent: str, *, restricted: bool) -> tuple[str, ...]:
    """The changes an agent may follow: its project's memories, tasks and chains, its own receipts; restricted ones only
    where told.
    """
    seen = (*(f"memcube.{project}.{noun}.v1.*" for noun in GOVERNED), receipts_of(project, agent))
    return (*seen, *(f"memcube.{project}.{noun}.v1.restricted.*" for noun in GOVERNED)) if restricted else seen


def receipts_of(project: str, agent: str) -> str:
    """The receipts of one agent's insights."""
    return f"memcube.{project}.receipt.v1.*.{agent}"
