"""The shipped attack on a running stack: it finds nothing, leaves nothing, and finds what an administrator breaks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest
from tests.e2e.running_stack import RunningStack, eventually

from memcube_common.db.pool import Row

ROADS = {"database", "http", "changes", "nats"}
OURS = r"verify-[abc]-[0-9a-f]{10}"


@contextlib.asynccontextmanager
async def administrator(stack: RunningStack) -> AsyncGenerator[asyncpg.Connection[Row]]:
    connection = await asyncpg.connect(stack.postgres, timeout=10)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@contextlib.asynccontextmanager
async def weakened(connection: asyncpg.Connection[Row], policy: str, table: str, using: str) -> AsyncGenerator[None]:
    """A policy that says `using`, committed, as long as it lasts."""
    before = await connection.fetchval(
        "select qual from pg_policies where schemaname = 'memcube' and policyname = $1 and tablename = $2",
        policy,
        table,
    )
    await connection.execute(f"alter policy {policy} on memcube.{table} using ({using})")
    try:
        yield
    finally:
        await connection.execute(f"alter policy {policy} on memcube.{table} using ({before})")


async def left_of_it(stack: RunningStack, connection: asyncpg.Connection[Row]) -> list[str]:
    """Whatever still remembers a tenant of the attack, in Postgres and on the bus."""
    left = [
        f"{row['relname']}.{row['attname']}"
        for row in await connection.fetch(
            """select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
                where c.relnamespace = 'memcube'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                  and (a.attname in ('project_id', 'email') or c.relname = 'projects' and a.attname = 'id')"""
        )
        if await connection.fetchval(
            f"select exists (select from memcube.{row['relname']} where {row['attname']} ~ $1)",
            rf"@{OURS}\.invalid$" if row["attname"] == "email" else f"^{OURS}$",
        )
    ]
    client = await nats.connect(stack.nats)
    try:
        jetstream = client.jetstream()
        for stream in ("INSIGHTS", "CHANGES"):
            info = await jetstream.stream_info(stream, subjects_filter="memcube.>")
            left += [subject for subject in info.state.subjects or {} if subject.startswith("memcube.verify-")]
        left += [info.name for info in await jetstream.consumers_info("CHANGES") if "verify-" in info.name]
    finally:
        await client.close()
    return left


async def verify(stack: RunningStack, *words: str) -> tuple[int, dict[str, Any]]:
    said = await stack.memcube("verify", "isolation", "--json", *words, within=220)
    assert said.code in {0, 1}, said
    return said.code, json.loads(said.out)


@pytest.mark.timeout(300)
async def test_a_running_stack_keeps_tenants_apart(stack: RunningStack) -> None:
    code, report = await verify(stack)
    assert report["leaks"] == []
    assert report["broken_controls"] == []
    assert report["could_not_try"] == []
    assert code == 0
    assert set(report["attempts"]) == ROADS
    assert report["total"] >= 2_000
    assert report["attempts"]["http"] >= 1_000
    async with administrator(stack) as connection:
        assert await left_of_it(stack, connection) == []


async def test_a_weakened_policy_is_named(stack: RunningStack) -> None:
    """On the database's road; `make faults` takes the HTTP road too."""
    seen = {"database": {"select memories"}, "http": {"get_memory", "query_memories"}}
    roads = list(seen) if os.environ.get("MEMCUBE_LONG") else ["database"]
    async with administrator(stack) as connection:
        only_the_project = "project_id = current_setting('app.project_id', true)"
        async with weakened(connection, "reader_select", "memories", only_the_project):
            code, report = await verify(stack, "--roads", ",".join(roads))
        assert code == 1
        named = {leak["operation"] for leak in report["leaks"]}
        assert all(seen[road] <= named for road in roads)
        code, report = await verify(stack, "--roads", "database")
        assert (code, report["leaks"], report["broken_controls"]) == (0, [], [])


async def test_where_nothing_runs_it_could_not_run(tmp_path: Path) -> None:
    said = await RunningStack(tmp_path / "nothing").memcube("verify", "isolation")
    assert said.code == 2, said


async def test_an_interrupted_attack_removes_what_it_made(stack: RunningStack) -> None:
    async with administrator(stack) as connection:
        process = await stack.begin("verify", "isolation", "--roads", "http")
        try:

            async def made() -> bool:
                found = await connection.fetchval(
                    "select count(*) from memcube.memories where project_id ~ $1", f"^{OURS}$"
                )
                return bool(found)

            await eventually(made, within=60, what="two tenants with memories")
            process.send_signal(signal.SIGINT)
            await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 130
        assert await left_of_it(stack, connection) == []
