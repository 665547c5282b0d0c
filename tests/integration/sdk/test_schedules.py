"""Schedules through the client: asked for as typed, walked page by page, and as values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.fakes.scripted_http import Answered, problem, scripted

from memcube import Invalid, MemCubeClient

ID = "0197f3c0-0000-7000-8000-000000000001"
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
MEMORY = {
    "id": ID, "kind": "memory", "version": 2, "label": "one", "type": "PLAINTEXT", "tags": ["deploy"],
    "priority": "WARM", "trust": "trusted", "created_at": "2026-01-01T00:00:00Z", "content": "about one",
    "kv_hint": None, "score": 0.5, "tokens": 12, "reason": "chosen",
}  # fmt: skip
SCHEDULE = {
    "id": ID, "agent_id": "bot-001", "task_id": None, "made_at": "2026-01-01T00:00:00Z", "token_budget": 400,
    "tokens_used": 12, "memories": [MEMORY], "prompt": "about one", "candidates": None, "considered": 3,
    "degraded": None, "cached": False, "took_ms": 1.5, "of_a_newer_server": 1,
}  # fmt: skip


WEIGHED = ("id", "version", "score", "tokens", "reason")


def record(number: int) -> dict[str, Any]:
    return {
        "id": f"0197f3c0-0000-7000-8000-{number:012}", "agent_id": "bot-001", "made_by": "bob",
        "made_at": "2026-01-01T00:00:00Z", "token_budget": 400, "tokens_used": 12, "chosen": [ID], "candidates": None,
    }  # fmt: skip


async def test_a_schedule_is_asked_for_and_comes_typed() -> None:
    async with scripted(Answered(200, SCHEDULE)) as server, MemCubeClient(server.url, "k") as client:
        made = await client.memories.schedule({"agent_id": "bot-001", "token_budget": 9}, token_budget=400, text="x")
    assert (made.prompt, made.memories[0].content, made.memories[0].reason) == ("about one", "about one", "chosen")
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/projects/demo/memories/schedule")
    assert asked.json == {"agent_id": "bot-001", "token_budget": 400, "text": "x"}
    # The key would cost a transaction for each; what comes twice is recorded twice and harms nobody.
    assert "idempotency-key" not in {name.lower() for name in asked.headers}


async def test_records_are_listed_walked_read_and_replayed() -> None:
    pages = [
        Answered(200, {"schedules": [record(2)], "next_cursor": "on"}),
        Answered(200, {"schedules": [record(1)], "next_cursor": None}),
    ]
    rest = [
        Answered(200, {"schedules": [record(2)], "next_cursor": None}),
        Answered(200, {**record(1), "candidates": [{name: MEMORY[name] for name in WEIGHED}]}),
        Answered(200, {"schedule": SCHEDULE, "same": True, "missing": []}),
    ]  # fmt: skip
    async with scripted(*pages, *rest) as server, MemCubeClient(server.url, "k") as client:
        walked = [one.id.int & 15 async for one in client.schedules.all(agent_id="bot-001")]
        page = await client.schedules.list(task_id="TASK-123", before=MOMENT, after="2025-01-01T00:00:00Z", limit=1)
        read = await client.schedules.get(ID)
        again = await client.schedules.replay(ID)
    assert (walked, len(page.schedules), again.same, again.schedule.prompt) == ([2, 1], 1, True, "about one")
    assert read.candidates is not None
    assert read.candidates[0].reason == "chosen"
    assert [one.path.removeprefix("/v1/projects/demo/") for one in server.asked[2:]] == [
        "schedules", f"schedules/{ID}", f"schedules/{ID}/replay"
    ]  # fmt: skip
    assert server.asked[1].params == {"agent_id": ["bot-001"], "limit": ["50"], "cursor": ["on"]}
    assert server.asked[2].params == {
        "task_id": ["TASK-123"], "before": ["2026-01-01T00:00:00+00:00"], "after": ["2025-01-01T00:00:00Z"],
        "limit": ["1"],
    }  # fmt: skip


async def test_what_is_refused_is_an_error_with_its_field() -> None:
    refused = problem(422, "invalid", errors=[{"field": "agent_id", "message": "Field required"}])
    async with scripted(refused) as server, MemCubeClient(server.url, "k") as client:
        with pytest.raises(Invalid) as caught:
            await client.memories.schedule(token_budget=400)
    assert caught.value.errors[0].field == "agent_id"
