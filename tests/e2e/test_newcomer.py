"""The newcomer's path, with nothing but HTTP: submit, wait, ask by words and by meaning, hear of it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
from tests.e2e.running_stack import RunningStack

from memcube_common.ids import new_id

FACT = "The staging database is rebuilt every Monday at six."


async def test_an_insight_is_accepted_searchable_found_by_words_and_by_meaning_and_announced(
    stack: RunningStack,
) -> None:
    project = f"newcomer-{new_id().hex[-12:]}"
    headers = {"authorization": f"Bearer {await stack.key_of(project)}"}
    base = f"{stack.gateway}/v1/projects/{project}"
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=40) as http:
        greeted = asyncio.Event()
        listening = asyncio.create_task(_announced(http, greeted, "memory.v1.embedded"))
        await asyncio.wait_for(greeted.wait(), 10)
        accepted = await http.post("insights", json={"insight": FACT, "label": "staging", "tags": ["staging"]})
        assert accepted.status_code == 202, accepted.text
        receipt = accepted.json()
        assert receipt["state"] == "accepted"
        settled = (await http.get(f"receipts/{receipt['id']}", params={"wait": "searchable", "timeout": 30})).json()
        assert settled["state"] == "searchable"
        await http.post("insights", json={"insight": "Bo plays the cello in the town orchestra."})

        by_words = await _ask(http, text="monday six", mode="keyword")
        assert [memory["id"] for memory in by_words["memories"]] == [settled["memory_id"]]
        by_meaning = await _ask(http, text="when do we get fresh test data each week?", mode="semantic", limit=1)
        assert [memory["id"] for memory in by_meaning["memories"]] == [settled["memory_id"]]
        by_both = await _ask(http, text="when is staging rebuilt?")
        assert by_both["memories"][0]["content"] == FACT
        assert (by_both["mode"], by_both["degraded"]) == ("hybrid", None)

        events = await asyncio.wait_for(listening, 30)
    assert [event["type"] for event in events] == ["memory.v1.created", "memory.v1.embedded"]
    assert {event["memory_id"] for event in events} == {settled["memory_id"]}
    assert [event["position"] for event in events] == [1, 2]
    assert FACT not in orjson.dumps(events).decode(), "an announcement says that something changed, never what it says"


async def _ask(http: httpx.AsyncClient, **query: object) -> dict[str, Any]:
    answer = await http.post("memories/query", json=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _announced(http: httpx.AsyncClient, greeted: asyncio.Event, last: str) -> list[dict[str, object]]:
    """What the change feed says about memories, up to the first event of the type `last`."""
    heard: list[dict[str, object]] = []
    async with http.stream("GET", "changes") as feed:
        assert feed.headers["content-type"].startswith("text/event-stream")
        type = ""
        async for line in feed.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                type = value
            elif field == "data" and type == "hello":
                greeted.set()
            elif field == "data" and type.startswith("memory."):
                heard.append({"type": type, **orjson.loads(value)})
                if type == last:
                    return heard
    raise AssertionError("the feed ended")
