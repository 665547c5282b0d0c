"""The house goes over to another embedding model under load: no search fails, none mixes models, nothing is lost."""

from __future__ import annotations

import asyncio
import functools
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import httpx
import numpy as np
import pytest
import pytest_asyncio
from tests.e2e.audit import settled
from tests.e2e.load import text_of
from tests.e2e.running_stack import RunningStack, Said, eventually
from tests.faults.conftest import DIMENSIONS, Say

from memcube import MemCubeClient
from memcube_common.db.pool import Row
from memcube_common.ids import new_id
from memcube_common.testing.openai_server import OpenAIServer, hashed_vector

MEMORIES: Final = {"many": 8_000, "some": 1_500, "few": 500}
MEANWHILE: Final = 100  # memories written while the others are handed over
AFTERWARDS: Final = 200  # memories written while searches use the new model
READY_WITHIN: Final = 15.0
OLD, NEW = "text-embedding-3-small", "another-model"
TARGET: Final = f"openai:{NEW}:{DIMENSIONS}"
ASKERS: Final = 4
TEXT_BYTES: Final = 160
DRAINED = 240.0
SAME: Final = 0.005
"""How far a similarity may be from that of the unrounded vectors, which are kept in half precision."""


@functools.lru_cache(maxsize=50_000)
def vector(text: str, model: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The vector that the endpoint makes of a text for one model."""
    return np.asarray(hashed_vector(text, DIMENSIONS, salt=model))


@dataclass
class Asking:
    """Searches without a pause, by words and meaning and by meaning alone, for texts that are known to be there."""

    stack: RunningStack
    keys: dict[str, str]
    texts: dict[str, list[str]]
    chance: random.Random
    by: Counter[str] = field(default_factory=Counter[str])
    failed: list[str] = field(default_factory=list[str])
    mixed: list[str] = field(default_factory=list[str])
    missed: list[str] = field(default_factory=list[str])
    took: list[float] = field(default_factory=list[float])
    embedder_dies: bool = False
    _calm: asyncio.Event = field(default_factory=asyncio.Event)
    _alone: int = 0
    _askers: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def __aenter__(self) -> Asking:
        self._askers = [asyncio.create_task(self._ask(), name=f"asker-{number}") for number in range(ASKERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for asker in self._askers:
            asker.cancel()
        for ended in await asyncio.gather(*self._askers, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def without_embedder(self) -> None:
        """From here on ask only what words can answer too; returns when nothing else is under way."""
        self.embedder_dies = True

        async def calm() -> bool:
            return self._alone == 0

        await eventually(calm, within=15, what="no search by meaning alone under way")

    async def some_more(self, number: int) -> None:
        """Return when so many more searches were answered."""
        wanted = sum(self.by.values()) + number

        async def answered() -> bool:
            assert all(not asker.done() for asker in self._askers), "an asker has ended"
            return sum(self.by.values()) >= wanted

        await eventually(answered, within=60, what=f"{number} more searches")

    async def _ask(self) -> None:
        async with httpx.AsyncClient(base_url=self.stack.gateway, timeout=30) as http:
            while True:
                project = self.chance.choice(list(self.texts))
                text = self.chance.choice(self.texts[project])
                alone = not self.embedder_dies and self.chance.random() < 0.5
                self._alone += alone
                try:
                    began = time.perf_counter()
                    answer = await http.post(
                        f"/v1/projects/{project}/memories/query",
                        headers={"authorization": f"Bearer {self.keys[project]}"},
                        json={"text": text, "limit": 10, **({"mode": "semantic"} if alone else {})},
                    )
                    self.took.append(time.perf_counter() - began)
                finally:
                    self._alone -= alone
                self._judge(text, answer)

    def _judge(self, text: str, answer: httpx.Response) -> None:
        """An answer comes, what was asked for is nearest, and one model's vectors alone explain how near all is."""
        if answer.status_code != 200:
            self.failed.append(f"{answer.status_code} {answer.text[:200]}")
            return
        said = answer.json()
        found = [(one["content"], one["similarity"]) for one in said["memories"]]
        if said["mode"] == "semantic" and text != found[0][0]:
            self.missed.append(f"{len(found)} found, the first {found[0][1]} near")
        if said["degraded"] is not None:
            self.by["words"] += 1
            return
        known = [(content, similarity) for content, similarity in found if similarity is not None]
        models = [
            model
            for model in (OLD, NEW)
            if all(abs(vector(text, model) @ vector(content, model) - near) < SAME for content, near in known)
        ]
        if models:
            self.by[models[0] if len(models) == 1 else "either"] += 1
        else:
            self.mixed.append(f"no one model explains {[near for _, near in known]}")


@pytest_asyncio.fixture
async def psql(stack: RunningStack) -> AsyncGenerator[asyncpg.Connection[Row]]:
    """Somebody who looks at everything."""
    connection = await asyncpg.connect(stack.postgres, timeout=10)
    yield connection
    await connection.close(timeout=5)


async def learn(stack: RunningStack, project: str, key: str, texts: Sequence[str]) -> None:
    """Insights over HTTP, all of them accepted."""
    async with MemCubeClient(stack.gateway, key, project) as client:
        for start in range(0, len(texts), 100):
            await client.insights.submit_many([{"insight": text} for text in texts[start : start + 100]])


async def told(stack: RunningStack, say: Say, *words: str) -> Said:
    """What a command says, which must succeed."""
    said = await stack.memcube("embeddings", *words, within=180)
    assert said.code == 0, said
    for line in said.out.splitlines():
        say(f"| {line}")
    return said


@pytest.mark.timeout(900)
async def test_the_model_is_changed_under_load_and_back_and_over_again(
    stack: RunningStack, embedder: OpenAIServer, psql: asyncpg.Connection[Row], seed: int, say: Say
) -> None:
    embedder.apart = True
    keys = {project: await stack.key_of(project) for project in MEMORIES}
    texts = {project: [text_of(new_id(), TEXT_BYTES) for _ in range(number)] for project, number in MEMORIES.items()}
    await asyncio.gather(*(learn(stack, project, keys[project], some) for project, some in texts.items()))
    await settled(stack, list(MEMORIES), within=DRAINED)
    say(f"{sum(MEMORIES.values()):,} memories have a vector by {OLD}")

    async def made() -> int:
        return int(await psql.fetchval("select coalesce(sum(made), 0) from memcube.embedding_backfills"))

    async def lag() -> int:
        return int(await psql.fetchval("select count(*) from memcube.work_queue where kind = 'vector'"))

    async with Asking(stack, keys, texts, random.Random(seed)) as asking:
        await asking.some_more(100)
        began = time.monotonic()
        migrating = await stack.begin("embeddings", "migrate", "--to", TARGET, "--yes")

        async def in_the_middle() -> bool:
            return await made() >= 3_000

        await learn(stack, "few", keys["few"], [text_of(new_id(), TEXT_BYTES) for _ in range(MEANWHILE)])
        learned = time.monotonic()

        async def ready() -> bool:
            waiting = "select count(*) from memcube.memories where project_id = 'few' and embedding_state = 'pending'"
            kept = "select count(*) from memcube.memories where project_id = 'few'"
            return await psql.fetchval(waiting) == 0 and await psql.fetchval(kept) == MEMORIES["few"] + MEANWHILE

        await eventually(ready, within=READY_WITHIN, what="new memories have their first vector")
        say(f"{MEANWHILE} new memories were ready {time.monotonic() - learned:.1f} s after they were accepted")
        assert await made() < 3_000, "the first vector of new memories does not wait for the second of all others"
        await eventually(in_the_middle, within=DRAINED, what="3,000 vectors by the new model")
        await asking.without_embedder()
        killed = stack.send("embedding", signal.SIGKILL)
        at_kill = await made()

        async def again() -> bool:
            return stack.is_another("embedding", killed) and await made() > at_kill + 100

        await eventually(again, within=60, what="another embedding room goes on", patient=True)
        say(f"SIGKILL of the embedding room after {at_kill:,} vectors; another one goes on")
        await stack.all_ready(services=("embedding",))
        asking.embedder_dies = False
        out, err = await asyncio.wait_for(migrating.communicate(), DRAINED)
        assert migrating.returncode == 0, err.decode()
        say(f"every memory had both vectors {time.monotonic() - began:.0f} s after the beginning, restart included")
        for line in out.decode().splitlines():
            say(f"| {line}")
        assert "overlap@10" in out.decode()
        assert asking.by[NEW] == 0, "nothing has changed for searches"

        await told(stack, say, "cut-over")
        await asking.some_more(300)
        assert asking.by[NEW] > 0
        between = [text_of(new_id(), TEXT_BYTES) for _ in range(AFTERWARDS)]
        await learn(stack, "few", keys["few"], between)
        await settled(stack, ["few"], within=DRAINED)
        texts["few"].extend(between)  # looked for from now on

        async def both() -> bool:
            return await lag() == 0

        await eventually(both, within=60, what="both vectors of what was written in between")
        await told(stack, say, "roll-back")
        new_before = asking.by[NEW]
        await asking.some_more(300)
        say(f"searches: {dict(asking.by)} after the way back")
        assert asking.by[NEW] - new_before <= 100, "within half a second all rooms use the old model again"
        await told(stack, say, "cut-over")
        await asking.some_more(100)
        await told(stack, say, "finish", "--yes")
        await asking.some_more(200)
    took = sorted(asking.took)
    say(f"{len(took):,} searches {dict(asking.by)}: {len(asking.failed)} failed, {len(asking.mixed)} mixed, "
        f"{len(asking.missed)} missed; p50 {took[len(took) // 2] * 1000:.0f} ms, "
        f"p95 {took[len(took) * 95 // 100] * 1000:.0f} ms")  # fmt: skip
    assert asking.failed == []
    assert asking.mixed == []
    assert asking.missed == []
    assert asking.by["words"] < len(took) / 4
    left = await psql.fetch(
        """select g.name, g.current, count(*) as many, count(distinct v.memory_id) as memories
             from memcube.memory_vectors v join memcube.embedding_models g using (generation) group by 1, 2"""
    )
    total = sum(MEMORIES.values()) + MEANWHILE + AFTERWARDS
    assert [tuple(row) for row in left] == [(NEW, True, total, total)]
    states = await psql.fetch("select embedding_state, embedding_model, count(*) from memcube.memories group by 1, 2")
    assert [tuple(row) for row in states] == [("ready", NEW, total)]
    assert await psql.fetchval("select count(*) from memcube.work_queue") == 0
    await told(stack, say, "status")
