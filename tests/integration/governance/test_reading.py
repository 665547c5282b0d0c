"""Who may read a memory: the policies say what the rule in plain Python says, for every role and every governance."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.integration.governance.conftest import Ruled

from memcube_common.contracts.fields import Governance
from memcube_common.db import Statement
from memcube_common.governance.domain import Access, Reader, access_from_header, access_header, may_read

ROLES = ("OWNER", "ADMIN", "MEMBER", "AGENT", "VIEWER", "SERVICE")
NAMES = ("ada", "bo", "cy")
SEVERAL: tuple[dict[str, Any], ...] = tuple(
    {"visibility": visibility, "read_roles": roles, "principals": {"allow": allow, "deny": deny}}
    for visibility, roles, allow, deny in itertools.product(
        ("private", "project", "public"),
        ([], ["MEMBER", "AGENT"], ["VIEWER"], ["SERVICE", "OWNER"]),
        ([], ["bo"]),
        ([], ["ada"], ["bo"]),
    )
)


def access(governance: dict[str, Any], owner: str) -> Access:
    """What the database should write beside a change of such a memory."""
    names = governance["principals"]
    return Access(
        None,
        governance["visibility"],
        tuple(governance["read_roles"]),
        (*names["allow"], owner),
        tuple(names["deny"]),
    )


async def test_postgres_and_python_agree_on_every_reader_of_every_governance(ruled: Ruled) -> None:
    memories = {await ruled.write(by="ada", **governance): governance for governance in SEVERAL}
    seen = 0
    for role, name in itertools.product(ROLES, NAMES):
        async with ruled.gateway.transaction(ruled.principal(name, role)) as tx:
            shown = await shown_to(tx, ruled.project)
        expected = {
            id for id, governance in memories.items() if may_read(access(governance, "ada"), Reader(name, role))
        }  # pyright: ignore[reportArgumentType]
        assert shown & set(memories) == expected, (role, name)
        seen += len(expected)
    async with ruled.gateway.transaction(ruled.principal("app", "PUBLIC")) as tx:
        shown = await shown_to(tx, ruled.project)
    assert shown == {id for id, governance in memories.items() if governance["visibility"] == "public"}
    assert seen > 500


async def test_a_change_carries_the_access_that_the_memory_has(ruled: Ruled) -> None:
    for governance in SEVERAL[::5]:
        memory = await ruled.write(by="ada", **governance)
        row = await ruled.psql.fetchrow(
            "select agent, visibility, read_roles, let_in, denied from memcube.changes where memory_id = $1", memory
        )
        assert row is not None
        found = Access(row[0], row[1], tuple(row[2]), tuple(row[3]), tuple(row[4]))
        assert found == access(governance, "ada")
        assert access_from_header(access_header(found)) == found


@pytest.mark.parametrize("header", ["", "{}", "[]", '["a"]', '[null,"project",["MEMBER"],[]]', "nonsense", "null"])
def test_an_unreadable_access_is_refused(header: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the JSON reader's own words differ)
        access_from_header(header)


async def test_what_is_past_its_time_or_quarantined_is_seen_by_the_privileged_only(ruled: Ruled) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    expired = await ruled.write(by="ada", expires_at=past)
    quarantined = await ruled.write(by="ada")
    await ruled.psql.execute("update memcube.memories set trust = 'quarantined' where id = $1", quarantined)
    for memory in (expired, quarantined):
        assert await ruled.read(memory, by="ada", role="AGENT") is None
        assert await ruled.read(memory, by="mo", role="MEMBER") is None
        assert await ruled.read(memory, by="root", role="ADMIN") is not None
        assert await ruled.column(memory, "audience") == (1 if memory == expired else 2)


async def test_what_happens_to_a_memory_past_its_time_is_announced_to_the_privileged_only(ruled: Ruled) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    over, ended = await ruled.write(by="ada", expires_at=past), await ruled.write(by="ada")
    for change in ("lifecycle = 'EXPIRED'", "label = 'anew'", "lifecycle = 'ACTIVE'"):
        await ruled.psql.execute(f"update memcube.memories set {change} where id = any($1)", [over, ended])
    said = await ruled.psql.fetch(
        "select memory_id, split_part(type, '.', 3) as verb, audience, visibility, let_in from memcube.changes"
        " where project_id = $1 order by seq",
        ruled.project,
    )
    told: dict[object, list[object]] = {over: [], ended: []}
    for row in said:
        shut = (row["audience"], row["visibility"], row["let_in"]) == (2, "private", [])
        assert shut or (row["audience"], row["visibility"], row["let_in"]) == (1, "project", ["ada"])
        told[row["memory_id"]].append((row["verb"], "privileged" if shut else "all"))
    assert told[ended] == [("created", "all"), ("expired", "all"), ("updated", "privileged"), ("restored", "all")]
    assert told[over] == [
        ("created", "privileged"), ("expired", "all"), ("updated", "privileged"), ("restored", "privileged"),
    ]  # fmt: skip


async def test_time_to_live_counts_from_the_day_a_memory_was_brought_in(ruled: Ruled) -> None:
    memory = await ruled.write(ttl_days=3)
    stored, expires = await ruled.column(memory, "stored_at"), await ruled.column(memory, "expires_at")
    assert expires - stored == timedelta(days=3)
    assert await ruled.column(await ruled.write(ttl_days=None), "expires_at") is None


async def test_content_leaves_a_trail_where_governance_asks_for_one(ruled: Ruled) -> None:
    watched, plain = await ruled.write(audit_reads=True), await ruled.write()
    for memory in (watched, plain):
        assert await ruled.read(memory, by="bo", role="AGENT") is not None
    rows = await ruled.psql.fetch(
        "select memory_id, actor, role, source from memcube.memory_events where project_id = $1 and kind = 'ACCESSED'",
        ruled.project,
    )
    assert [tuple(row) for row in rows] == [(watched, "bo", "AGENT", "key:test 127.0.0.1")]


@pytest.mark.parametrize("table", ["memory_payloads", "memory_text", "memory_vectors"])
async def test_a_request_has_no_way_to_content_but_through_the_memory(ruled: Ruled, table: str) -> None:
    transaction = ruled.psql.transaction()
    await transaction.start()
    try:
        await ruled.psql.execute(
            f"set local role memcube_user; set local app.project_id = '{ruled.project}'; set local app.role = 'OWNER'"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ruled.psql.fetch(f"select * from memcube.{table}")
    finally:
        await transaction.rollback()


async def shown_to(tx: Any, project: str) -> set[UUID]:
    """The ids of all memories that the transaction's principal sees."""
    every = Statement("every", "All that is seen.", "select id from memories where project_id = $1")
    return {row["id"] for row in await tx.fetch(every, project)}


async def test_the_short_way_for_default_governance_gives_what_the_general_way_gives(ruled: Ruled) -> None:
    plain, pinned = await ruled.write(), await ruled.write(pin=True)
    columns = (
        "read_roles, write_roles, let_in, denied, visibility, frozen, legal_hold, audit_reads, audience, trust,"
        " governance_own, expires_at - stored_at"
    )
    rows = [
        await ruled.psql.fetchrow(f"select {columns} from memcube.memories where id = $1", one)
        for one in (plain, pinned)
    ]
    assert rows[0] is not None
    assert rows[0] == rows[1]
    assert await ruled.psql.fetchval(
        "select governance = $2::jsonb from memcube.memories where id = $1", plain, Governance().model_dump_json()
    )
