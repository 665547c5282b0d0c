"""The database's own walls, read from its catalogue: every table of a project is closed to the others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from tests.rooms import admin, opened

from memcube_common.db import Database, Statement
from memcube_common.db.pool import Row
from memcube_common.provision import ROOMS
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject

TENANT_TABLES = """
select c.relname from pg_class c
 where c.relnamespace = 'memcube'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
   and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'project_id' and not a.attisdropped)
 order by 1
"""
GENERATED = """
select a.attname, format_type(a.atttypid, a.atttypmod) as type
  from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = ''
   and d.oid is null
 order by a.attnum
"""
VALUES = {
    "uuid": "gen_random_uuid()",
    "bytea": "'\\x00'",
    "jsonb": "'{}'",
    "text[]": "'{}'",
    "tsvector": "''",
    "halfvec": "'[1,2]'",
    "timestamp with time zone": "now()",
    "bigint": "(random() * 1e9)::bigint",
    "integer": "1",
    "smallint": "1",
    "date": "current_date",
    "real": "0",
}
CHECKED = {
    ("api_keys", "role"): "'AGENT'",
    ("insights", "via"): "'nats'",
    ("insights", "priority"): "'WARM'",
    ("insights", "state"): "'stored'",
    ("memories", "type"): "'PLAINTEXT'",
    ("memories", "priority"): "'WARM'",
    ("memory_payloads", "storage_mode"): "'INLINE'",
    ("memory_payloads", "content_zstd"): "null",
    ("work_queue", "kind"): "'insight'",
}
EXPECTED = {
    "api_keys",
    "changes",
    "feed",
    "feed_heads",
    "idempotency_keys",
    "insights",
    "memories",
    "memory_payloads",
    "memory_text",
    "memory_vectors",
    "parked",
    "work_queue",
}


@pytest_asyncio.fixture(scope="module")
async def catalogue(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[Row]]:
    """An administrator's connection."""
    async with admin(database) as connection:
        yield connection


@pytest_asyncio.fixture(scope="module")
async def two_projects(
    database: HouseDatabase, catalogue: asyncpg.Connection[Row]
) -> tuple[HouseProject, HouseProject]:
    """Two projects with a row each in every table of the catalogue that has a project."""
    pair = (await database.project(), await database.project())
    for table in await tenant_tables(catalogue):
        columns = await catalogue.fetch(GENERATED, f"memcube.{table}")
        names = [row["attname"] for row in columns]
        values = [
            "$1" if name == "project_id" else CHECKED.get((table, name)) or VALUES.get(row["type"], "'x'")
            for name, row in zip(names, columns, strict=True)
        ]
        for project in pair:
            await catalogue.execute(
                f"insert into memcube.{table} ({', '.join(names)}) values ({', '.join(values)}) on conflict do nothing",
                project.slug,
            )
    return pair


@pytest_asyncio.fixture(scope="module")
async def pools(database: HouseDatabase) -> AsyncGenerator[dict[str, Database]]:
    """A pool of every room."""
    async with contextlib.AsyncExitStack() as stack:
        yield {room: await opened(database, room, stack, size=1) for room in ROOMS}


async def tenant_tables(connection: asyncpg.Connection[Row]) -> list[str]:
    return [row["relname"] for row in await connection.fetch(TENANT_TABLES)]


async def test_the_catalogue_knows_the_tables_of_a_project(catalogue: asyncpg.Connection[Row]) -> None:
    assert set(await tenant_tables(catalogue)) >= EXPECTED


async def test_every_table_and_partition_of_a_project_has_its_policies_forced(
    catalogue: asyncpg.Connection[Row],
) -> None:
    open_tables = await catalogue.fetch("""
        select c.relname from pg_class c
         where c.relnamespace = 'memcube'::regnamespace and c.relkind in ('r', 'p')
           and (c.relname = 'projects' or exists (
             select from pg_attribute a where a.attrelid = c.oid and a.attname = 'project_id' and not a.attisdropped))
           and not (c.relrowsecurity and c.relforcerowsecurity)""")
    assert [row["relname"] for row in open_tables] == []


async def test_a_partition_is_reached_by_nobody_but_through_its_table(catalogue: asyncpg.Connection[Row]) -> None:
    reachable = await catalogue.fetch("""
        select c.relname, r.rolname from pg_class c cross join pg_roles r
         where c.relnamespace = 'memcube'::regnamespace and c.relispartition and c.relkind = 'r'
           and r.rolname like 'memcube\\_%' and not r.rolsuper and r.rolname not in ('memcube_owner', 'memcube_admin')
           and has_table_privilege(r.oid, c.oid, 'select, insert, update, delete')""")
    assert reachable == []


async def test_no_role_of_a_room_is_above_the_policies(catalogue: asyncpg.Connection[Row]) -> None:
    above = await catalogue.fetch("""
        select rolname from pg_roles where rolname like 'memcube\\_%' and rolname <> 'memcube_admin'
           and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolinherit)""")
    assert [row["rolname"] for row in above] == []
    owned = await catalogue.fetch("""
        select c.relname from pg_class c join pg_roles r on r.oid = c.relowner
         where c.relnamespace = 'memcube'::regnamespace and c.relkind in ('r', 'p', 'S')
           and r.rolname <> 'memcube_owner'""")
    assert owned == []


