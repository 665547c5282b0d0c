"""What the door decides without looking anywhere: receipts that settle, imports, event frames, recent changes."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Final, Literal, assert_never, cast
from uuid import UUID

import orjson
from pydantic import Field, JsonValue

from memcube_common.contracts.api import MAX_BATCH, Embedding, ImportedMemory, Memory, Receipt
from memcube_common.contracts.book import BinaryCreation, MemoryChange, MemoryCreation
from memcube_common.contracts.fields import Closed, Governance, ReceiptState, governance_json
from memcube_common.governance.domain import Access, Reader, may_read
from memcube_common.ids import derive_external, new_id
from memcube_common.insights.domain import Insight
from memcube_common.memories.domain import NewMemory, Revision, label_from, pack

Wait = Literal["stored", "searchable"]

WINDOW: Final = 1_024


def request_hash(body: bytes) -> bytes:
    """What tells whether an Idempotency-Key comes back with the same body."""
    return hashlib.sha256(body).digest()


def accepted(project: str, insight: Insight, at: datetime) -> Receipt:
    """The receipt of an insight that was written down for the first time just now."""
    return Receipt.model_construct(
        id=insight.id, project=project, state="accepted", memory_id=insight.memory_id, accepted_at=at
    )


def imported(project: str, given: ImportedMemory, now: datetime) -> NewMemory:
    """The memory that an imported one becomes: the same id whenever it is imported again."""
    memory_id = derive_external(project, given.id)
    return NewMemory(
        id=memory_id,
        label=given.label or label_from(given.content),
        content=given.content,
        origin=f"import:{given.id}",
        provenance_id=memory_id,
        tags=tuple(given.tags),
        governance=governance_json(given.governance),
        metadata=orjson.dumps(given.metadata).decode(),
        priority=given.priority,
        created_by=given.created_by or "import",
        created_at=given.created_at or now,
    )


class LooseBatch(Closed):
    """A batch whose memories are looked at one by one."""

    memories: Annotated[list[JsonValue], Field(min_length=1, max_length=MAX_BATCH)]
    atomic: bool = True


def created(given: MemoryCreation | BinaryCreation, content: str, by: str, now: datetime) -> NewMemory:
    """The memory that `by` makes with these fields; `content` is empty for bytes."""
    memory_id = given.id or new_id()
    return NewMemory(
        id=memory_id,
        label=given.label or label_from(content),
        content=content,
        origin="api",
        provenance_id=memory_id,
        tags=tuple(given.tags),
        governance=governance_json(given.governance),
        metadata=orjson.dumps(given.metadata).decode(),
        priority=given.priority,
        created_by=by,
        created_at=now,
        parents=tuple(dict.fromkeys(given.parents)),
        type=given.type,
        kv_hint=given.kv_hint,
        payload=pack(content) if given.type == "PLAINTEXT" else None,
    )


def as_created(project: str, memory: NewMemory) -> Memory:
    """A memory as its maker reads it back at once, without asking the database."""
    payload = memory.packed()
    return Memory.model_construct(
        id=memory.id,
        project_id=project,
        label=memory.label,
        type=memory.type,
        version=1,
        content=memory.content if memory.type == "PLAINTEXT" else None,
        origin=memory.origin,
        provenance_id=memory.provenance_id,
        parents=list(memory.parents),
        tags=list(memory.tags),
        governance=Governance.model_validate_json(memory.governance),
        metadata=orjson.loads(memory.metadata),
        priority=memory.priority,
        lifecycle="NEW",
        trust=memory.trust,
        usage_hits=0,
        last_used=None,
        kv_hint=memory.kv_hint,
        watermark=None,
        created_by=memory.created_by,
        created_at=memory.created_at,
        updated_at=memory.created_at,
        size_bytes=payload.size_bytes,
        token_count=payload.token_count,
        checksum=payload.checksum.hex(),
        embedding=Embedding.model_construct(state="pending"),
    )


def revision(change: MemoryChange) -> Revision:
    """What a change of a memory of text asks for."""
    return Revision(
        label=change.label,
        tags=None if change.tags is None else tuple(change.tags),
        metadata=None if change.metadata is None else orjson.dumps(change.metadata).decode(),
        governance=None if change.governance is None else change.governance.model_dump_json(),
        priority=change.priority,
        kv_hint=None if "kv_hint" not in change.model_fields_set else change.kv_hint or "",
        payload=None if change.content is None else pack(change.content),
        words=change.content or "",
    )


def is_settled(receipt: Receipt, wait: Wait) -> bool:
    """Whether waiting longer would change nothing: what was waited for has come, or never will."""
    state: ReceiptState = receipt.state
    match state:
        case "searchable" | "failed" | "parked":
            return True
        case "embedded":
            return wait == "stored"
        case "stored":
            return wait == "stored" or receipt.reason is not None
        case "accepted":
            return False
        case _:
            assert_never(state)


def frame(event: str, data: bytes, position: int | None = None) -> bytes:
    """One server-sent event; `data` is one line of JSON, `position` what the reader resumes after."""
    head = b"" if position is None else b"id: %d\n" % position
    return b"%sevent: %s\ndata: %s\n\n" % (head, event.encode(), data)


Effect = Literal["purged", "expired", "governed"]

NOBODY: Final = Access(visibility="private")
"""The access of a change that this process may not show to anybody."""


@dataclass(frozen=True, slots=True)
class Framed:
    """A change at its position, as readers get it, and whom it concerns; without a frame it is for nobody here.

    memory: what it is about, a memory or a chain. effect: what it means for what was told of that before: `purged`
    takes it back, `expired` leaves it to the privileged, `governed` gives it to whom this change concerns.
    """

    position: int
    frame: bytes | None
    access: Access
    memory: UUID | None = None
    effect: Effect | None = None

    def shown_to(self, reader: Reader) -> bytes | None:
        """The frame, if `reader` may have it."""
        return self.frame if self.frame is not None and may_read(self.access, reader) else None


def effect_of(type: str, changed: object) -> Effect | None:
    """What a change of this type, with these fields changed, means for what was told before."""
    match type:
        case "memory.v1.purged" | "chain.v1.deleted":
            return "purged"
        case "memory.v1.expired":
            return "expired"
        case "memory.v1.restored":
            return "governed"
        case _:
            pass
    if isinstance(changed, list) and not {"governance", "trust"}.isdisjoint(cast("list[str]", changed)):
        return "governed"
    return None


class RecentChanges:
    """The newest changes of one project: consecutive, at most `size`, shared by everyone who follows it."""

    __slots__ = ("_changes", "head")

    def __init__(self, head: int, *, size: int = WINDOW) -> None:
        self.head = head
        self._changes: deque[Framed] = deque(maxlen=size)

    def offer(self, change: Framed) -> Literal["taken", "known", "gap"]:
        """Take the next change; one already known is dropped, one beyond the next is a gap and is not taken."""
        if change.position <= self.head:
            return "known"
        if change.position > self.head + 1:
            return "gap"
        if change.effect is not None:
            self._retell(change)
        self._changes.append(change)
        self.head = change.position
        return "taken"

    def _retell(self, change: Framed) -> None:
        """What is told again of a memory follows what it has become since."""
        access = NOBODY if change.effect == "expired" else change.access
        for place, earlier in enumerate(self._changes):
            if earlier.memory == change.memory and earlier.frame is not None:
                frame = None if change.effect == "purged" else earlier.frame
                self._changes[place] = replace(earlier, frame=frame, access=access)

    def after(self, position: int) -> list[Framed] | None:
        """The changes that follow `position`, oldest first; None where they are not all here any more."""
        missing = self.head - position
        if missing <= 0:
            return []
        if missing > len(self._changes):
            return None
        return list(self._changes)[-missing:]


def woken_ids(event: dict[str, object]) -> list[UUID]:
    """Whose waiting a change may end: the memory or chain it speaks of, the receipt it speaks of."""
    return [
        UUID(value) for name in ("memory_id", "chain_id", "receipt_id") if isinstance(value := event.get(name), str)
    ]
