"""How much of the local model's own rate arrives at the end of the embedding room's queue.

The model's own rate: 1,500 short texts through the embedder inside this process, one thread, nothing else at work.
Through the queue: the same texts inserted as memories while the room is halted, then from the moment it goes on until
the last of them has its vector (claim, read, embed, save, announce).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from benchmarks.corpus import local_embedder, memory_of
from benchmarks.figures import Figure, least
from benchmarks.stage import Options, Stage, until
from benchmarks.texts import notes
from memcube_common.bus import Bus
from memcube_common.contracts import subjects
from memcube_common.memories.store import insert_memories
from memcube_common.security.principal import Principal


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure the queue against the model; see the module."""
    count = options.sized(1_500, at_least=64)
    made = notes(count, options.seed)
    async with local_embedder(stage) as embedder:
        await embedder.embed([note.text for note in made[:32]])
        began = time.perf_counter()
        await embedder.embed([note.text for note in made])
        own = time.perf_counter() - began
    project = await stage.project("embed")
    with stage.embedding_stopped() as go_on:
        async with stage.database("ingestion") as database:
            for start in range(0, count, 250):
                memories = [memory_of(note, datetime.now(UTC)) for note in made[start : start + 250]]
                async with database.transaction(Principal.worker("ingestion", project.slug)) as tx:
                    await insert_memories(tx, project=project.slug, memories=memories)
        await stage.feed_settled()
        async with stage.admin(project) as admin:

            async def are_ready() -> bool:
                waiting = "select not exists (select from work_queue where project_id = $1 and kind = 'embedding')"
                return bool(await admin.fetchval(waiting, project.slug))

            bus = await Bus.open(stage.nats, name="benchmarks")
            began = time.perf_counter()
            go_on()
            await bus.ring(subjects.BELL_MEMORIES)
            await until(are_ready, within=120)
            queued = time.perf_counter() - began
            await bus.close()
            ready = await admin.fetchval(
                "select count(*) from memories where project_id = $1 and embedding_state = 'ready'", project.slug
            )
    figure = Figure(
        name="embedded through the queue", value=count / queued, unit="texts/s",
        limit=count / own, limit_of="the model inside the benchmark's process, one thread",
        budgets=(least("B9", round(0.9 * count / own)),),
    )  # fmt: skip
    return [figure], [f"{ready:,} of {count:,} memories ready; B9 asks for 90 % of the model's own rate"]
