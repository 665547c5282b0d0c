"""The embedder is down in every way there is: memories are found by words at once, and by meaning when it returns."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

import httpx
import pytest
import pytest_asyncio
from tests.e2e.audit import audit, settled
from tests.e2e.load import Ledger, text_of
from tests.e2e.running_stack import RunningStack, eventually
from tests.faults.conftest import Say

from memcube import MemCubeClient
from memcube_common.ids import derive, new_id
from memcube_common.testing.openai_server import Answer, OpenAIServer, Status

SETTINGS = {"MEMCUBE_BREAKER_FAILURES": "15"}  # every way to fail is met before the endpoint is left alone
MEMORIES = 1_000
PROJECT = "wordy"
DOWN_AT_MOST = 60.0
BY_WORDS = 2.0
DRAINED = 60.0
WAYS_TO_FAIL = (
    Status(429, retry_after="1"),
    Status(500),
    Answer.HANG_UP,
    Answer.CUT_BODY,
    Answer.WRONG_DIMENSIONS,
    Answer.NOT_A_NUMBER,
    Answer.INFINITE,
    Answer.ZERO,
    Answer.TOO_FEW,
    Answer.HTML,
    Answer.GARBAGE,
)


@pytest_asyncio.fixture
async def client(stack: RunningStack) -> AsyncGenerator[MemCubeClient]:
    """A client of the project that the embedder leaves waiting."""
    async with MemCubeClient(stack.gateway, await stack.key_of(PROJECT), PROJECT) as client:
        yield client


@pytest.mark.timeout(200)
async def test_without_an_embedder_memories_are_found_by_words_and_by_meaning_when_it_returns(
    stack: RunningStack, embedder: OpenAIServer, client: MemCubeClient, ledger: Ledger, say: Say
) -> None:
    embedder.script(*WAYS_TO_FAIL)
    embedder.otherwise = Status(503)
    ids = [new_id() for _ in range(MEMORIES)]
    ledger.send(PROJECT, ids)
    for start in range(0, MEMORIES, 100):
        some = ids[start : start + 100]
        receipts = await client.insights.submit_many([{"id": str(id), "insight": text_of(id)} for id in some])
        ledger.ack(PROJECT, [receipt.id for receipt in receipts], "http")
    said_at = time.monotonic()
    wanted = derive(ids[-1], "memory")

    async def found_by_words() -> bool:
        answer = await client.memories.query({"text": str(ids[-1]), "mode": "keyword", "limit": 5})
        return wanted in {memory.id for memory in answer}

    await eventually(found_by_words, within=30, what="the last memory found by its words")
    by_words = time.monotonic() - said_at
    say(f"the last of {MEMORIES} was found by words {by_words:.2f} s after it was acknowledged")

    async def failed_in_every_way() -> bool:
        return len(embedder.asked) > len(WAYS_TO_FAIL)

    await eventually(failed_in_every_way, within=DOWN_AT_MOST, what="the embedder failed in every way")
    states = {(await client.receipts.get(id)).state for id in ids[:: MEMORIES // 20]}
    assert states == {"stored"}
    hybrid = await client.memories.query({"text": f"lantern {ids[-1]}", "limit": 3})
    assert hybrid.degraded
    assert len(hybrid) > 0
    status, waited = await _semantic(stack, client)
    assert status == 503
    say(f"the embedder was asked {len(embedder.asked)} times while down; a semantic query got 503 in {waited:.2f} s")
    embedder.otherwise = Answer.VECTORS
    returned = time.monotonic()
    await settled(stack, [PROJECT], within=DRAINED)
    say(f"{MEMORIES} memories had their vectors {time.monotonic() - returned:.1f} s after the embedder returned")
    found = await audit(stack, ledger)
    say(str(found))
    assert found.mistakes == {}
    answer = await client.memories.query({"text": text_of(ids[0]), "mode": "semantic", "limit": 3})
    assert derive(ids[0], "memory") in {memory.id for memory in answer}
    assert by_words <= BY_WORDS


async def _semantic(stack: RunningStack, client: MemCubeClient) -> tuple[int, float]:
    key = await stack.key_of(client.project)
    began = time.monotonic()
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=10) as http:
        url = f"{stack.gateway}/v1/projects/{client.project}/memories/query"
        answer = await http.post(url, json={"text": "what is in the garden?", "mode": "semantic"})
    assert answer.status_code == 200 or "retry-after" in answer.headers
    return answer.status_code, time.monotonic() - began
