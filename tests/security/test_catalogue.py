"""The catalogue, read for what must never be in it: tables without walls, policies without reason, roles too able."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import asyncpg
import pytest_asyncio
from tests.rooms import admin
from tests.security.mutants import read_policies

from memcube_cli.isolation.catalogue import read_grants
from memcube_cli.isolation.functions import SILENT
from memcube_common.db.pool import Row
from memcube_common.testing.servers import HouseDatabase

ALWAYS_TRUE: Final = {
    ("memory_text", "search_select"): "any condition would take `@@` its index; its role owns three functions, which"
    " name the project of the transaction, and nobody signs in as it",
}
NO_SETTING: Final = {
    ("sessions", "doorkeeper_forget"): "by age alone: what is over for a day is forgotten for everybody",
    ("sessions", "doorkeeper_forget_seen"): "to delete is to have seen",
    ("refresh_tokens", "doorkeeper_forget"): "by age alone",
    ("refresh_tokens", "doorkeeper_forget_seen"): "to delete is to have seen",
    ("schema_migrations", "owner_select"): "the ledger of migrations is its owner's",
    ("schema_migrations", "owner_insert"): "the ledger of migrations is its owner's",
}
OF_NO_PROJECT: Final = {
    "accounts": "a person, in any number of projects",
    "embedding_migrations": "models are the house's",
    "embedding_models": "models are the house's",
    "projects": "its id is the project",
    "refresh_tokens": "an account's",
    "relay_cursor": "the relay's place in the outbox of all projects",
    "schema_migrations": "the house's",
    "sessions": "an account's",
}
KEYS_WITHOUT_PROJECT: Final = {
    "changes_pkey": "the number in the outbox, from one sequence for all",
    "api_keys_hash_key": "a key is found by its hash before its project is known; 256 random bits tell nothing",
    "invitations_hash_key": "an invitation is found by its hash before its project is known",
}
MAY_BECOME: Final = {
    "memcube_login_gateway": {"memcube_user", "memcube_anon", "memcube_doorkeeper", "memcube_worker"},
    "memcube_login_ingestion": {"memcube_worker", "memcube_relay"},
    "memcube_login_embedding": {"memcube_worker"},
    "memcube_login_scheduling": {"memcube_user", "memcube_worker"},
    "memcube_login_marketplace": {"memcube_user", "memcube_worker"},
    "memcube_login_lifecycle": {"memcube_worker", "memcube_builder"},
    "memcube_owner": {"memcube_search", "memcube_dispatch", "memcube_feed", "memcube_governor", "memcube_quota"}
    | {"memcube_builder"},
}
NARROW: Final = MAY_BECOME["memcube_owner"] - {"memcube_builder"}
OWNED_BY_OWNER: Final = {"maintain_partitions": "a partition is made by the owner of its table"}
TABLES: Final = (
    "c.relnamespace in ('memcube'::regnamespace, 'memcube_vectors'::regnamespace) and c.relkind in ('r', 'p')"
)
ROLES: Final = "r.rolname like 'memcube\\_%' and r.rolname not in ('memcube_admin')"


@pytest_asyncio.fixture(scope="module")
async def catalogue(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[Row]]:
    """An administrator's connection."""
    async with admin(database) as connection:
        yield connection


async def names(catalogue: asyncpg.Connection[Row], sql: str) -> set[str]:
    return {str(row[0]) for row in await catalogue.fetch(sql)}


async def test_every_table_and_partition_has_its_policies_forced(catalogue: asyncpg.Connection[Row]) -> None:
    sql = f"select c.relname from pg_class c where {TABLES} and not (c.relrowsecurity and c.relforcerowsecurity)"
    assert await names(catalogue, sql) == set()


async def test_a_partition_made_tomorrow_is_walled_too(catalogue: asyncpg.Connection[Row]) -> None:
    made = await catalogue.fetchval("select memcube.maintain_partitions(9, 0)")
    assert made > 0
    await test_every_table_and_partition_has_its_policies_forced(catalogue)


async def test_a_partition_is_reached_by_nobody_but_through_its_table(catalogue: asyncpg.Connection[Row]) -> None:
    reachable = await names(
        catalogue,
        f"""select c.relname || ' by ' || r.rolname from pg_class c cross join pg_roles r
             where {TABLES} and c.relispartition and {ROLES} and r.rolname <> 'memcube_owner'
               and has_table_privilege(r.oid, c.oid, 'select, insert, update, delete')""",
    )
    assert reachable == set()


async def test_whatever_is_granted_is_governed_by_a_policy_of_its_own(catalogue: asyncpg.Connection[Row]) -> None:
    governed = {(p.table, role, p.command) for p in await read_policies(catalogue) for role in p.roles}
    granted = {(g.table, g.role, g.command) for g in await read_grants(catalogue) if g.role != "memcube_owner"}
    assert len(granted) > 80
    assert granted - governed == set(), "granted, and no policy says which rows"
    unused = {one for one in governed - granted if one[1] != "memcube_owner"}
    assert unused == set(), "a policy for what nobody may do"


