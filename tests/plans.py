"""How Postgres really ran a statement, the statements inside its functions included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from memcube_common.db import Statement


async def plans_of(
    connection: asyncpg.Connection[Any], statement: Statement, *args: Any, role: str
) -> list[dict[str, Any]]:
    """Run `statement` as `role` in the open transaction of an administrator's connection.

    Returns the plan of everything that ran, what functions ran included, each as it was executed (auto_explain).
    """
    said: list[str] = []

    def hear(_: object, message: asyncpg.PostgresLogMessage) -> None:
        text = str(message.message)
        if text.startswith("duration:"):
            said.append(text)

    try:
        await connection.execute("load 'auto_explain'")
    except asyncpg.PostgresError:
        pytest.skip("this Postgres has no auto_explain")
    await connection.execute(
        "set local auto_explain.log_min_duration = 0; set local auto_explain.log_analyze = on;"
        "set local auto_explain.log_format = json; set local auto_explain.log_nested_statements = on;"
        f"set local client_min_messages = log; set local role {role}"
    )
    connection.add_log_listener(hear)
    try:
        await connection.fetch(statement.sql, *args)
        await connection.fetch("select 1")  # only now the statement itself is over, and said
    finally:
        connection.remove_log_listener(hear)
    return [json.loads(text.partition("plan:")[2])["Plan"] for text in said]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, itself first."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)
