"""How fast a hybrid search is answered in a project of 100,000 memories, alone and 16 at once.

100,000 memories in one project, loaded through the write model; made-up texts; the first 10,000 have their real vectors
of the local model, the others one of those, moved a little at random. Then vacuumed and analysed as autovacuum would,
and the project's graph is built, as the lifecycle room does. 200 questions whose vectors the embedding room has cached.
Server: `took_ms` of the answer, from the request's body to the answer's. HTTP: as the caller sees it over loopback.
Before the graph: the same search while the graph is not built yet, by one-bit codes. With a tag: the search narrowed to
the memories of one tag in twenty-four, which a graph does not know. Recall@10: as in `query`.
"""

from __future__ import annotations

import time

import orjson

from benchmarks import machine
from benchmarks.corpus import Corpus, corpus, fill, grow_graphs, many_more, tidy
from benchmarks.figures import Figure, least, most
from benchmarks.query import AT_ONCE, LIMIT, ask, body_of, recall_of, timed
from benchmarks.stage import Options, Stage
from benchmarks.texts import notes


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure search in a large project; see the module."""
    count, many = options.sized(100_000, at_least=2_000), options.sized(200, at_least=20)
    known = await corpus(stage, options.sized(10_000, at_least=500), many, options.seed)
    texts = known.notes + notes(count, options.seed)[len(known.notes) :]
    made = Corpus(texts, many_more(known.vectors, count, options.seed), known.questions)
    questions = [note.question for note in made.notes[:many]]
    tag = made.notes[0].tags[0]
    project = await stage.project("large")
    started = time.perf_counter()
    ids = await fill(stage, project, made.notes, made.vectors)
    loaded = time.perf_counter() - started
    await tidy(stage)

    async with stage.wires(project, 1) as wires:
        await ask(wires, [body_of(question) for question in questions])
        by_codes = await ask(wires, [body_of(question) for question in questions[: many // 2]])
    built, seconds = await grow_graphs(stage, threshold=count // 2)
    async with stage.wires(project, 1) as wires:
        await ask(wires, [body_of(question) for question in questions])
        recall = await recall_of(wires[0], made, ids)
        alone = await ask(wires, [body_of(question) for question in 2 * questions])
    async with stage.wires(project, AT_ONCE) as wires:  # a connection that nobody uses for five seconds is hung up
        before = machine.processor_seconds(stage.stack)
        together = await ask(wires, [body_of(question) for question in 4 * questions])
        used = machine.spent(before, machine.processor_seconds(stage.stack))
        narrowed = [orjson.dumps({"text": q, "limit": LIMIT, "tags": [tag]}) for q in questions[: many // 2]]
        tagged = await ask(wires[:1], narrowed)

    figures = [
        timed("100k, server, alone, before the graph, p95", by_codes.took, 0.95),
        timed("100k, server, alone, p50", alone.took, 0.5),
        timed("100k, server, alone, p95", alone.took, 0.95, None, "", most("B6", 10)),
        timed("100k, HTTP, alone, p95", alone.driven.times, 0.95),
        timed("100k, HTTP, 16 at once, p50", together.driven.times, 0.5),
        timed("100k, HTTP, 16 at once, p95", together.driven.times, 0.95),
        Figure(name="100k, HTTP, 16 at once", value=together.driven.rate, unit="searches/s"),
        timed("100k, server, alone, with a tag, p95", tagged.took, 0.95),
        Figure(
            name="100k, recall@10 of the vector part", value=recall, unit="of 1",
            limit=1.0, limit_of="exact, float32, numpy", budgets=(least("B6", 0.99),),
        ),
        Figure(name="loading", value=count / loaded, unit="memories/s"),
        Figure(name="building the graph, two processes", value=seconds, unit="s"),
    ]  # fmt: skip
    remarks = [
        f"{count:,} memories in one project; {many} questions, limit {LIMIT}; {built} graph built",
        "processor seconds, 16 at once: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items()),
    ]
    refused = alone.driven.refused + together.driven.refused + tagged.driven.refused + by_codes.driven.refused
    return figures, [*remarks, f"{refused} queries were refused"] if refused else remarks