async def test_a_policy_is_for_one_command_and_never_always_true(catalogue: asyncpg.Connection[Row]) -> None:
    for policy in await read_policies(catalogue):
        assert policy.command != "ALL", f"{policy} is for all commands"
        assert "public" not in policy.roles, f"{policy} is for everybody"
        needed = {"SELECT": 1, "INSERT": 1, "UPDATE": 2, "DELETE": 1}[policy.command]
        assert len(policy.conditions) == needed, f"{policy} does not say everything"
        for condition in policy.conditions:
            always = condition.strip("()").lower() in {"true", "1 = 1"}
            assert always == ((policy.table, policy.name) in ALWAYS_TRUE), f"{policy} is always true"


async def test_every_policy_asks_who_acts(catalogue: asyncpg.Connection[Row]) -> None:
    without = {
        (policy.table, policy.name)
        for policy in await read_policies(catalogue)
        for condition in policy.conditions
        if "current_setting('app." not in condition
    }
    assert without == set(NO_SETTING) | set(ALWAYS_TRUE)


async def test_no_policy_looks_anything_up(catalogue: asyncpg.Connection[Row]) -> None:
    for policy in await read_policies(catalogue):
        for condition in policy.conditions:
            assert "select" not in condition.lower(), f"{policy} has a sub-select"
    # Functions that came with Postgres are pinned and have no entry here.
    depends = await names(
        catalogue,
        """select p.polname || ' on ' || p.polrelid::regclass from pg_depend d join pg_policy p on p.oid = d.objid
            where d.classid = 'pg_policy'::regclass and d.refclassid = 'pg_proc'::regclass""",
    )
    assert depends == set(), "a policy calls a function of our own"


async def test_keys_of_tenant_tables_contain_the_project(catalogue: asyncpg.Connection[Row]) -> None:
    rows = await catalogue.fetch(
        f"""select ci.relname as index, i.indisprimary as is_primary, c.relname as table,
                   array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k (n, place)
                           join pg_attribute a on a.attrelid = c.oid and a.attnum = k.n
                          where k.place <= i.indnkeyatts order by k.place) as columns
              from pg_index i join pg_class c on c.oid = i.indrelid join pg_class ci on ci.oid = i.indexrelid
             where {TABLES} and not c.relispartition and i.indisunique"""
    )
    tenant = {row["table"] for row in rows} - set(OF_NO_PROJECT)
    assert tenant == await names(
        catalogue,
        f"""select c.relname from pg_class c where {TABLES} and not c.relispartition and exists (
              select from pg_attribute a
               where a.attrelid = c.oid and a.attname = 'project_id' and not a.attisdropped)""",
    )
    for row in rows:
        if row["table"] in tenant and row["index"] not in KEYS_WITHOUT_PROJECT:
            assert row["columns"][0] == "project_id", f"{row['index']} does not begin with the project"


async def test_references_between_tenant_tables_carry_the_project(catalogue: asyncpg.Connection[Row]) -> None:
    without = await names(
        catalogue,
        """select o.conname from pg_constraint o
            where o.contype = 'f' and o.connamespace = 'memcube'::regnamespace
              and exists (select from pg_attribute a where a.attrelid = o.conrelid and a.attname = 'project_id')
              and o.confrelid <> 'memcube.accounts'::regclass
              and not exists (
                select from pg_attribute a
                 where a.attrelid = o.conrelid and a.attname = 'project_id' and a.attnum = any (o.conkey))""",
    )
    assert without == set()


async def test_no_role_of_the_house_is_above_the_policies(catalogue: asyncpg.Connection[Row]) -> None:
    above = await names(
        catalogue,
        f"""select r.rolname from pg_roles r
             where {ROLES} and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication
                                or r.rolinherit)""",
    )
    assert above == set()
    owned = await names(
        catalogue,
        """select c.relname from pg_class c join pg_roles r on r.oid = c.relowner
            where c.relnamespace = 'memcube'::regnamespace and c.relkind in ('r', 'p', 'S', 'v', 'm')
              and r.rolname <> 'memcube_owner'""",
    )
    assert owned == set()
    sign_in = await names(catalogue, f"select r.rolname from pg_roles r where {ROLES} and r.rolcanlogin")
    assert sign_in == set(MAY_BECOME)


