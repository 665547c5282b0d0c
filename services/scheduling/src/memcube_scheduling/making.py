"""A schedule made: candidates gathered and weighed, chosen from, read, rendered and recorded, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from memcube_common.contracts.scheduling import (
    CONSIDERED_MAX,
    Format,
    Schedule,
    ScheduledMemory,
    ScheduleRequest,
)
from memcube_common.db import Transaction
from memcube_common.errors import FieldError, Invalid, TryAgain
from memcube_common.governance.domain import PRIVILEGED
from memcube_common.ids import new_id
from memcube_common.schedules.domain import NewSchedule, Weighed, Weighing, asked_json
from memcube_common.schedules.store import insert_schedule
from memcube_common.search.domain import Question, QuestionVector
from memcube_common.search.store import find_generation, rank
from memcube_common.search.vectors import direction
from memcube_common.tokens import count_tokens
from memcube_scheduling import store
from memcube_scheduling.domain.choice import Choice, Item, Terms, choose, in_order, shortlist_size
from memcube_scheduling.domain.rendering import Told, block, frame, render
from memcube_scheduling.domain.sameness import Similarities, similarities, words_of
from memcube_scheduling.domain.scores import Need, Weights, Worth, fits_of, weigh
from memcube_scheduling.room import Room
from memcube_scheduling.store import Found

RANKED: Final = 50
"""So many are asked for by words and by meaning; each side brings twice as many."""
ROUNDS: Final = 8
COUNTED_HERE: Final = frozenset({"recency", "trust"})
"""Parts of a search's score that a schedule's has itself."""
_MARKS: Final = 12
"""What marks and label cost in tokens, about."""
_BY_GUESS: Final = 4
"""In so many rounds texts are read that were not yet; from then on only those that were read are chosen from."""

_SWELL: Final[Mapping[Format, float]] = {"memcube": 1.0, "xml": 1.0, "markdown": 1.1, "json": 1.05}
"""By how much a text grows in a format, about; what turns out dearer is chosen again at its true price."""


@dataclass(frozen=True, slots=True)
class Made:
    """A schedule, and what decides how long it may be given out again.

    until: when the first of those that were weighed expires. repeatable: it follows from memories alone, and giving it
    out again leaves out no mark that was to be made.
    """

    schedule: Schedule
    until: datetime | None
    repeatable: bool


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Everything that was weighed, by id, and in what it was searched."""

    found: Mapping[UUID, Found]
    worths: Mapping[UUID, Worth]
    vector: QuestionVector | None


@dataclass(frozen=True, slots=True)
class _Settled:
    """A choice of which everything is known: what it says, what it costs, and the terms it was made under."""

    choice: Choice
    terms: Terms
    costs: Mapping[UUID, int]
    texts: Mapping[UUID, str]
    prompt: str
    tokens: int


async def make_schedule(
    tx: Transaction,
    room: Room,
    request: ScheduleRequest,
    *,
    vector: QuestionVector | None,
    degraded: str | None,
    started: float,
) -> Made:
    """Make a schedule for `request` under the principal of `tx`, and record it.

    vector: of the text, where it could be made. started: when the ask came, by `time.perf_counter`. Raises Invalid for
    an embedding of a length that no vectors have.
    """
    now = request.as_of or room.clock()
    weights = room.settings.weights(has_text=request.text is not None or request.embedding is not None)
    candidates = await _gather(tx, room, request, vector, weights, now)
    items = _items(candidates, request)
    similar = await _compare(tx, items, request.limit, candidates.found)
    settled = await _settle(tx, room, request, candidates.found, items, similar)
    weighed = _weighed(candidates, settled, items)
    schedule = Schedule.model_construct(
        id=new_id(),
        agent_id=request.agent_id,
        task_id=request.task_id,
        made_at=room.clock(),
        token_budget=request.token_budget,
        tokens_used=settled.tokens,
        memories=[_scheduled(tx.principal.project, candidates, settled, one) for one in settled.choice.order],
        prompt=settled.prompt,
        candidates=[one.shown() for one in weighed] if request.explain else None,
        considered=len(weighed),
        degraded=degraded,
        cached=False,
        took_ms=0.0,
    )
    terms = {"tokens": settled.terms.tokens, "most": settled.terms.most}
    filled = {"redundancy": settled.terms.redundancy, "sharpness": settled.terms.sharpness}
    record = NewSchedule(
        id=schedule.id,
        agent_id=request.agent_id,
        task_id=request.task_id,
        made_by=tx.principal.name,
        made_at=schedule.made_at,
        asked=asked_json(request),
        weights={**asdict(weights), **filled},
        token_budget=request.token_budget,
        tokens_used=settled.tokens,
        generation=candidates.vector.generation if candidates.vector else None,
        chosen=settled.choice.order,
        weighing=Weighing(weighed, frozenset(item.id for item in items if item.pinned), similar, {**terms, **filled}),
    )
    await insert_schedule(tx, project=tx.principal.project, schedule=record)
    ends = [one.known.expires_at for one in candidates.found.values() if one.known.expires_at is not None]
    audited = any(candidates.found[one].audited for one in settled.choice.order)
    took = round((time.perf_counter() - started) * 1000, 2)
    return Made(
        schedule.model_copy(update={"took_ms": took}),
        min(ends, default=None),
        repeatable=degraded is None and not audited and not request.include_insights,
    )


