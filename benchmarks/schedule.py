"""How fast a schedule is made, and given out again.

10,000 memories in one project, made-up texts with real vectors of the local model, vacuumed and analysed; 200 questions
whose vectors the embedding room has cached. A schedule has a budget of 4,000 tokens and the format memcube; each is for
another agent and task, so that none comes out of the cache. Cached: the same ask again while nothing has changed.
Server: `took_ms` of the answer, taken by the scheduling room. HTTP: as the caller sees it over loopback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import orjson

from benchmarks.corpus import corpus, fill, tidy
from benchmarks.figures import Figure, most
from benchmarks.query import Asked, timed
from benchmarks.stage import Options, Stage, drive
from benchmarks.wire import Wire

BUDGET = 4_000
AT_ONCE = 16


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure schedules; see the module."""
    count, many = options.sized(10_000, at_least=500), options.sized(200, at_least=20)
    made = await corpus(stage, count, many, options.seed)
    questions = [note.question for note in made.notes[:many]]
    project = await stage.project("schedule")
    await fill(stage, project, made.notes, made.vectors)
    await tidy(stage)
    async with stage.wires(project, AT_ONCE) as wires:
        await _ask(wires[:1], [_body(question, "warm") for question in questions])
        alone = await _ask(wires[:1], [_body(question, "alone") for question in questions])
        together = await _ask(wires, [_body(question, f"many-{n}") for n in range(2) for question in questions])
        repeated: list[float] = []
        hits = 0
        for question in questions[: max(10, many // 4)]:
            await wires[0].post("memories/schedule", _body(question, "again"))
            again = await _ask(wires[:1], [_body(question, "again")] * 4)
            repeated += again.driven.times
            hits += sum(taken < 0 for taken in again.took)
    figures = [
        timed("10k, server, alone, p50", alone.took, 0.5),
        timed("10k, server, alone, p95", alone.took, 0.95),
        timed("10k, HTTP, alone, p50", alone.driven.times, 0.5),
        timed("10k, HTTP, alone, p95", alone.driven.times, 0.95, None, "", most("B8", 20)),
        timed("10k, HTTP, 16 at once, p95", together.driven.times, 0.95),
        Figure(name="10k, HTTP, 16 at once", value=together.driven.rate, unit="schedules/s"),
        timed("10k, HTTP, cached, p50", repeated, 0.5),
        timed("10k, HTTP, cached, p95", repeated, 0.95, None, "", most("B8", 4)),
    ]
    return figures, [f"{count:,} memories, budget {BUDGET:,} tokens; {hits} of {len(repeated)} repeats came cached"]


async def _ask(wires: Sequence[Wire], bodies: Sequence[bytes]) -> Asked:
    """Ask all of these; in `took`, what was cached is below zero."""
    took: list[float] = []

    def worker(wire: Wire) -> Callable[[bytes], Awaitable[object]]:
        async def one(body: bytes) -> None:
            answer = orjson.loads(await wire.post("memories/schedule", body))
            took.append(-answer["took_ms"] if answer["cached"] else answer["took_ms"])

        return one

    return Asked(await drive([worker(wire) for wire in wires], bodies), took)


def _body(question: str, agent: str) -> bytes:
    return orjson.dumps({"agent_id": agent, "text": question, "token_budget": BUDGET})
