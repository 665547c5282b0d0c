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
from memcube_cli.isolation.pair import Pair
from memcube_cli.isolation.rows import rows_of
from memcube_common.db import Statements
from memcube_common.db.pool import Row
from memcube_common.search.domain import Filters
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
    ("memcube_common.memories", "update_memory"),
    ("memcube_common.insights", "read_receipts"),
    ("memcube_common.search", "walk"),
    ("memcube_common.search", "among"),
    ("memcube_common.search", "by_words"),
    ("memcube_common.search", "read_found"),
    ("memcube_common.search", "read_bare"),
    ("memcube_scheduling", "read_candidates"),
    ("memcube_scheduling", "read_words"),
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
        "update_memory": [project, ids[0], None, "x", None, None, None, None, None, False],
        "read_receipts": [project, ids],
        "walk": ["created_at", True, None, None, None, None, 21, 20_000, *Filters().values()],
        "among": [
            project,
            "ids",
            "created_at",
            True,
            None,
            None,
            None,
            None,
            21,
            2_000,
            *Filters(ids=tuple(ids)).values(),
        ],
        "by_words": [project, "verify", "", [], 1000, 100, 60],
        "read_found": [project, ids, 10, False, *Filters().values()],
        "read_bare": [project, ids, 10, *Filters().values()],
        "read_candidates": [project, ids, "T-1", ["verify"], 50, None, "mia", False],
        "read_words": [ids],
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
        if name == "update_memory":  # what triggers do then is not the question
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


PAGE: Final = 21
LISTINGS: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "created_at": ("created_at", {}, "project_id_created_at_id"),
    "updated_at": ("updated_at", {}, "project_id_updated_at_id"),
    "label": ("label", {}, "project_id_label_id"),
    "label prefix": ("label", {"label_prefix": "verify"}, "project_id_label_id"),
    "archived too": ("created_at", {"lifecycles": ("NEW", "ACTIVE", "ARCHIVED")}, "project_id_created_at_id"),
    "none of the tags": ("created_at", {"tags_none": ("nowhere",)}, "project_id_created_at_id"),
    "only archived": ("created_at", {"lifecycles": ("ARCHIVED",)}, "project_id_created_at_id_idx1"),
    "only archived, touched": ("updated_at", {"lifecycles": ("ARCHIVED",)}, "project_id_updated_at_id_idx1"),
    "only archived, label": ("label", {"lifecycles": ("ARCHIVED", "EXPIRED")}, "project_id_label_id_idx1"),
}