async def _gather(
    tx: Transaction,
    room: Room,
    request: ScheduleRequest,
    vector: QuestionVector | None,
    weights: Weights,
    now: datetime,
) -> _Candidates:
    """Find what comes into question and say what it is worth: at most 400, the best."""
    project, searched = tx.principal.project, request.text is not None or request.embedding is not None
    if request.embedding is not None:
        vector = await _given_vector(tx, request.embedding)
    question = Question(text=request.text, limit=RANKED, vector=vector, now=now, without=COUNTED_HERE)
    ranked = await rank(tx, project=project, question=question, sizes=room.sizes) if searched else []
    fits = fits_of(ranked, question.blend)
    found = await store.read_candidates(
        tx,
        project=project,
        found=list(fits),
        task_id=request.task_id,
        tags=request.need_tags,
        recent=not searched,
        as_of=request.as_of,
        agent=request.agent_id,
        for_another=tx.principal.role in PRIVILEGED and tx.principal.name != request.agent_id,
    )
    if request.include_insights:
        found += await store.read_insights(
            tx, project=project, text=request.text, as_of=request.as_of, agent=request.agent_id
        )
    settings = room.settings
    need = Need(
        now=now,
        tags=frozenset(request.need_tags),
        has_text=searched,
        prefer_hot=request.prefer_hot,
        half_life=settings.schedule_half_life,
        similarity_floor=settings.schedule_similarity_floor,
    )
    known = {one.known.id: one for one in found}
    worths = {id: weigh(one.known, need, weights, fits.get(id, one.fit)) for id, one in known.items()}
    if len(worths) > CONSIDERED_MAX:
        best = sorted(worths, key=lambda id: (not known[id].known.pinned, -worths[id].score, id.int))[:CONSIDERED_MAX]
        worths = {id: worths[id] for id in best}
    return _Candidates({id: known[id] for id in worths}, worths, vector)


async def _given_vector(tx: Transaction, embedding: Sequence[float]) -> QuestionVector:
    generation = await find_generation(tx, dimensions=len(embedding))
    if generation is None:
        raise Invalid(errors=[FieldError("embedding", "no memory has a vector of so many numbers")])
    return QuestionVector(generation, len(embedding), direction(embedding))


def _items(candidates: _Candidates, request: ScheduleRequest) -> list[Item]:
    """Those that may be chosen, in the order of a schedule, at what they cost, about: what is too far down to be
    chosen is not measured.
    """
    _, between, _ = frame(request.format)
    found = candidates.found
    items = in_order(
        Item(id, worth.score, found[id].tokens + _MARKS, found[id].known.pinned)
        for id, worth in candidates.worths.items()
        if worth.barred is None
    )
    short = shortlist_size(request.limit)
    return [
        Item(item.id, item.score, _price(found[item.id], request.format, between), item.pinned)
        for item in items[:short]
    ] + items[short:]


def _price(one: Found, form: Format, between: str) -> int:
    """What a candidate costs in tokens, marks included: what is not read yet by the count of its content."""
    if one.content is not None or one.type != "PLAINTEXT":
        return count_tokens(block(_told("", one, one.content), form) + between)
    around = block(_told("", one, "x"), form) + between  # with something between the marks, which else run together
    return count_tokens(around) + round(one.tokens * _SWELL[form])


async def _compare(tx: Transaction, items: Sequence[Item], most: int, found: Mapping[UUID, Found]) -> Similarities:
    """Which of those that may be told say the same."""
    shortlist = [item.id for item in items[: shortlist_size(most)]]
    words = await store.read_words(tx, ids=[id for id in shortlist if found[id].known.kind == "memory"])
    return similarities([words_of(found[id].words or words.get(id, "")) for id in shortlist])


