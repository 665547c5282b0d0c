"""Policies dropped and weakened, one at a time: each must be found out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import asyncpg

POLICIES: Final = """
select tablename as table, policyname as name, cmd as command, roles::text[] as roles, qual, with_check
  from pg_policies where schemaname = 'memcube' order by 1, 2
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as the catalogue tells it."""

    table: str
    name: str
    command: str
    roles: tuple[str, ...]
    qual: str | None
    with_check: str | None

    @property
    def conditions(self) -> list[str]:
        """Its expressions, those that there are."""
        return [one for one in (self.qual, self.with_check) if one is not None]

    def __str__(self) -> str:
        return f"{self.name} on {self.table}"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one policy or table, and the commands that must behave differently under it."""

    what: str
    sql: str
    table: str
    roles: tuple[str, ...]
    commands: tuple[str, ...]


async def read_policies(connection: asyncpg.Connection[asyncpg.Record]) -> list[Policy]:
    """Every policy of the schema."""
    return [
        Policy(row["table"], row["name"], row["command"], tuple(row["roles"]), row["qual"], row["with_check"])
        for row in await connection.fetch(POLICIES)
    ]


def mutants_of(policy: Policy) -> Iterator[Mutant]:
    """The policy dropped; always true, before, after and both; the project alone; and without each part of it."""
    on = f"{policy.name} on memcube.{policy.table}"

    def mutant(what: str, sql: str) -> Mutant:
        return Mutant(f"{policy}: {what}", sql, policy.table, policy.roles, (policy.command,))

    yield mutant("dropped", f"drop policy {on}")
    seen = {(policy.qual, policy.with_check)}

    def altered(what: str, qual: str | None, with_check: str | None) -> Iterator[Mutant]:
        if (qual, with_check) not in seen:
            seen.add((qual, with_check))
            using = f" using ({qual})" if qual is not None else ""
            check = f" with check ({with_check})" if with_check is not None else ""
            yield mutant(what, f"alter policy {on}{using}{check}")

    if policy.qual is not None:
        yield from altered("using (true)", "true", policy.with_check)
    if policy.with_check is not None:
        yield from altered("with check (true)", policy.qual, "true")
    if policy.qual is not None and policy.with_check is not None:
        yield from altered("using (true) with check (true)", "true", "true")
    parts = dict.fromkeys(part for condition in policy.conditions for part in all_parts(condition))
    for part in parts:
        if is_project(part):
            kept = [part if one is not None and part in one else one for one in (policy.qual, policy.with_check)]
            yield from altered("the project alone", *kept)
    for part in parts:
        fewer = [without(one, part) if one is not None else None for one in (policy.qual, policy.with_check)]
        yield from altered(f"without {part}", *fewer)


def is_project(part: str) -> bool:
    """Whether it is the comparison of a row's project with the transaction's."""
    return part in {
        "(project_id = current_setting('app.project_id'::text, true))",
        "(id = current_setting('app.project_id'::text, true))",
    }


def all_parts(condition: str) -> Iterator[str]:
    """Everything that ANDs and ORs hold together, at every depth."""
    _, parts = split(condition)
    for part in parts:
        yield part
        yield from all_parts(part)


def without(condition: str, part: str) -> str:
    """The condition, with `part` taken out of what ANDs or ORs hold together."""
    word, parts = split(condition)
    if not parts:
        return condition
    kept = [without(one, part) for one in parts if one != part]
    return kept[0] if len(kept) == 1 else f"({f' {word} '.join(kept)})" if kept else condition


def split(condition: str) -> tuple[str, list[str]]:
    """The word that holds a condition of pg_get_expr together, AND or OR, and what it holds; none for an atom."""
    if not (condition.startswith("(") and condition.endswith(")")):
        return "", []
    inside = condition[1:-1]
    depth, quoted, begin = 0, False, 0
    words: set[str] = set()
    parts: list[str] = []
    for place, character in enumerate(inside):
        if character == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth < 0:  # the outer parentheses are not a pair
                return "", []
        elif depth == 0:
            for word in ("AND", "OR"):
                if inside.startswith(f" {word} ", place):
                    words.add(word)
                    parts.append(inside[begin:place])
                    begin = place + len(word) + 2
    if len(words) != 1:
        return "", []
    return words.pop(), [*parts, inside[begin:]]