async def test_a_role_may_become_what_its_room_needs_and_nothing_else(catalogue: asyncpg.Connection[Row]) -> None:
    rows = await catalogue.fetch(
        """select m.rolname as member, g.rolname as role, a.admin_option, a.inherit_option
             from pg_auth_members a join pg_roles m on m.oid = a.member join pg_roles g on g.oid = a.roleid
            where m.rolname like 'memcube\\_%' and m.rolname <> 'memcube_admin'"""
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["member"], set()).add(row["role"])
        assert not row["admin_option"], f"{row['member']} may hand {row['role']} on"
        inherits = row["inherit_option"]
        assert inherits == ((row["member"], row["role"]) == ("memcube_owner", "memcube_builder")), (
            f"{row['member']} is {row['role']} without saying so"
        )
    assert found == MAY_BECOME


async def test_who_signs_in_holds_nothing_itself(catalogue: asyncpg.Connection[Row]) -> None:
    held = {(g.role, g.table) for g in await read_grants(catalogue) if g.role.startswith("memcube_login_")}
    assert held == set()
    everybody = await names(
        catalogue,
        f"""select c.relname from pg_class c where {TABLES}
             and (has_table_privilege('public', c.oid, 'select, insert, update, delete, truncate')
                  or has_any_column_privilege('public', c.oid, 'select, insert, update'))""",
    )
    assert everybody == set()
    emptied = await names(
        catalogue,
        f"""select c.relname from pg_class c cross join pg_roles r
             where {TABLES} and {ROLES} and r.rolname <> 'memcube_owner'
               and has_table_privilege(r.oid, c.oid, 'truncate, references, trigger')""",
    )
    assert emptied == set(), "TRUNCATE, REFERENCES and TRIGGER ask no policy"


async def test_functions_are_called_by_who_was_told(catalogue: asyncpg.Connection[Row]) -> None:
    rows = await catalogue.fetch(
        """select p.proname as name, p.prosecdef as definer, r.rolname as owner,
                  coalesce(p.proconfig, '{}') @> array['search_path=""'] or p.prosqlbody is not null as blind,
                  has_function_privilege('public', p.oid, 'execute') as public
             from pg_proc p join pg_roles r on r.oid = p.proowner
            where p.pronamespace = 'memcube'::regnamespace"""
    )
    assert len(rows) > 20
    for row in rows:
        assert row["blind"], f"{row['name']} has a search_path"
        assert not row["public"], f"everybody may call {row['name']}"
        if row["definer"] and row["name"] not in OWNED_BY_OWNER:
            assert row["owner"] in NARROW, f"{row['name']} runs as {row['owner']}"
    assert set(SILENT) >= set(OWNED_BY_OWNER)


async def test_the_builder_owns_partitions_of_vectors_and_may_do_nothing_else(
    catalogue: asyncpg.Connection[Row],
) -> None:
    owned = await names(
        catalogue,
        "select relname from pg_class where relowner = 'memcube_builder'::regrole and relkind not in ('i', 't')",
    )
    assert owned == {f"memory_vectors_p{number}" for number in range(16)}
    assert not await catalogue.fetchval("select has_schema_privilege('memcube_builder', 'memcube', 'usage, create')")
    others = await names(
        catalogue,
        f"""select r.rolname from pg_roles r where {ROLES} and r.rolname not in ('memcube_owner', 'memcube_builder')
             and has_schema_privilege(r.oid, 'memcube_vectors', 'usage, create')""",
    )
    assert others == set()
    held = await names(catalogue, "select relname from pg_class where relowner = 'memcube_builder'::regrole"
                                  " and has_table_privilege('memcube_builder', oid, 'select, insert, update, delete')"
                                  " and relkind in ('r', 'p')")  # fmt: skip
    assert held == set()


async def test_views_look_with_the_eyes_of_who_asks(catalogue: asyncpg.Connection[Row]) -> None:
    blind = await names(
        catalogue,
        """select c.relname from pg_class c
            where c.relnamespace = 'memcube'::regnamespace
              and (c.relkind = 'm' or c.relkind = 'v'
                   and not coalesce(c.reloptions, '{}') && array['security_invoker=true', 'security_invoker=on'])""",
    )
    assert blind == set()


async def test_no_role_makes_temporary_tables(template: HouseDatabase) -> None:
    """A temporary table could carry a trigger of the house, which would then act on rows that are nobody's."""
    async with admin(template) as connection:
        able = await connection.fetch(
            f"""select r.rolname from pg_roles r
                 where {ROLES} and has_database_privilege(r.oid, current_database(), 'TEMPORARY, CREATE')"""
        )
    assert [row["rolname"] for row in able] == []


async def test_nobody_calls_a_trigger_function(catalogue: asyncpg.Connection[Row]) -> None:
    callers = await catalogue.fetch(
        f"""select p.proname, r.rolname from pg_proc p cross join pg_roles r
             where p.pronamespace = 'memcube'::regnamespace and p.prorettype = 'trigger'::regtype and {ROLES}
               and p.proowner <> r.oid and not pg_has_role(r.oid, p.proowner, 'MEMBER')
               and has_function_privilege(r.oid, p.oid, 'EXECUTE')"""
    )
    assert [tuple(row) for row in callers] == []