async def _settle(
    tx: Transaction,
    room: Room,
    request: ScheduleRequest,
    found: Mapping[UUID, Found],
    items: Sequence[Item],
    similar: Similarities,
) -> _Settled:
    """Choose, read what was chosen, and choose again at true prices until everything fits.

    Texts are read as late as that because their audit trail says so; as a rule it is done at once.
    """
    settings, form = room.settings, request.format
    before, between, behind = frame(form)
    room_left = max(0, request.token_budget - count_tokens(before + behind))
    terms = Terms(room_left, request.limit, settings.schedule_redundancy, settings.schedule_sharpness)
    texts: dict[UUID, str] = {id: one.content for id, one in found.items() if one.content is not None}
    project, costs = tx.principal.project, {item.id: item.tokens for item in items}
    for turn in range(ROUNDS):
        choice = choose(items, similar, terms)
        unread = [id for id in choice.order if id not in texts and found[id].type == "PLAINTEXT"]
        if unread and turn < _BY_GUESS:
            versions = {id: found[id].known.version for id in unread}
            read = await store.read_texts(tx, project=project, versions=versions)
            texts |= read
            costs |= {id: request.token_budget + 1 for id in unread if id not in read}  # gone, or changed, meanwhile
        elif unread:
            costs |= {
                i.id: request.token_budget + 1 for i in items if i.id not in texts and found[i.id].type == "PLAINTEXT"
            }
        blocks = {
            id: block(_told(project, found[id], texts.get(id)), form)
            for id in choice.order
            if id in texts or found[id].type != "PLAINTEXT"
        }
        true = {id: count_tokens(text + between) for id, text in blocks.items()}
        dearer = {id: cost for id, cost in true.items() if cost > costs[id]}
        costs |= dearer
        if dearer or len(blocks) < len(choice.order):
            items = [Item(item.id, item.score, costs[item.id], item.pinned) for item in items]
            continue
        prompt = render([blocks[id] for id in choice.order], form)
        tokens = count_tokens(prompt)
        if tokens <= request.token_budget:
            return _Settled(choice, terms, costs, texts, prompt, tokens)
        terms = replace(terms, tokens=max(0, terms.tokens - (tokens - request.token_budget)))
    raise TryAgain("the memories changed too often while they were chosen from")


def _told(project: str, one: Found, content: str | None) -> Told:
    is_text = one.type == "PLAINTEXT"
    known = one.known
    return Told(
        label=known.label,
        content=(content or "") if is_text else None,
        reference=None if is_text else reference(project, known.id, known.version, one.kv_hint),
        type=one.type,
        kind=known.kind,
        trust=known.trust,
    )


def reference(project: str, memory_id: UUID, version: int, hint: str | None) -> str:
    """Where a binary memory's bytes are found: as its own hint says, else by its version."""
    return hint or f"memcube://{project}/memories/{memory_id}?version={version}"


def _weighed(candidates: _Candidates, settled: _Settled, items: Iterable[Item]) -> list[Weighed]:
    """Every candidate with what became of it, those that could be chosen first, in their order."""
    taken, left = set(settled.choice.order), settled.choice.left
    eligible = [item.id for item in items]
    barred = sorted(
        (id for id, worth in candidates.worths.items() if worth.barred is not None),
        key=lambda id: (-candidates.worths[id].score, id.int),
    )
    weighed: list[Weighed] = []
    for id in [*eligible, *barred]:
        worth, one = candidates.worths[id], candidates.found[id]
        twin: UUID | None = None
        if worth.barred is not None:
            reason = worth.barred
        elif id in taken:
            reason = "pinned" if one.known.pinned else "chosen"
        else:
            reason, twin = left[id]
        weighed.append(
            Weighed(
                id,
                one.known.kind,
                one.known.version,
                worth.score,
                worth.parts,
                settled.costs.get(id, one.tokens),
                reason,
                twin,
            )
        )
    return weighed


def _scheduled(project: str, candidates: _Candidates, settled: _Settled, id: UUID) -> ScheduledMemory:
    one = candidates.found[id]
    known, is_text = one.known, one.type == "PLAINTEXT"
    return ScheduledMemory.model_construct(
        id=id,
        kind=known.kind,
        version=known.version,
        label=known.label,
        type=one.type,
        tags=list(known.tags),
        priority=known.priority,
        trust=known.trust,
        created_at=known.created_at,
        content=settled.texts[id] if is_text else None,
        kv_hint=one.kv_hint if is_text else reference(project, id, known.version, one.kv_hint),
        score=candidates.worths[id].score,
        tokens=settled.costs[id],
        reason="pinned" if known.pinned else "chosen",
    )