async def rows_read(connection: asyncpg.Connection[Row], name: str, *args: Any) -> tuple[int, set[str]]:
    """How many rows of memories and words a statement of an agent read, and by which indexes."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(
            "set local app.project_id = 'many-3'; set local app.principal = 'mia'; set local app.role = 'AGENT'"
        )
        statement = Statements("memcube_common.search")[name]
        plans = await plans_of(connection, statement, *args, role="memcube_user")
    finally:
        await transaction.rollback()
    ran = [node for plan in plans for node in nodes(plan) if node["Actual Loops"]]
    scans = [node for node in ran if node.get("Relation Name", "").startswith(("memories_p", "memory_text_p"))]
    read = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))
        * node["Actual Loops"]
        for node in scans
    )
    assert not [node for node in scans if node["Node Type"] == "Seq Scan"]
    return int(read), {node["Index Name"].partition("_p")[2].partition("_")[2] for node in ran if "Index Name" in node}


@pytest.mark.parametrize("down", [True, False], ids=["desc", "asc"])
@pytest.mark.parametrize("what", LISTINGS)
async def test_a_page_reads_about_what_it_shows(connection: asyncpg.Connection[Row], what: str, down: bool) -> None:
    by, asked, index = LISTINGS[what]
    filters = Filters(**asked)
    read, by_indexes = await rows_read(
        connection, "walk", by, down, filters.label_until, None, None, None, PAGE, 20_000, *filters.values()
    )
    assert read <= PAGE + 2
    assert [name for name in by_indexes if index in name], by_indexes


@pytest.mark.parametrize(
    "asked",
    [
        {"metadata": '{"no": "such"}'},
        {"label_contains": "nowhere"},
        {"tags_any": ("nowhere",)},
        {"makers": ("nobody",)},
        {"types": ("PARAMETER",), "priorities": ("COLD",)},
    ],
    ids=["metadata", "label", "tags", "makers", "type"],
)
async def test_what_nothing_fits_is_looked_for_no_longer_than_the_budget(
    connection: asyncpg.Connection[Row], asked: dict[str, Any]
) -> None:
    for by in ("created_at", "updated_at", "label"):
        filters = Filters(**asked)
        read, _ = await rows_read(connection, "walk", by, True, None, None, None, None, PAGE, 200, *filters.values())
        assert read <= 202


@pytest.mark.parametrize(
    ("how", "asked"),
    [
        ("tags", {"tags_all": ("verify",)}),
        ("tags", {"tags_any": ("nowhere", "verify")}),
        ("tags", {"tags_all": ("nowhere",)}),
        ("labels", {"label_prefix": "verify"}),
        ("labels", {"label_is": "nowhere"}),
    ],
)
async def test_few_memories_are_found_by_their_tags_and_labels(
    connection: asyncpg.Connection[Row], how: str, asked: dict[str, Any]
) -> None:
    filters = Filters(**asked)
    place = (None, None, None)
    args = ("many-3", how, "created_at", True, filters.label_until, *place, PAGE, 2_000, *filters.values())
    read, by_indexes = await rows_read(connection, "among", *args)
    nowhere = "nowhere" in (filters.label_is, *(filters.tags_all or ()))
    assert read <= (2 if nowhere else 2 * EACH + PAGE), "each is looked up once, and those of others never"
    if how == "labels" or nowhere:
        assert [name for name in by_indexes if ("label" if how == "labels" else "tsv") in name], by_indexes


@pytest.mark.parametrize("text", ["nowhere", "nowhere unheard", "nowhere verify"])
async def test_words_are_looked_up_and_not_looked_for(connection: asyncpg.Connection[Row], text: str) -> None:
    read, by_indexes = await rows_read(connection, "by_words", "many-3", text, "", [], 10, 5, 5)
    assert read <= (60 if "verify" in text else 2), "no more places of terms than it may, and no memory without them"
    assert [name for name in by_indexes if "tsv" in name], by_indexes


async def test_few_memories_are_ranked_by_looking_at_them_alone(connection: asyncpg.Connection[Row]) -> None:
    ids = [UUID(f"00000000-0000-7000-8000-{300_000 + number:012x}") for number in range(1, 11)]
    read, _ = await rows_read(connection, "widened_among", "many-3", "verify", "", 100, None, 0, 5, ids)
    assert read <= 3 * len(ids), "whatever stands in the others, nothing of it is read"


async def test_filters_are_folded_into_the_plan(connection: asyncpg.Connection[Row]) -> None:
    """The predicate is written into the statement: no call for each row, and nothing of what was not asked."""
    sql = Statements("memcube_common.search")["read_bare"].sql
    filters = Filters(tags_any=("a",))
    async with connection.transaction():
        await connection.execute(
            "set local app.project_id = 'many-3'; set local app.principal = 'mia'; set local app.role = 'AGENT';"
            "set local role memcube_user"
        )
        rows = await connection.fetch(f"explain verbose {sql}", "many-3", [], 10, *filters.values())
    plan = "\n".join(row[0] for row in rows)
    assert "fits(" not in plan
    assert "tags && '{a}'" in plan
    assert not [word for word in ("strpos", "@>", "starts_with", "metadata @") if word in plan]
    assert "One-Time Filter: (current_setting('app.project_id'" in plan, "the policy asks for the project once"
