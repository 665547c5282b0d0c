"""How fast, and how well, a hybrid search is answered.

5,000 memories in 20 projects, then 10,000 in one; made-up texts with real vectors of the local model, loaded through
the write model; vacuumed and analysed as autovacuum would. "Just loaded" is asked before that: the planner then knows
nothing of the project, which is how a growing project looks to it for a minute. 200 questions whose vectors the
embedding room has cached (each is asked once before). Server: `took_ms` of the answer, from the request's body to the
answer's. HTTP: as the caller sees it over loopback. Search in its transaction: the same search called in this process.
Raw limit: the two statements of a search on one bare connection, without fusion or HTTP (`policies` takes row level
security off).
Recall@10: a semantic query's ten against the ten nearest of all float32 vectors by numpy.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import numpy as np
import orjson
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from benchmarks import machine
from benchmarks.corpus import Corpus, Matrix, corpus, fill, tidy
from benchmarks.figures import Figure, least, most, percentile
from benchmarks.stage import Driven, Options, Stage, drive
from benchmarks.wire import Wire
from memcube_common.search.domain import WORK_MAX, Filters, Question, QuestionVector
from memcube_common.search.listings import QUERIES
from memcube_common.search.store import search
from memcube_common.search.tiers import Sizes, exact_max, tier
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseProject

LIMIT = 10
TENANTS = 20
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers to a number of queries: what the caller saw, and `took_ms` of each."""

    driven: Driven
    took: list[float]


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure search; see the module."""
    count, tenants_hold = options.sized(10_000, at_least=500), options.sized(250, at_least=50)
    many = options.sized(200, at_least=20)
    made = await corpus(stage, count, many, options.seed)
    questions = [note.question for note in made.notes[:many]]
    tenants = [await stage.project("tenant") for _ in range(TENANTS)]
    for place, tenant in enumerate(tenants):
        part = slice(place * tenants_hold % count, place * tenants_hold % count + tenants_hold)
        await fill(stage, tenant, made.notes[part], made.vectors[part])
    await tidy(stage)
    big = await stage.project("search")
    ids = await fill(stage, big, made.notes, made.vectors)

    async with stage.wires(big, AT_ONCE) as wires:
        await ask(wires[:1], [body_of(question) for question in questions[:5]])
        just_loaded = await ask(wires[:1], [body_of(question) for question in questions[5:45]])
        await tidy(stage)
        recall = await recall_of(wires[0], made, ids)
        await ask(wires[:1], [body_of(question) for question in questions])
        alone = await ask(wires[:1], [body_of(question) for question in 2 * questions])
        before = machine.processor_seconds(stage.stack)
        together = await ask(wires, [body_of(question) for question in 6 * questions])
        used = machine.spent(before, machine.processor_seconds(stage.stack))
    inside = await _inside(stage, big, made, questions)
    raw = await _raw(stage, big, made, questions)
    spread_alone, spread, short = await _tenants(stage, tenants, questions)

    of = "both statements on one bare connection"
    limit50, limit95 = percentile(raw, 0.5), percentile(raw, 0.95)
    figures = [
        timed("10k, server, alone, just loaded, p95", just_loaded.took, 0.95, limit95, of, most("0.1", 15)),
        timed("10k, server, alone, p50", alone.took, 0.5, limit50, of),
        timed("10k, server, alone, p95", alone.took, 0.95, limit95, of, most("0.1", 15), most("B6", 6)),
        timed("10k, search in its transaction, p50", inside, 0.5, limit50, of),
        timed("10k, search in its transaction, p95", inside, 0.95, limit95, of),
        timed("10k, HTTP, alone, p50", alone.driven.times, 0.5, limit50, of),
        timed("10k, HTTP, alone, p95", alone.driven.times, 0.95, limit95, of),
        timed("10k, HTTP, 16 at once, p50", together.driven.times, 0.5),
        timed("10k, HTTP, 16 at once, p95", together.driven.times, 0.95),
        Figure(
            name="10k, HTTP, 16 at once", value=together.driven.rate, unit="searches/s",
            limit=1000 * len(raw) / sum(raw), limit_of=f"{of}, one after another",
        ),
        Figure(
            name="10k, processor time of gateway and Postgres",
            value=1000 * (used["gateway"] + used["postgres"]) / len(together.driven.times), unit="ms/search",
        ),
        Figure(
            name="10k, recall@10 of the vector part", value=recall, unit="of 1",
            limit=1.0, limit_of="exact, float32, numpy", budgets=(least("B6", 0.99),),
        ),
        Figure(
            name="20 tenants, HTTP, 16 at once", value=spread.driven.rate, unit="searches/s",
            budgets=(least("B2", 700),),
        ),
        timed("20 tenants, HTTP, 16 at once, p95", spread.driven.times, 0.95, None, "", most("B2", 40)),
        timed("20 tenants, HTTP, alone, p95", spread_alone.driven.times, 0.95, None, "", most("B2", 6)),
    ]  # fmt: skip
    notes = [
        f"{count:,} memories in one project and {TENANTS} × {tenants_hold}; {many} questions, limit {LIMIT}",
        f"{short} of the tenants' answers held fewer than {LIMIT} memories",
        "processor seconds, 16 at once: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items()),
    ]
    refused = alone.driven.refused + together.driven.refused + spread.driven.refused
    return figures, [*notes, f"{refused} queries were refused"] if refused else notes


async def ask(wires: Sequence[Wire], bodies: Sequence[bytes]) -> Asked:
    """Ask all of these, each wire its next as soon as it has its answer."""
    took: list[float] = []

    def worker(wire: Wire) -> Callable[[bytes], Awaitable[object]]:
        async def one(body: bytes) -> None:
            answer = await wire.post("memories/query", body)
            # Not parsed as a whole: reading ten memories would cost the generator as much as asking for them.
            took.append(float(answer.rpartition(b'"took_ms":')[2].partition(b",")[0].rstrip(b"}")))

        return one

    return Asked(await drive([worker(wire) for wire in wires], bodies), took)


async def _tenants(stage: Stage, tenants: Sequence[HouseProject], questions: Sequence[str]) -> tuple[Asked, Asked, int]:
    """One caller, then sixteen, going round all tenants; and how many answers were shorter than asked for."""
    keys = [await Wire.open(stage.gateway, project=one.slug, key=one.key) for one in tenants]
    short = 0
    for wire in keys:  # warms keys and sizes; the vectors are cached already
        for question in questions[:10]:
            answer = orjson.loads(await wire.post("memories/query", body_of(question)))
            short += len(answer["memories"]) < LIMIT
    took: list[float] = []

    def worker(number: int) -> Callable[[bytes], Awaitable[object]]:
        own = [keys[place] for place in range(number, TENANTS, AT_ONCE)]

        async def ask(body: bytes) -> None:
            own.append(own.pop(0))
            await own[0].post("memories/query", body)

        return ask

    everywhere = keys.copy()

    async def ask_in_turn(body: bytes) -> None:
        everywhere.append(everywhere.pop(0))
        await everywhere[0].post("memories/query", body)

    alone = await drive([ask_in_turn], [body_of(question) for question in questions])
    together = await drive(
        [worker(n) for n in range(AT_ONCE)], [body_of(question) for question in 10 * list(questions)]
    )
    for wire in keys:
        await wire.close()
    return Asked(alone, took), Asked(together, took), short


async def recall_of(wire: Wire, made: Corpus, ids: Sequence[UUID]) -> float:
    """The share of the exact ten nearest that a semantic query returns, over all questions."""
    found = 0
    for vector, note in zip(made.questions, made.notes, strict=False):
        exact = cast("list[int]", np.argsort(-(made.vectors @ vector), kind="stable")[:LIMIT].tolist())
        answer = orjson.loads(await wire.post("memories/query", body_of(note.question, mode="semantic")))
        found += len({str(ids[place]) for place in exact} & {memory["id"] for memory in answer["memories"]})
    return found / (LIMIT * len(made.questions))


async def _inside(stage: Stage, project: HouseProject, made: Corpus, questions: Sequence[str]) -> list[float]:
    """The search of the gateway without the gateway: milliseconds of transaction and search together."""
    times: list[float] = []
    sizes = Sizes()
    reader = Principal.user(project.slug, "bench", "SERVICE")
    async with stage.database("gateway") as database:
        for vector, question in [*zip(made.questions, questions, strict=True)] * 2:
            value = QuestionVector(1, len(vector), halfvec(vector))
            asked = Question(text=question, limit=LIMIT, vector=value)
            started = time.perf_counter()
            async with database.transaction(reader) as tx:
                await search(tx, project=project.slug, question=asked, sizes=sizes)
            times.append((time.perf_counter() - started) * 1000)
    return times[len(questions) :]


async def _raw(stage: Stage, project: HouseProject, made: Corpus, questions: Sequence[str]) -> list[float]:
    """The two statements of a search on a bare connection: milliseconds of both together."""
    times: list[float] = []
    async with stage.admin(project) as connection:
        await register_vector(connection)
        await connection.execute("set plan_cache_mode = force_custom_plan; set app.role = 'SERVICE'")
        for vector, text in [*zip(made.questions, questions, strict=True)] * 2:
            size, value = len(vector), halfvec(vector)
            question = Question(text=text, limit=LIMIT, vector=QuestionVector(1, size, value))
            small, most = len(made.vectors) <= exact_max(size), exact_max(size) + 1
            way = tier(small=small, dimensions=size, candidates=question.candidates)
            asked: tuple[Any, ...] = (
                project.slug, text, question.names, [], WORK_MAX, question.candidates, value, 1, False, most, way,
                question.around,
            )  # fmt: skip
            started = time.perf_counter()
            rows = await connection.fetch(QUERIES["by_both"].sql, *asked)
            best = [row["memory_id"] for row in rows[1:]]
            await connection.fetch(QUERIES["read_found"].sql, project.slug, best, LIMIT, False, *Filters().values())
            times.append((time.perf_counter() - started) * 1000)
    return times[len(questions) :]


def halfvec(vector: Matrix) -> HalfVector:
    """A vector as Postgres takes it."""
    return HalfVector(cast("list[float]", vector.tolist()))


def body_of(question: str, **more: str) -> bytes:
    """A query for the best ten."""
    return orjson.dumps({"text": question, "limit": LIMIT, **more})


def timed(
    name: str, times: Sequence[float], share: float, limit: float | None = None, of: str = "", *budgets: object
) -> Figure:
    """A share of these milliseconds, beside what the raw limit took."""
    return Figure.model_validate(
        {
            "name": name, "value": percentile(times, share), "unit": "ms",
            "limit": limit, "limit_of": of, "budgets": budgets,
        }
    )  # fmt: skip
