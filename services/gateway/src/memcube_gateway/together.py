"""What hot requests do when they share a transaction: have their effects once each, and read what they asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from starlette.responses import Response

from memcube_common.contracts.api import Memory, Receipt, Receipts
from memcube_common.db import Transaction
from memcube_common.errors import Conflict, KeyReused, MemCubeError, NotFound
from memcube_common.insights.domain import Insight
from memcube_common.insights.receipts import read_receipts
from memcube_common.insights.store import accept_insights
from memcube_common.memories.domain import NewMemory
from memcube_common.memories.store import insert_memories, read_memories
from memcube_common.quotas.domain import Need
from memcube_common.quotas.store import take
from memcube_gateway import domain, store
from memcube_gateway.store import GivenAnswer, Intent

JSON: Final = "application/json"
_MEMORY: Final = TypeAdapter(Memory)
_RECEIPT: Final = TypeAdapter(Receipt)
_RECEIPTS: Final = TypeAdapter(Receipts)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request is answered; `repeated` where it had its effect before."""

    status: int
    body: bytes
    repeated: bool = False

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """The answer as it goes out: a repeat is the same but for a header that says so."""
        more = {**(headers or {}), **({"idempotency-replayed": "true"} if self.repeated else {})}
        return Response(self.body, self.status, more, JSON if self.body else None)


@dataclass(frozen=True, slots=True)
class Making:
    """A memory to be made, under an Idempotency-Key where there is one."""

    memory: NewMemory
    intent: Intent | None

    @property
    def mark(self) -> object:
        """What no two in a transaction may share: the key, since the second waits for the first one's answer."""
        return self.intent.key if self.intent is not None else None


@dataclass(frozen=True, slots=True)
class Submitting:
    """Insights to be accepted together or not at all, under an Idempotency-Key where there is one. many: as a batch."""

    insights: Sequence[Insight]
    many: bool
    intent: Intent | None

    @property
    def mark(self) -> object:
        """What no two in a transaction may share, as of `Making`."""
        return self.intent.key if self.intent is not None else None


async def once_each(
    tx: Transaction,
    intents: Sequence[Intent | None],
    effect: Callable[[Sequence[int]], Awaitable[Sequence[tuple[int, bytes]]]],
) -> list[Answered | MemCubeError]:
    """Answers to requests of one route, in order: those whose key had its effect before get its answer, or their error.

    effect: has the effects of the others, given their places, and returns their answers (status, body); they are kept
    under their keys in the same transaction. No key stands twice in `intents`. Raises TryAgain, and what it raises.
    """
    keyed = [intent for intent in intents if intent is not None]
    given = await store.claim_keys(tx, intents=keyed) if keyed else {}
    answers: dict[int, Answered | MemCubeError] = {
        place: repeated(intent, given[intent.key])
        for place, intent in enumerate(intents)
        if intent is not None and intent.key in given
    }
    fresh = [place for place in range(len(intents)) if place not in answers]
    if fresh:
        made = dict(zip(fresh, await effect(fresh), strict=True))
        answers |= {place: Answered(*answer) for place, answer in made.items()}
        kept = [(intent, *made[place]) for place in fresh if (intent := intents[place]) is not None]
        if kept:
            await store.keep_answers(tx, answers=kept)
    return [answers[place] for place in range(len(intents))]


def repeated(intent: Intent, given: GivenAnswer) -> Answered | MemCubeError:
    """The answer that was given under the key before; an error for another body, and where it went with its memory."""
    if given.request_hash != intent.request_hash:
        return KeyReused()
    if given.status == NotFound.status:
        return NotFound("What this Idempotency-Key made is not there any more.")
    return Answered(given.status, given.body, repeated=True)


async def make_memories(tx: Transaction, asked: Sequence[Making]) -> list[Answered | MemCubeError]:
    """Keep memories of one project, each once for its Idempotency-Key: 201 with the memory as its maker reads it.

    Raises Conflict where an id is taken, QuotaExceeded, NotAllowed, Invalid for parents, TryAgain: nothing is kept.
    """
    project = tx.principal.project

    async def keep(places: Sequence[int]) -> list[tuple[int, bytes]]:
        memories = [asked[place].memory for place in places]
        in_order = sorted(memories, key=lambda memory: memory.id)
        new = await insert_memories(tx, project=project, memories=in_order)
        if len(new) < len(memories):
            raise Conflict("There is a memory with this id already.")
        await take(tx, need=need_of(memories))
        derived = [memory.id for memory in memories if memory.parents]
        read = await read_memories(tx, project=project, ids=derived) if derived else {}
        return [(201, _MEMORY.dump_json(read.get(m.id) or domain.as_created(project, m))) for m in memories]

    return await once_each(tx, [one.intent for one in asked], keep)


async def submit_insights(tx: Transaction, asked: Sequence[Submitting]) -> list[Answered | MemCubeError]:
    """Write posted insights of one project down, each request once for its Idempotency-Key: 202 with their receipts.

    Raises Conflict where an id is somebody else's, QuotaExceeded, TryAgain: nothing is accepted then.
    """
    project = tx.principal.project

    async def accept(places: Sequence[int]) -> list[tuple[int, bytes]]:
        insights = [insight for place in places for insight in asked[place].insights]
        in_order = sorted(insights, key=lambda insight: insight.id)  # two who meet wait instead of deadlocking
        accepted = await accept_insights(tx, project=project, via="http", insights=in_order)
        known = [insight.id for insight in insights if insight.id not in accepted]
        fates = {r.id: r for r in await read_receipts(tx, project=project, ids=known)} if known else {}
        if any(id not in fates for id in known):
            raise Conflict("This id is somebody else's insight: make another.")

        def receipt(insight: Insight) -> Receipt:
            at = accepted.get(insight.id)
            return fates[insight.id] if at is None else domain.accepted(project, insight, at)

        return [(202, _receipts(asked[place].many, [receipt(i) for i in asked[place].insights])) for place in places]

    return await once_each(tx, [one.intent for one in asked], accept)


def _receipts(many: bool, receipts: list[Receipt]) -> bytes:
    if many:
        return _RECEIPTS.dump_json(Receipts.model_construct(receipts=receipts))
    return _RECEIPT.dump_json(receipts[0])


async def read_each(tx: Transaction, ids: Sequence[UUID]) -> list[Memory | MemCubeError]:
    """The memories asked for, in order; NotFound for what the principal may not see."""
    found = await read_memories(tx, project=tx.principal.project, ids=ids)
    return [found.get(memory_id) or NotFound() for memory_id in ids]


def need_of(memories: Sequence[NewMemory]) -> Need:
    """What keeping these memories takes of the project's quotas."""
    sizes = [memory.payload.size_bytes if memory.payload else len(memory.content.encode()) for memory in memories]
    return {"memories": len(sizes), "bytes": sum(sizes)}
