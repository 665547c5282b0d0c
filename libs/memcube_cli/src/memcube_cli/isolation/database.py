"""The road through the database: every table, every role that holds a grant on it, every command, against the rules.

All of it happens in one transaction that is rolled back, with triggers and foreign keys asleep: what is seen is what
policies and grants alone decide. Rows are compared with `rules`: more is a leak, less is a broken control.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import asyncpg

from memcube_cli.isolation.actors import UPDATES, actors_of, moves_of
from memcube_cli.isolation.catalogue import Connection, Grant, Table, read_grants, read_tables
from memcube_cli.isolation.functions import SILENT, calls_of
from memcube_cli.isolation.pair import Pair
from memcube_cli.isolation.report import Report
from memcube_cli.isolation.rows import rows_of
from memcube_cli.isolation.rules import Actor, Row, rule_of

ROAD: Final = "database"
_SETTINGS: Final = ("project_id", "principal", "role", "account", "lookup", "source")
_REFUSED: Final = "row-level security"

_DEFINERS: Final = """
select distinct p.proname::text as name from pg_proc p
 where p.pronamespace = 'memcube'::regnamespace and p.prosecdef and p.prorettype <> 'trigger'::regtype order by 1
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one statement: how many rows it touched, or that policies or something else refused it."""

    rows: int = 0
    refused: bool = False
    error: str = ""

    def __str__(self) -> str:
        return "refused by a policy" if self.refused else self.error or f"{self.rows} rows"


@dataclass(slots=True)
class DatabaseRoad:
    """Attempts over one connection of an administrator, inside a transaction that `open` begins and rolls back.

    alone: the database is the test's own; then its tables are emptied first, statements go without a WHERE, and
    roles may update every column, so that a policy is seen by itself and not behind a narrower grant.
    """

    connection: Connection
    pair: Pair
    report: Report
    alone: bool
    tables: dict[str, Table] = field(default_factory=dict[str, Table])
    grants: list[Grant] = field(default_factory=list[Grant])
    rows: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: Connection, report: Report, *, alone: bool = False) -> AsyncGenerator[DatabaseRoad]:
        """Two tenants in a transaction that is rolled back at the end.

        Raises asyncpg.InsufficientPrivilegeError where the connection's role may not put triggers to sleep or not act
        as the roles of the house.
        """
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(
                "set local session_replication_role = replica; set local lock_timeout = '2s'; "
                "set local statement_timeout = '10s'; set local timezone = 'UTC'; set local row_security = on"
            )
            road = cls(connection, Pair.fresh(), report, alone)
            await road._settle()
            yield road
        finally:
            await transaction.rollback()

    async def _settle(self) -> None:
        self.tables = await read_tables(self.connection)
        self.grants = await read_grants(self.connection)
        if self.alone:
            await self._widen()
        given = rows_of(self.pair)
        for table in self.tables.values():
            if self.alone and table.name != "relay_cursor":
                await self.connection.execute(f"delete from memcube.{table.name}")
            if table.name == "relay_cursor":  # its one row is there already
                self.rows[table.name] = [{"only_one": True}]
                continue
            rows = given.get(table.name)
            if rows is None:
                self.report.could_not(ROAD, f"table {table.name}", "rows.py knows no rows for it")
                continue
            for row in rows:
                await self.connection.execute(insertion(table.name, row))
            self.rows[table.name] = rows
        await self.connection.execute("savepoint attempt")

    async def _widen(self) -> None:
        """Let who updates some columns update all: the policy has to hold by itself."""
        for place, grant in enumerate(self.grants):
            if grant.command == "UPDATE" and grant.role != "memcube_owner":
                await self.connection.execute(f"grant update on memcube.{grant.table} to {grant.role}")
                columns = self.tables[grant.table].columns
                self.grants[place] = Grant(grant.table, grant.role, grant.command, columns)

    async def attack(
        self,
        *,
        tables: Collection[str] | None = None,
        roles: Collection[str] | None = None,
        commands: Collection[str] | None = None,
        until_found: bool = False,
    ) -> None:
        """Try every grant, of some tables, roles or commands only where told; `until_found`: stop at a finding."""
        for grant in self.grants:
            if (
                (tables is None or grant.table in tables)
                and (roles is None or grant.role in roles)
                and (commands is None or grant.command in commands)
                and grant.table in self.rows
            ):
                await self._try(grant, until_found=until_found)

    async def _try(self, grant: Grant, *, until_found: bool) -> None:
        rows = self.rows[grant.table]
        for actor in self._actors(grant):
            if until_found and self.report.findings:
                return
            match grant.command:
                case "SELECT":
                    await self._select(grant, actor, rows)
                case "INSERT":
                    await self._insert(grant, actor, rows)
                case "UPDATE":
                    await self._update(grant, actor, rows)
                case _:
                    await self._write(grant, actor, rows, f"delete from memcube.{grant.table}", None)

    def _actors(self, grant: Grant) -> Sequence[Actor]:
        if grant.role == "memcube_owner":
            return [Actor(grant.role), Actor(grant.role, self.pair.a, "olga", "OWNER")]
        return actors_of(self.pair, grant.role)

    @asynccontextmanager
    async def altered(self, sql: str) -> AsyncGenerator[None]:
        """The schema changed by `sql`, as long as it lasts."""
        await self.connection.execute(f"rollback to savepoint attempt; savepoint altered; {sql}; savepoint attempt")
        try:
            yield
        finally:
            await self.connection.execute("rollback to savepoint altered; release savepoint altered")

    # ── commands ───────────────────────────────────────────────────────────────────────────────────

    async def _select(self, grant: Grant, actor: Actor, rows: Sequence[Row]) -> None:
        key = [name for name in self.tables[grant.table].key if name in grant.columns]
        operation = f"select {grant.table}"
        if not key:
            self.report.could_not(ROAD, f"{operation} as {grant.role}", "no column of its key may be selected")
            return
        allows = rule_of(grant.table, grant.role).select
        allowed = Counter(_key(row, key) for row in rows if allows(actor, row))
        columns = ", ".join(f"{name}::text" for name in key)
        among = self._among(rows, key)
        await self._begin(actor)
        try:
            found = await self.connection.fetch(f"select {columns} from memcube.{grant.table} where {among}")
        except asyncpg.PostgresError as error:
            self.report.tried(ROAD)
            self.report.broken(ROAD, operation, str(actor), f"{type(error).__name__}: {error}")
            return
        seen = Counter(tuple(row.values()) for row in found)
        self.report.tried(ROAD)
        if more := seen - allowed:
            self.report.leak(ROAD, operation, str(actor), self._whose(grant.table, key, more))
        if less := allowed - seen:
            self.report.broken(ROAD, operation, str(actor), f"does not see {less.total()} rows it may see")

    async def _insert(self, grant: Grant, actor: Actor, rows: Sequence[Row]) -> None:
        allows = rule_of(grant.table, grant.role).insert
        key = self.tables[grant.table].key
        for row in rows:
            outcome = await self._do(
                actor,
                insertion(grant.table, row, grant.columns),
                first=f"delete from memcube.{grant.table} where {self._among([row], key)}",
            )
            self._judge(f"insert {grant.table}", actor, outcome, 1, refused=not allows(actor, row), rows=[row])

    async def _update(self, grant: Grant, actor: Actor, rows: Sequence[Row]) -> None:
        rule = rule_of(grant.table, grant.role)
        known = UPDATES.get(grant.table)
        every = [*(known or ({name: None} for name in grant.columns[-1:])), *self._moves(grant)]
        possible = [one for one in every if set(one) <= set(grant.columns)]
        if not possible:
            self.report.could_not(ROAD, f"update {grant.table} as {grant.role}", "actors.py knows no update for it")
            return
        setting = f"update memcube.{grant.table} set "
        await self._write(grant, actor, rows, setting + _assigned(possible[0]), possible[0])
        if not self.alone:
            at_home = all(row.get("project_id") == self.pair.a for row in rows if rule.update(actor, row))
            for change in possible[1:] if at_home else ():
                await self._write(grant, actor, rows, setting + _assigned(change), change)
            return
        key = self.tables[grant.table].key
        for row in rows:
            if not rule.update(actor, row):
                continue
            for change in possible:
                outcome = await self._do(
                    actor,
                    setting + _assigned(change),
                    first=f"delete from memcube.{grant.table} where not ({self._among([row], key)})",
                )
                becomes = rule.becomes(actor, {**row, **change})
                self._judge(f"update {grant.table}", actor, outcome, 1, refused=not becomes, rows=[row])

    def _moves(self, grant: Grant) -> list[dict[str, Any]]:
        """Updates that carry rows away; into another project only, where many rows are carried at once."""
        moves = moves_of(self.pair, grant.table, grant.columns)
        return moves if self.alone else [move for move in moves if "project_id" in move]

    async def _write(
        self, grant: Grant, actor: Actor, rows: Sequence[Row], sql: str, change: Mapping[str, Any] | None
    ) -> None:
        """An update or delete of everything in reach; bounded to the two tenants where others may be in reach."""
        rule = rule_of(grant.table, grant.role)
        touched = [row for row in rows if rule.of(grant.command)(actor, row)]
        refused = change is not None and any(not rule.becomes(actor, {**row, **change}) for row in touched)
        if not self.alone and any(row.get("project_id") != self.pair.a for row in touched):
            readable = next(
                (g for g in self.grants if (g.table, g.role, g.command) == (grant.table, grant.role, "SELECT")), None
            )
            key = [name for name in self.tables[grant.table].key if readable is not None and name in readable.columns]
            if not key:
                self.report.could_not(
                    ROAD, f"{grant.command} {grant.table} as {grant.role}", "would reach others' rows"
                )
                return
            sql = f"{sql} where {self._among(rows, key)}"
            touched = [row for row in touched if rule.select(actor, row)]
        outcome = await self._do(actor, sql)
        self._judge(
            f"{grant.command.lower()} {grant.table}", actor, outcome, len(touched), refused=refused, rows=touched
        )

    def _judge(
        self, operation: str, actor: Actor, outcome: Outcome, many: int, *, refused: bool, rows: Sequence[Row]
    ) -> None:
        self.report.tried(ROAD)
        expected = Outcome(refused=True) if refused else Outcome(rows=many)
        if outcome == expected:
            return
        where = "own project" if any(row.get("project_id") == self.pair.a for row in rows) else "elsewhere"
        seen = f"expected {expected}, got {outcome} ({where})"
        if (refused and not outcome.refused and not outcome.error) or outcome.rows > expected.rows:
            self.report.leak(ROAD, operation, str(actor), seen)
        else:
            self.report.broken(ROAD, operation, str(actor), seen)

    def _whose(self, table: str, key: Sequence[str], seen: Counter[tuple[str, ...]]) -> str:
        foreign = sum(
            seen[_key(row, key)] > 0 for row in self.rows[table] if row.get("project_id", row.get("id")) != self.pair.a
        )
        return f"sees {seen.total()} rows it may not see" + (f", {foreign} of another project" if foreign else "")

    # ── functions ──────────────────────────────────────────────────────────────────────────────────

    async def call(self) -> None:
        """Call every definer function with the settings of the first tenant and what belongs to the second."""
        calls = calls_of(self.pair, self.rows)
        await self.connection.execute("rollback to savepoint attempt")
        for row in await self.connection.fetch(_DEFINERS):
            name: str = row["name"]
            if name in SILENT:
                continue
            if name not in calls:
                self.report.could_not(ROAD, f"function {name}", "functions.py knows no call of it")
                continue
            before = await self._fingerprint(self.pair.b)
            answered = False
            for call in calls[name]:
                await self._begin(call.actor)  # which forgets what the last one did
                self.report.tried(ROAD)
                try:
                    found = {str(one[0]) for one in await self.connection.fetch(call.sql)}
                except asyncpg.InsufficientPrivilegeError:  # not one of those who may call it
                    await self.connection.execute("rollback to savepoint attempt")
                    continue
                except asyncpg.PostgresError as error:
                    self.report.broken(ROAD, f"call {name}", str(call.actor), f"{type(error).__name__}: {error}")
                    await self.connection.execute("rollback to savepoint attempt")
                    continue
                answered = True
                if found - call.may:
                    self.report.leak(ROAD, f"call {name}", str(call.actor), f"{len(found - call.may)} answers too many")
                if call.must - found:
                    self.report.broken(ROAD, f"call {name}", str(call.actor), "does not answer with what is its own")
                await self.connection.execute("reset role")  # what was done is still there
                if await self._fingerprint(self.pair.b) != before:
                    self.report.leak(ROAD, f"call {name}", str(call.actor), "changed rows of another project")
            if not answered:
                self.report.broken(ROAD, f"call {name}", "everybody", "nobody who is tried may call it")
            await self.connection.execute("rollback to savepoint attempt")

    async def _fingerprint(self, project: str) -> list[str]:
        tables = [name for name, table in self.tables.items() if "project_id" in table.columns]
        return [
            str(await self.connection.fetchval(
                f"select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from memcube.{name} t "
                "where t.project_id = $1", project
            ))
            for name in tables
        ]  # fmt: skip

    # ── one statement ──────────────────────────────────────────────────────────────────────────────

    async def _begin(self, actor: Actor, first: str = "") -> None:
        await self.connection.execute(f"rollback to savepoint attempt; {first}{';' if first else ''}{_become(actor)}")

    async def _do(self, actor: Actor, sql: str, *, first: str = "") -> Outcome:
        """Run `sql` as `actor`, with `first` run by the administrator before."""
        try:
            said = await self.connection.execute(
                f"rollback to savepoint attempt; {first}{';' if first else ''}{_become(actor)}; {sql}"
            )
        except asyncpg.InsufficientPrivilegeError as error:
            if _REFUSED in str(error):
                return Outcome(refused=True)
            return Outcome(error=f"{type(error).__name__}: {error}")
        except asyncpg.PostgresError as error:
            return Outcome(error=f"{type(error).__name__}: {error}")
        return Outcome(rows=int(said.rpartition(" ")[2]))

    def _among(self, rows: Sequence[Row], key: Sequence[str]) -> str:
        tuples = ", ".join(
            f"({', '.join(_quoted(value) for value in one)})" for one in dict.fromkeys(_key(row, key) for row in rows)
        )
        return f"({', '.join(key)}) in ({tuples})"


def _become(actor: Actor) -> str:
    values = {
        "project_id": actor.project,
        "principal": actor.principal,
        "role": actor.role,
        "account": actor.account,
        "lookup": actor.lookup,
        "source": "",
    }
    return "; ".join(
        [
            f"set local role {actor.database_role}",
            *(f"set local app.{name} = {_quoted(values[name])}" for name in _SETTINGS),
        ]
    )


def insertion(table: str, row: Row, columns: Collection[str] | None = None) -> str:
    """The INSERT of a row, of those columns only that are among `columns`."""
    names = [name for name in row if columns is None or name in columns]
    values = ", ".join(_literal(row[name]) for name in names)
    return f"insert into memcube.{table} ({', '.join(names)}) overriding system value values ({values})"


def _assigned(change: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_literal(value)}" for name, value in change.items())


def _literal(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case dict():
            return _quoted(json.dumps(value))
        case list():
            return _quoted("{" + ",".join(str(one) for one in cast("list[object]", value)) + "}")
        case _:
            return _quoted(str(value))


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _key(row: Row, key: Sequence[str]) -> tuple[str, ...]:
    return tuple("true" if row[name] is True else str(row[name]) for name in key)