async def test_every_definer_function_has_an_empty_search_path_and_is_not_public(
    catalogue: asyncpg.Connection[Row],
) -> None:
    faulty = await catalogue.fetch("""
        select p.proname from pg_proc p
         where p.pronamespace = 'memcube'::regnamespace
           and (has_function_privilege('public', p.oid, 'execute')
                or p.prosecdef and not coalesce(p.proconfig, '{}') @> array['search_path=""'])""")
    assert [row["proname"] for row in faulty] == []


async def test_no_policy_lets_a_tenant_see_everything(catalogue: asyncpg.Connection[Row]) -> None:
    always = await catalogue.fetch("""
        select tablename, policyname from pg_policies
         where schemaname = 'memcube' and (qual = 'true' or with_check = 'true')
           and roles && array['memcube_user', 'memcube_anon', 'memcube_worker', 'public']::name[]""")
    assert always == []


@pytest.mark.parametrize("role", ["worker", "user", "anon"])
async def test_a_project_sees_nothing_of_another_in_any_table(
    catalogue: asyncpg.Connection[Row],
    pools: dict[str, Database],
    two_projects: tuple[HouseProject, HouseProject],
    role: str,
) -> None:
    mine, yours = two_projects
    seen: dict[str, set[str]] = {}
    for table in await tenant_tables(catalogue):
        statement = Statement("seen", "Projects in sight.", f"select distinct project_id from {table}")
        for room, db in pools.items():
            principal = {
                "worker": Principal.worker(room, mine.slug),
                "user": Principal.user(mine.slug, "somebody", "OWNER"),
                "anon": Principal.stranger(mine.slug),
            }[role]
            try:
                async with db.transaction(principal) as tx:
                    found = {row["project_id"] for row in await tx.fetch(statement)}
            except asyncpg.InsufficientPrivilegeError:
                continue
            assert found <= {mine.slug}, f"{room} as {role} sees {yours.slug} in {table}"
            seen.setdefault(table, set()).update(found)
    # A test that sees nothing would prove nothing: own rows are there wherever reading is allowed at all.
    assert {table for table, projects in seen.items() if not projects} == set()
    assert len(seen) >= {"worker": 8, "user": 8, "anon": 1}[role]


@pytest.mark.parametrize("change", ["update {table} set project_id = project_id", "delete from {table}"])
async def test_a_worker_changes_nothing_of_another_project(
    catalogue: asyncpg.Connection[Row],
    pools: dict[str, Database],
    two_projects: tuple[HouseProject, HouseProject],
    change: str,
) -> None:
    mine, yours = two_projects

    async def foreign_rows(table: str) -> int:
        return int(await catalogue.fetchval(f"select count(*) from memcube.{table} where project_id = $1", yours.slug))

    for table in sorted(EXPECTED - {"idempotency_keys"}):
        before = await foreign_rows(table)
        assert before > 0
        for room, db in pools.items():
            with contextlib.suppress(asyncpg.InsufficientPrivilegeError, _RollBack):
                async with db.transaction(Principal.worker(room, mine.slug)) as tx:
                    sql = f"{change.format(table=table)} where project_id <> '{mine.slug}' returning project_id"
                    assert await tx.fetch(Statement("change", "Change all.", sql)) == []
                    raise _RollBack
        assert await foreign_rows(table) == before


async def test_a_transaction_without_a_project_sees_no_project(
    pools: dict[str, Database], two_projects: tuple[HouseProject, HouseProject]
) -> None:
    for table in ("insights", "memories", "memory_text", "memory_vectors", "work_queue", "parked"):
        async with pools["ingestion"].transaction(Principal.worker("ingestion")) as tx:
            assert await tx.fetch(Statement("seen", "Seen.", f"select project_id from {table}")) == []


async def test_search_functions_read_the_transactions_own_project_whatever_they_are_given(
    pools: dict[str, Database], two_projects: tuple[HouseProject, HouseProject], catalogue: asyncpg.Connection[Row]
) -> None:
    _, yours = two_projects
    word = f"canary{uuid4().hex}"
    await catalogue.execute(
        "insert into memcube.memory_text values ($1, gen_random_uuid(), array[$2], to_tsvector('english', $2))",
        yours.slug,
        word,
    )
    mine, _ = two_projects
    by_words = Statement("w", "By words.", "select * from text_candidates(to_tsquery('english', $1), '{}', 100, 100)")
    by_tag = Statement("t", "By tag.", "select * from tag_candidates(array[$1], 100)")
    for project, many in ((yours, 1), (mine, 0)):
        async with pools["gateway"].transaction(Principal.user(project.slug, "somebody", "OWNER")) as tx:
            assert len(await tx.fetch(by_words, word)) == many
            assert len(await tx.fetch(by_tag, word)) == many


class _RollBack(Exception):
    """Nothing of this transaction is to be kept."""
