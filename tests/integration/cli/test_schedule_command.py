"""`memcube schedule`: what is typed is what is asked; a table, the prompt itself, the reasons, or JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.fakes.scripted_http import Answered, scripted
from tests.integration.sdk.test_schedules import ID, MEMORY, SCHEDULE
from typer.testing import CliRunner, Result

from memcube_cli.main import app

OTHER = "0197f3c0-0000-7000-8000-000000000002"
PARTS = {"tags": 1.0, "relevance": 0.25, "trust": 1.0}
WEIGHED = [
    {"id": ID, "version": 2, "score": 0.5, "parts": PARTS, "tokens": 12, "reason": "chosen"},
    {"id": OTHER, "version": 1, "score": 0.4, "parts": PARTS, "tokens": 9, "reason": "redundant", "redundant_with": ID},
]


async def typed(monkeypatch: pytest.MonkeyPatch, words: str, answer: dict[str, Any]) -> tuple[Result, dict[str, Any]]:
    """How the command ended, and what it asked."""
    async with scripted(Answered(200, answer)) as server:
        monkeypatch.setenv("MEMCUBE_URL", server.url)
        monkeypatch.setenv("MEMCUBE_KEY", "k")
        monkeypatch.setenv("MEMCUBE_PROJECT", "demo")
        result = await asyncio.to_thread(CliRunner().invoke, app, ["schedule", *words.split()])
    assert result.exit_code == 0, result.output
    return result, server.asked[0].json


async def test_what_was_chosen_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "deploy --agent bot-001 --task TASK-123 --tag a --tag b --budget 400 --limit 5 --prefer-hot --insights"
    result, asked = await typed(monkeypatch, words, SCHEDULE)
    assert result.stdout.split("\t") == ["0.50", "12", "chosen", "one", "deploy", "about one\n"]
    assert f"1 of 3 memories, 12 of 400 tokens; schedule {ID}" in result.stderr
    assert asked == {
        "agent_id": "bot-001", "task_id": "TASK-123", "text": "deploy", "need_tags": ["a", "b"], "token_budget": 400,
        "limit": 5, "prefer_hot": True, "include_insights": True,
    }  # fmt: skip


async def test_the_prompt_the_reasons_or_the_answer_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = {**SCHEDULE, "prompt": "<memories>\n  <m/>\n</memories>", "degraded": "no vectors now"}
    result, asked = await typed(monkeypatch, "--format xml", prompt)
    assert result.stdout == "<memories>\n  <m/>\n</memories>\n"
    assert "no vectors now" in result.stderr
    assert asked == {"agent_id": "memcube-cli", "token_budget": 4000, "format": "xml"}

    result, asked = await typed(monkeypatch, "--explain", {**SCHEDULE, "candidates": WEIGHED})
    chosen, left = (line.split("\t") for line in result.stdout.splitlines())
    assert (chosen[:5], chosen[-1]) == (["0.50", "12", "chosen", "0.25", "1.00"], MEMORY["label"])
    assert (left[2], left[-1]) == ("redundant", f"{OTHER} (like: one)")
    assert asked["explain"] is True

    result, _ = await typed(monkeypatch, "--json", SCHEDULE)
    assert json.loads(result.stdout)["memories"][0]["content"] == "about one"
