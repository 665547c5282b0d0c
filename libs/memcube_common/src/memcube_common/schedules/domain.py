"""The record of a schedule: what was asked, what was weighed, and everything the choice is made again from."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, get_args
from uuid import UUID

import orjson
import zstandard

from memcube_common.contracts.scheduling import Candidate, Kind, Reason, ScheduleRequest, ScoreParts

CHOOSER: Final = 1
"""Which way of choosing made a record; raised when the same inputs would be chosen from otherwise."""


class Parts(NamedTuple):
    """What a candidate's score is made of: the fields of a contract ScoreParts."""

    tags: float
    relevance: float
    recency: float
    frequency: float
    priority: float
    task: float
    feedback: float
    trust: float


class Weighed(NamedTuple):
    """A candidate and what became of it: the fields of a contract Candidate, lighter to make by the hundred."""

    id: UUID
    kind: Kind
    version: int
    score: float
    parts: Parts
    tokens: int
    reason: Reason
    redundant_with: UUID | None

    def shown(self) -> Candidate:
        """As the contract has it."""
        return Candidate.model_construct(
            id=self.id,
            kind=self.kind,
            version=self.version,
            score=self.score,
            parts=ScoreParts.model_construct(None, **self.parts._asdict()),
            tokens=self.tokens,
            reason=self.reason,
            redundant_with=self.redundant_with,
        )


_REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_LEVEL: Final = 1


@dataclass(frozen=True, slots=True)
class Weighing:
    """What a choice was made from and what it came to: with it the same choice can be made again.

    candidates: all, best first. pinned: those that came first whatever. similar: how much two say the same, by their
    places among those that could be chosen. terms: what bound the choice, by name.
    """

    candidates: Sequence[Weighed]
    pinned: frozenset[UUID]
    similar: Mapping[tuple[int, int], float]
    terms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule about to be recorded. generation: of the vectors that were searched."""

    id: UUID
    agent_id: str
    task_id: str | None
    made_by: str
    made_at: datetime
    asked: str
    weights: Mapping[str, float]
    token_budget: int
    tokens_used: int
    generation: int | None
    chosen: Sequence[UUID]
    weighing: Weighing


def asked_json(request: ScheduleRequest) -> str:
    """A request as it is recorded: without text and embedding, but with their SHA-256 in hexadecimal."""
    asked: dict[str, Any] = request.model_dump(mode="json", exclude={"text", "embedding"})
    if request.text is not None:
        asked["text_sha256"] = hashlib.sha256(request.text.encode()).hexdigest()
    if request.embedding is not None:
        packed = struct.pack(f"<{len(request.embedding)}d", *request.embedding)
        asked["embedding_sha256"] = hashlib.sha256(packed).hexdigest()
    return orjson.dumps(asked).decode()


def pack(weighing: Weighing) -> bytes:
    """A weighing as it is kept: JSON of arrays, zstd."""
    place = {candidate.id: at for at, candidate in enumerate(weighing.candidates)}
    rows = [
        [
            str(c.id),
            _KINDS.index(c.kind),
            c.version,
            c.score,
            list(c.parts),
            c.tokens,
            _REASONS.index(c.reason),
            None if c.redundant_with is None else place[c.redundant_with],
            c.id in weighing.pinned,
        ]
        for c in weighing.candidates
    ]
    similar = [[one, other, likeness] for (one, other), likeness in weighing.similar.items()]
    kept = {"chooser": CHOOSER, "terms": dict(weighing.terms), "candidates": rows, "similar": similar}
    return zstandard.compress(orjson.dumps(kept), _LEVEL)


def unpack(packed: bytes) -> Weighing:
    """What `pack` kept."""
    kept = orjson.loads(zstandard.decompress(packed))
    rows = kept["candidates"]
    ids = [UUID(row[0]) for row in rows]
    candidates = [
        Weighed(
            ids[at],
            _KINDS[row[1]],
            row[2],
            row[3],
            Parts(*row[4]),
            row[5],
            _REASONS[row[6]],
            None if row[7] is None else ids[row[7]],
        )
        for at, row in enumerate(rows)
    ]
    pinned = frozenset(ids[at] for at, row in enumerate(rows) if row[8])
    similar = {(one, other): likeness for one, other, likeness in kept["similar"]}
    return Weighing(candidates, pinned, similar, kept["terms"])
