"""Reading an insight off the bus: what it says, who sent it, or why it cannot be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memcube_common.contracts.events import InsightSubmitted
from memcube_common.contracts.subjects import Sender, sender_of
from memcube_common.ids import Uuid7
from memcube_common.insights.domain import Insight, from_event

MAX_REASONS = 8
PLACE_LENGTH = 120
PORTION_LENGTH = 128 * 1024

Carrier = TypeVar("Carrier")
"""What an insight came in: a message of the bus."""


@dataclass(frozen=True, slots=True)
class Readable:
    """A message that is an insight."""

    sender: Sender
    insight: Insight


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A message that can never become a memory, and why; the sender and the id where they could be read."""

    sender: Sender | None
    insight_id: UUID | None
    reason: str


def read(subject: str, body: bytes) -> Readable | Spoilt:
    """What a message on INSIGHTS says. Never raises: what cannot be read is Spoilt with its reason."""
    sender = sender_of(subject)
    if sender is None:
        return Spoilt(None, None, "the subject does not name a valid project and agent")
    try:
        event = InsightSubmitted.model_validate_json(body)
    except ValidationError as error:
        return Spoilt(sender, _id_in(body), reason_of(error))
    except (ValueError, RecursionError):
        return Spoilt(sender, None, "the body is not readable JSON")
    return Readable(sender, from_event(event, sender.agent))


def reason_of(error: ValidationError) -> str:
    """Which fields were refused and why, without what they held."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    named = [f"{_place(fault['loc'])}: {fault['msg']}" for fault in faults[:MAX_REASONS]]
    more = len(faults) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more > 0 else "")


def _place(path: tuple[int | str, ...]) -> str:
    """A field's path. The sender chose some of its names: they are cut short and made printable."""
    written = ".".join(map(str, path)) or "body"
    return "".join(c if c.isprintable() else "?" for c in written[:PLACE_LENGTH])


def read_advisory(body: bytes) -> Exhausted | None:
    """What the server says of a message it gave up; None where this is no such advisory."""
    try:
        return Exhausted.model_validate_json(body)
    except (ValueError, RecursionError):
        return None


def portions(letters: Sequence[tuple[Carrier, Readable]], *, at_most: int) -> list[list[tuple[Carrier, Readable]]]:
    """A batch as portions of one project, each of `at_most` insights and about `PORTION_LENGTH` characters; every
    project's first come first.

    Sorted by id, so that two writers who meet over the same insights wait for each other instead of deadlocking.
    """
    projects: dict[str, list[list[tuple[Carrier, Readable]]]] = {}
    lengths: dict[str, int] = {}
    for letter in sorted(letters, key=lambda letter: letter[1].insight.id):
        project, insight = letter[1].sender.project, letter[1].insight
        cut = projects.setdefault(project, [])
        if not cut or len(cut[-1]) == at_most or lengths[project] >= PORTION_LENGTH:
            cut.append([])
            lengths[project] = 0
        cut[-1].append(letter)
        lengths[project] += len(insight.insight) + len(insight.metadata)
    return [portion for nth in zip_longest(*projects.values()) for portion in nth if portion]


class Exhausted(BaseModel):
    """The server's advisory that a message on INSIGHTS was delivered as often as allowed."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    stream: Literal["INSIGHTS"]
    stream_seq: Annotated[int, Field(ge=1, lt=2**63)]
    deliveries: Annotated[int, Field(ge=0, lt=2**31)]


class _Identified(BaseModel):
    """The one field a refused body is asked for."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    id: Uuid7


def _id_in(body: bytes) -> UUID | None:
    """The id a refused body carries, if that much of it is sound: its sender gets a receipt then."""
    try:
        return _Identified.model_validate_json(body).id
    except ValueError:
        return None
