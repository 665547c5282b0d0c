"""What the database says about itself: tables, columns, grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
COMMANDS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")

_TABLES: Final = """
select c.relname as name,
       array(select a.attname::text from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as columns,
       array(select a.attname::text from pg_attribute a
              where a.attrelid = c.oid and a.attgenerated <> '' order by a.attnum) as generated,
       array(select a.attname::text from pg_index i cross join unnest(i.indkey::int2[]) with ordinality as k (attnum, n)
               join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
              where i.indrelid = c.oid and i.indisprimary and k.n <= i.indnkeyatts order by k.n) as key
  from pg_class c
 where c.relnamespace = 'memcube'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
 order by 1
"""
_GRANTS: Final = """
select c.relname as table, r.rolname as role, command,
       array(select a.attname::text from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                and (command = 'DELETE' or has_column_privilege(r.oid, c.oid, a.attnum, command))
              order by a.attnum) as columns
  from pg_class c
 cross join pg_roles r
 cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as command
 where c.relnamespace = 'memcube'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
   and r.rolname like 'memcube\\_%' and not r.rolsuper and not r.rolbypassrls and not r.rolcreaterole
   and case when command = 'DELETE' then has_table_privilege(r.oid, c.oid, command)
            else has_any_column_privilege(r.oid, c.oid, command) end
 order by 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the schema: its columns, those that compute themselves, and its primary key."""

    name: str
    columns: tuple[str, ...]
    generated: frozenset[str]
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """A command a role may give on a table, and the columns it may name in it."""

    table: str
    role: str
    command: str
    columns: tuple[str, ...]


async def read_tables(connection: Connection) -> dict[str, Table]:
    """Every table of the schema memcube that is not a partition."""
    return {
        row["name"]: Table(row["name"], tuple(row["columns"]), frozenset(row["generated"]), tuple(row["key"]))
        for row in await connection.fetch(_TABLES)
    }


async def read_grants(connection: Connection) -> list[Grant]:
    """Everything a role of the house holds on them, the owner's own rights included."""
    return [
        Grant(row["table"], row["role"], row["command"], tuple(row["columns"]))
        for row in await connection.fetch(_GRANTS)
    ]
