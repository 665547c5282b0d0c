"""What requests ask most is found by an index under the policies too, whatever role asks."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from tests.plans import nodes, plans_of
from tests.rooms import admin

from memcube_cli.isolation.database import insertion
from memcube_cli.isolation.rows import Pair, rows_of
from memcube_common.db import Statements
from memcube_common.db.pool import Row
from memcube_common.testing.servers import HouseDatabase

PROJECTS: Final = 8
EACH: Final = 1_500
COPIED: Final = ("memories", "memory_payloads", "memory_text", "insights", "changes", "feed")
FILL: Final = """
insert into memcube.{table} ({columns})
select {values} from memcube.{table} t
 cross join generate_series(1, {projects}) as p (number) cross join generate_series(1, {each}) as n (number)
 where t.project_id = $1 and t.ctid = (select ctid from memcube.{table} where project_id = $1 limit 1)
   and t.tableoid = (select tableoid from memcube.{table} where project_id = $1 order by ctid limit 1)
"""
ID: Final = "('00000000-0000-7000-8000-' || lpad(to_hex(p.number * 100000 + n.number), 12, '0'))::uuid"
INSTEAD: Final = {
    "project_id": "'many-' || p.number",
    "id": ID,
    "memory_id": ID,
    "seq": "p.number::bigint * 1000000 + n.number",
    "position": "n.number",
}
HOT: Final = (
    ("memcube_common.memories", "read_memories"),
    ("memcube_common.memories", "set_governance"),
    ("memcube_common.insights", "read_receipts"),
    ("memcube_common.search", "newest"),
    ("memcube_common.search", "by_words"),
    ("memcube_common.search", "read_found"),
    ("memcube_gateway", "read_changes"),
    ("memcube_gateway", "feed_ends"),
)


@pytest_asyncio.fixture(scope="module")
async def connection(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[Row]]:
    """An administrator's connection to a database of several projects, each with many rows."""
    pair = Pair.fresh()
    given = rows_of(pair)
    async with admin(database) as connection:
        async with connection.transaction():
            await connection.execute("set local session_replication_role = replica")
            for number in range(1, PROJECTS + 1):
                await connection.execute(insertion("projects", {"id": f"many-{number}"}))
            for table in COPIED:
                await connection.execute(insertion(table, next(r for r in given[table] if r["project_id"] == pair.a)))
                columns = [
                    row[0]
                    for row in await connection.fetch(
                        "select attname from pg_attribute where attrelid = $1::regclass and attnum > 0"
                        " and not attisdropped and attgenerated = ''",
                        f"memcube.{table}",
                    )
                ]
                values = ", ".join(INSTEAD.get(name, f"t.{name}") for name in columns)
                sql = FILL.format(table=table, columns=", ".join(columns), values=values, projects=PROJECTS, each=EACH)
                await connection.execute(sql.replace("$1", f"'{pair.a}'"))
        for table in COPIED:
            await connection.execute(f"analyze memcube.{table}")
        await connection.execute("set search_path to memcube, public; set plan_cache_mode = force_custom_plan")
        yield connection


def arguments(name: str) -> list[Any]:
    ids = [UUID(f"00000000-0000-7000-8000-{300_000 + number:012x}") for number in range(1, 11)]
    project = "many-3"
    given: dict[str, list[Any]] = {
        "read_memories": [project, ids],
        "set_governance": [project, ids[0], "{}"],
        "read_receipts": [project, ids],
        "newest": [project, [], None, 20],
        "by_words": [project, "verify", [], 1000, 100],
        "read_found": [project, ids, None, 10],
        "read_changes": [project, 100, 50],
        "feed_ends": [project],
    }
    return given[name]


@pytest.mark.parametrize("role", ["OWNER", "AGENT", "VIEWER"])
@pytest.mark.parametrize(("package", "name"), HOT)
async def test_it_is_found_by_an_index(connection: asyncpg.Connection[Row], package: str, name: str, role: str) -> None:
    statement = Statements(package)[name]
    transaction = connection.transaction()
    await transaction.start()
    try:
        if name == "set_governance":  # what triggers do then is not the question
            await connection.execute("set local session_replication_role = replica")
        await connection.execute(
            "set local app.project_id = 'many-3'; set local app.principal = 'mia'; set local app.role = '" + role + "'"
        )
        plans = await plans_of(connection, statement, *arguments(name), role="memcube_user")  # what functions ran
        said = await connection.fetchval(f"explain (analyze, format json) {statement.sql}", *arguments(name))
        plans.append(json.loads(said)[0]["Plan"])
    finally:
        await transaction.rollback()
    ran = [node for plan in plans for node in nodes(plan)]
    assert ran
    walked = [
        node["Relation Name"]
        for node in ran
        if node["Node Type"] == "Seq Scan" and node["Actual Loops"] and node.get("Relation Name", "").startswith(COPIED)
    ]
    assert walked == []
