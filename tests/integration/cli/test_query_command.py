"""`memcube query`: what is typed is what is asked, and all pages are one table."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.fakes.scripted_http import Answered, scripted
from typer.testing import CliRunner

from memcube_cli.main import app


def found(label: str) -> dict[str, object]:
    return {
        "id": "0197f3c0-0000-7000-8000-000000000001", "project_id": "demo", "label": label, "type": "PLAINTEXT",
        "version": 1, "content": f"about {label}", "origin": "x", "priority": "WARM", "lifecycle": "NEW",
        "trust": "trusted", "created_by": "a", "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z", "score": 0.5, "tags": ["deploy"],
    }  # fmt: skip


async def test_a_listing_is_asked_for_and_walked_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"total": 2, "total_is_exact": True}
    pages = [
        Answered(200, {"memories": [found("one")], "mode": "recent", "next_cursor": "on", **counted}),
        Answered(200, {"memories": [found("two")], "mode": "recent", "next_cursor": None}),
    ]  # fmt: skip
    arguments = (
        "query --tag a --any-tag b --no-tag c --type PLAINTEXT --by ada --label-prefix on --order label --reverse"
    )
    more = "--created-after 2026-01-01T00:00:00+0000 --all --count"
    async with scripted(*pages) as server:
        monkeypatch.setenv("MEMCUBE_URL", server.url)
        monkeypatch.setenv("MEMCUBE_KEY", "k")
        monkeypatch.setenv("MEMCUBE_PROJECT", "demo")
        result = await asyncio.to_thread(CliRunner().invoke, app, f"{arguments} {more}".split())

    assert result.exit_code == 0, result.output
    assert "2 in all" in result.stderr
    assert [line.split()[2] for line in result.stdout.splitlines() if "about" in line] == ["one", "two"]
    asked = {
        "tags": ["a"], "tags_any": ["b"], "tags_none": ["c"], "type": ["PLAINTEXT"], "created_by": ["ada"],
        "label": {"prefix": "on"}, "created_after": "2026-01-01T00:00:00+00:00", "order_by": "label", "order": "desc",
        "limit": 200,
    }  # fmt: skip
    assert [one.json for one in server.asked] == [asked | {"count": True}, asked | {"cursor": "on", "count": False}]


async def test_what_was_not_looked_at_is_not_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    answer: dict[str, object] = {"memories": [], "mode": "recent", "next_cursor": "on", "total": 3}
    answer["total_is_exact"] = False
    wanted = [
        "--metadata",
        '{"k": 1}',
        "--trust",
        "trusted",
        "--label",
        "x",
        "--updated-after",
        "2026-01-01T00:00:00+0000",
    ]
    async with scripted(Answered(200, answer)) as server:
        monkeypatch.setenv("MEMCUBE_URL", server.url)
        monkeypatch.setenv("MEMCUBE_KEY", "k")
        monkeypatch.setenv("MEMCUBE_PROJECT", "demo")
        result = await asyncio.to_thread(CliRunner().invoke, app, ["query", "--count", *wanted])
        refused = await asyncio.to_thread(CliRunner().invoke, app, ["query", "--metadata", "[1]"])

    assert "at least 3" in result.stderr
    assert "so far" in result.stderr
    assert server.asked[0].json == {
        "metadata": {"k": 1}, "trust": ["trusted"], "label": {"equals": "x"}, "limit": 10, "count": True,
        "updated_after": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    assert (refused.exit_code, len(server.asked)) == (2, 1)


async def test_a_question_is_asked_as_it_always_was(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"memories": [found("one")], "mode": "keyword", "degraded": "no vectors now", "took_ms": 1.0}
    async with scripted(Answered(200, answer)) as server:
        monkeypatch.setenv("MEMCUBE_URL", server.url)
        monkeypatch.setenv("MEMCUBE_KEY", "k")
        monkeypatch.setenv("MEMCUBE_PROJECT", "demo")
        result = await asyncio.to_thread(CliRunner().invoke, app, ["query", "what broke?", "--limit", "3", "--json"])

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["degraded"] == "no vectors now"
    assert server.asked[0].json == {"text": "what broke?", "limit": 3}
