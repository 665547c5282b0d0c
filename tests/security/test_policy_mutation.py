"""Every policy dropped, opened and weakened in turn: the shipped attack has to find each of them out."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator
from typing import Final

import asyncpg
import pytest
import pytest_asyncio
from tests.rooms import admin
from tests.security.mutants import Mutant, Policy, mutants_of, read_policies, split, without

from memcube_cli.isolation.database import DatabaseRoad
from memcube_cli.isolation.report import Report
from memcube_common.db.pool import Row
from memcube_common.testing.servers import HouseDatabase

EQUIVALENT: Final = {
    r"owner_\w+ on schema_migrations: (using|with check) \(true\)": "its one role is the one it asks for",
    r"without \(current_setting\('app\.\w+'::text, true\) IS NULL\)": (
        "a setting that was ever set in a session is never null again, it is empty"
    ),
}
"""Changes that change nothing, by a pattern of what was changed, and why."""

OF_THE_PROJECT: Final = re.compile(r"\b[tx]\.project_id = project and")


@pytest_asyncio.fixture(scope="module")
async def connection(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[Row]]:
    """An administrator's connection to a copy of the provisioned template, which autovacuum leaves alone: it would wait
    for what is altered here, holding what is altered next.
    """
    async with admin(database) as connection:
        await connection.execute("""
            do $$ declare t regclass; begin
              for t in select oid from pg_class
                        where relkind = 'r' and relnamespace::regnamespace::text ~ '^memcube' loop
                execute format('alter table %s set (autovacuum_enabled = false)', t);
              end loop;
            end $$""")
        yield connection


async def test_every_weakened_policy_is_found(
    connection: asyncpg.Connection[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    policies = await read_policies(connection)
    mutants = [mutant for policy in policies for mutant in mutants_of(policy)]
    mutants = [one for one in mutants if not any(re.search(pattern, one.what) for pattern in EQUIVALENT)]
    same = {f"{policy}: with check (true)" for policy in policies if is_about_the_actor_alone(policy)}
    mutants = [one for one in mutants if one.what not in same]
    survivors = await survivors_of(connection, mutants)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(mutants)} policies dropped or weakened, {len(mutants) - len(survivors)} found\n")
    assert survivors == []
    assert len(mutants) >= 400


async def test_every_table_without_its_walls_is_found(
    connection: asyncpg.Connection[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    tables = await connection.fetch("""
        select c.relname from pg_class c
         where c.relnamespace = 'memcube'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition""")
    mutants = [
        Mutant(f"{row['relname']}: {change}", f"alter table memcube.{row['relname']} {change}", row["relname"], (), ())
        for row in tables
        for change in ("no force row level security", "disable row level security")
    ]
    survivors = await survivors_of(connection, mutants)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(mutants)} tables opened, {len(mutants) - len(survivors)} found\n")
    assert survivors == []


def is_about_the_actor_alone(policy: Policy) -> bool:
    """Whether it asks the same before and after of nothing but a setting: what was true before is true after."""
    setting = r"\(current_setting\('app\.\w+'::text, true\) = "
    value = r"(?:'[\w:]+'::text|ANY \((?:'[^']*'::text\[\]|ARRAY\[[^()]*\])\))\)"
    return (
        policy.qual is not None
        and policy.qual == policy.with_check
        and re.fullmatch(setting + value, policy.qual) is not None
    )


async def test_a_running_house_finds_every_policy_that_is_gone_or_open(connection: asyncpg.Connection[Row]) -> None:
    """Beside others' rows the command tries less: nothing that would touch them. This much it finds all the same."""
    ways = re.compile(r": (dropped|using \(true\)|using \(true\) with check \(true\)|the project alone)$")
    mutants = [mutant for policy in await read_policies(connection) for mutant in mutants_of(policy)]
    mutants = [one for one in mutants if ways.search(one.what)]
    mutants = [one for one in mutants if not any(re.search(pattern, one.what) for pattern in EQUIVALENT)]
    assert len(mutants) >= 250
    assert await survivors_of(connection, mutants, alone=False) == []


async def survivors_of(connection: asyncpg.Connection[Row], mutants: list[Mutant], *, alone: bool = True) -> list[str]:
    """The changes under which the attack reports neither a leak nor a broken control."""
    untouched = Report()
    survivors: list[str] = []
    async with DatabaseRoad.open(connection, untouched, alone=alone) as road:
        for table in {mutant.table for mutant in mutants}:
            await road.attack(tables={table})
        assert untouched.findings == []
        assert untouched.untried == []
        for mutant in mutants:
            road.report = Report()
            async with road.altered(mutant.sql):
                await road.attack(
                    tables={mutant.table},
                    roles=mutant.roles or None,
                    commands=mutant.commands or None,
                    until_found=True,
                )
            if not road.report.findings:
                survivors.append(mutant.what)
    return survivors


def test_a_condition_is_taken_apart_where_its_words_are() -> None:
    condition = "((a = 'x AND y'::text) AND ((b = ANY (c)) OR (NOT (d = 1))))"
    assert split(condition) == ("AND", ["(a = 'x AND y'::text)", "((b = ANY (c)) OR (NOT (d = 1)))"])
    assert without(condition, "(b = ANY (c))") == "((a = 'x AND y'::text) AND (NOT (d = 1)))"
    assert split("(a = ANY (ARRAY['OR'::text]))") == ("", [])


async def test_a_function_that_forgets_the_project_is_found(connection: asyncpg.Connection[Row]) -> None:
    """Words are searched past a policy that says nothing, so the functions that do it are attacked one by one."""
    for name in ("word_candidates", "tag_candidates"):
        source = await connection.fetchval(
            "select pg_get_functiondef(p.oid) from pg_proc p"
            " where p.pronamespace = 'memcube'::regnamespace and p.proname = $1",
            name,
        )
        assert OF_THE_PROJECT.search(source)
        report = Report()
        async with DatabaseRoad.open(connection, report, alone=True) as road:
            await road.call()
            assert report.findings == []
            async with road.altered(OF_THE_PROJECT.sub("", source)):
                await road.call()
        assert [one for one in report.findings if one.kind == "leak" and one.operation == f"call {name}"]
