"""The short way of hot operations answers as the long one does, whatever is asked."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from tests.fakes.running_gateway import RunningGateway

from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseProject
from memcube_gateway.routes.quick import OPERATIONS

LONG = "?taken=the-long-way"
"""A query nobody reads: a request that has one goes through the framework."""


async def test_both_ways_answer_alike(gateway: RunningGateway, project: HouseProject, http: httpx.AsyncClient) -> None:
    memory = (await http.post("memories", json={"content": "The cat is out.", "label": "cat"})).json()["id"]
    root = f"{gateway.url}/v1/projects"
    good, bad = project.authorization, {"authorization": "Bearer mc_sec_nobody"}
    asked: list[tuple[str, str, dict[str, str], bytes | None]] = [
        ("GET", f"{project.slug}/memories/{memory}", good, None),
        ("GET", f"{project.slug}/memories/{new_id()}", good, None),
        ("GET", f"{project.slug}/memories/{memory}", bad, None),
        ("GET", f"{project.slug}/memories/{memory}", {}, None),
        ("GET", f"nobody-{project.slug}/memories/{memory}", good, None),
        ("POST", f"{project.slug}/memories", good, b'{"content": "a", "label": "b"}'),
        ("POST", f"{project.slug}/memories", good, b'{"content": ""}'),
        ("POST", f"{project.slug}/memories", good, b"{"),
        ("POST", f"{project.slug}/memories", {**good, "idempotency-key": "two words"}, b'{"content": "a"}'),
        ("POST", f"{project.slug}/memories", {**good, "content-type": "text/plain"}, b"a"),
        ("POST", f"{project.slug}/memories/query", good, b'{"text": "cat", "mode": "keyword"}'),
        ("POST", f"{project.slug}/memories/query", good, b'{"limit": 0}'),
        ("POST", f"{project.slug}/memories/query", bad, b"{}"),
        ("POST", f"{project.slug}/insights", good, b'{"insight": "a"}'),
        ("POST", f"{project.slug}/insights", good, b'{"insights": []}'),
    ]
    async with httpx.AsyncClient() as client:
        for method, path, headers, body in asked:
            given = {"content-type": "application/json", **headers}
            short, long = [
                await client.request(method, f"{root}/{path}{way}", content=body, headers=given) for way in ("", LONG)
            ]
            assert short.status_code == long.status_code, (method, path)
            assert plain(short.json()) == plain(long.json())
            assert {n for n in short.headers if n != "ratelimit"} == {n for n in long.headers if n != "ratelimit"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
async def test_a_short_way_is_one_of_the_declared_routes(operation: Any, gateway: RunningGateway) -> None:
    async with httpx.AsyncClient() as client:
        document = (await client.get(f"{gateway.url}/openapi.json")).json()
    assert operation.method.lower() in document["paths"][operation.path]


def plain(value: Any) -> Any:
    """Without what differs between any two answers: ids, moments, durations."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "id", str(value))
    return re.sub(r"'[0-9]{4}-[0-9]{2}-[0-9]{2}T[^']*'|'took_ms': [0-9.]+", "at", text)
