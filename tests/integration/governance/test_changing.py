"""Who may change what: governance, frozen memories, memories under legal hold, and the trail that all of it leaves."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from tests.integration.governance.conftest import Ruled

from memcube_common.contracts.fields import Governance
from memcube_common.db import Statement
from memcube_common.errors import Frozen, Held, NotAllowed
from memcube_common.security.principal import Principal


@pytest.mark.parametrize(
    ("by", "role", "may"),
    [
        ("ada", "AGENT", True),
        ("ada", "MEMBER", True),
        ("bo", "AGENT", "NotAllowed"),
        ("bo", "MEMBER", False),
        ("ada", "VIEWER", False),
        ("root", "ADMIN", True),
        ("root", "OWNER", True),
        ("key", "SERVICE", True),
    ],
)
async def test_governance_is_changed_by_the_creator_and_the_privileged(
    ruled: Ruled, by: str, role: str, may: bool | str
) -> None:
    memory = await ruled.write(by="ada")
    if may == "NotAllowed":
        with pytest.raises(NotAllowed):
            await ruled.govern(memory, by=by, role=role, visibility="private")
    else:
        assert await ruled.govern(memory, by=by, role=role, visibility="private") is may
    assert await ruled.column(memory, "visibility") == ("private" if may is True else "project")


@pytest.mark.parametrize("mark", [{"legal_hold": True}, {"pii_tagged": True}, {"pii_kinds": ["email"]}])
async def test_holds_and_marks_are_not_the_creators_to_set(ruled: Ruled, mark: dict[str, Any]) -> None:
    memory = await ruled.write(by="ada")
    with pytest.raises(NotAllowed):
        await ruled.govern(memory, by="ada", role="AGENT", **mark)
    assert await ruled.govern(memory, by="root", role="ADMIN", **mark)
    with pytest.raises(NotAllowed):
        await ruled.govern(memory, by="ada", role="AGENT")


async def test_what_is_frozen_changes_for_nobody_before_it_is_unfrozen(ruled: Ruled) -> None:
    memory = await ruled.write(by="ada", frozen=True)
    with pytest.raises(Frozen):
        await ruled.govern(memory, by="ada", role="AGENT", frozen=False)
    with pytest.raises(Frozen):
        await ruled.govern(memory, by="root", role="OWNER", frozen=True, visibility="public")
    for statement in (
        "update memcube.memories set label = 'other' where id = $1",
        "update memcube.memories set lifecycle = 'ARCHIVED' where id = $1",
        "update memcube.memory_payloads set content = 'other' where memory_id = $1",
        "delete from memcube.memories where id = $1",
        "delete from memcube.memory_payloads where memory_id = $1",
    ):
        with pytest.raises(asyncpg.PostgresError, match="frozen"):
            await ruled.psql.execute(statement, memory)
    await ruled.psql.execute("update memcube.memories set embedding_state = 'failed' where id = $1", memory)
    assert await ruled.govern(memory, by="root", role="OWNER", frozen=False)
    await ruled.psql.execute("update memcube.memories set label = 'other' where id = $1", memory)


async def test_saying_the_same_again_does_not_change_what_is_frozen(ruled: Ruled) -> None:
    memory = await ruled.write(by="ada", frozen=True)
    for by, role in (("ada", "AGENT"), ("bo", "AGENT"), ("root", "OWNER")):
        with pytest.raises(Frozen):
            await ruled.govern(memory, by=by, role=role, frozen=True)
    assert await ruled.column(memory, "version") == 1


async def test_what_was_stated_of_a_derived_memory_is_not_undone_while_its_source_demands_the_same(
    ruled: Ruled,
) -> None:
    marks: dict[str, Any] = {"legal_hold": True, "pii_tagged": True, "principals": {"deny": ["cy"]}}
    source = await ruled.write(by="bo", **marks)
    child = await ruled.write(by="bo", parents=[source], **marks)
    with pytest.raises(NotAllowed):  # may write it, and is not its creator
        await ruled.govern(child, by="di", role="AGENT", legal_hold=True, pii_tagged=True)
    # Its creator may restate it, and neither ends a hold by that nor takes over what is only inherited.
    assert await ruled.govern(child, by="bo", role="AGENT", principals={"deny": ["cy"]}, pin=False)
    assert await ruled.govern(source, by="root", role="OWNER")
    assert (await ruled.column(child, "legal_hold"), await ruled.column(child, "denied")) == (True, ["cy"])

    other = await ruled.write(by="bo", legal_hold=True)
    plain = await ruled.write(by="bo", parents=[other])
    assert await ruled.govern(plain, by="bo", role="AGENT", legal_hold=True, read_roles=["MEMBER"])
    assert await ruled.govern(other, by="root", role="OWNER")
    assert (await ruled.column(plain, "legal_hold"), await ruled.column(plain, "read_roles")) == (False, ["MEMBER"])


async def test_what_is_under_legal_hold_is_removed_by_nobody(ruled: Ruled) -> None:
    memory = await ruled.write(by="ada", legal_hold=True)
    for statement in (
        "delete from memcube.memories where id = $1",
        "delete from memcube.memory_payloads where memory_id = $1",
        "update memcube.memories set lifecycle = 'EXPIRED' where id = $1",
    ):
        with pytest.raises(asyncpg.PostgresError, match="legal hold"):
            await ruled.psql.execute(statement, memory)
    await ruled.psql.execute("update memcube.memories set label = 'other' where id = $1", memory)
    assert await ruled.govern(memory, by="root", role="ADMIN")
    await ruled.psql.execute("delete from memcube.memories where id = $1", memory)


async def test_a_held_memory_is_refused_with_its_reason(ruled: Ruled) -> None:
    memory = await ruled.write(legal_hold=True)
    purge = Statement("purge", "For this test.", "delete from memories where project_id = $1 and id = $2")
    with pytest.raises(Held):
        async with ruled.room.transaction(Principal.worker("ingestion", ruled.project)) as tx:
            await tx.execute(purge, ruled.project, memory)
    assert await ruled.column(memory, "legal_hold")


@pytest.mark.parametrize(
    ("by", "role", "as_whom", "may"),
    [
        ("ada", "AGENT", "ada", True),
        ("ada", "AGENT", "bo", False),
        ("ada", "MEMBER", "ada", True),
        ("ada", "VIEWER", "ada", False),
        ("root", "ADMIN", "bo", True),
    ],
)
async def test_nobody_writes_under_anothers_name_but_the_privileged(
    ruled: Ruled, by: str, role: str, as_whom: str, may: bool
) -> None:
    transaction = ruled.psql.transaction()
    await transaction.start()
    try:
        await ruled.psql.execute(
            f"set local role memcube_user; set local app.project_id = '{ruled.project}';"
            f"set local app.principal = '{by}'; set local app.role = '{role}'"
        )
        insert = ruled.psql.execute(
            "insert into memcube.memories (project_id, id, label, type, origin, provenance_id, governance, metadata,"
            " priority, created_by, created_at, updated_at) values ($1, gen_random_uuid(), 'x', 'PLAINTEXT', 'x',"
            " gen_random_uuid(), $2, '{}', 'WARM', $3, now(), now())",
            ruled.project,
            Governance().model_dump_json(),
            as_whom,
        )
        if may:
            await insert
        else:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await insert
    finally:
        await transaction.rollback()


async def test_every_change_is_in_the_trail_and_the_trail_is_changed_by_nobody(ruled: Ruled) -> None:
    memory = await ruled.write(by="ada")
    assert await ruled.govern(memory, by="ada", role="AGENT", visibility="private")
    await ruled.psql.execute("delete from memcube.memories where id = $1", memory)
    trail = await ruled.psql.fetch(
        "select kind, actor, role, source, changed from memcube.memory_events where memory_id = $1 order by seq", memory
    )
    assert [row["kind"] for row in trail] == ["CREATED", "UPDATED", "PURGED"]
    assert (trail[0]["actor"], trail[1]["actor"]) == ("room:ingestion", "ada")
    assert (trail[1]["role"], trail[1]["source"]) == ("AGENT", "key:test 127.0.0.1")
    assert trail[1]["changed"] == ["governance", "version"]
    for role in ("user", "anon", "worker", "operator", "feed", "search", "governor", "relay", "owner"):
        for statement in (
            "update memcube.memory_events set actor = 'x' where memory_id = $1",
            "delete from memcube.memory_events where memory_id = $1",
        ):
            transaction = ruled.psql.transaction()
            await transaction.start()
            try:
                await ruled.psql.execute(
                    f"set local role memcube_{role}; set local app.project_id = '{ruled.project}';"
                    "set local app.role = 'OWNER'; set local app.principal = 'operator'"
                )
                try:
                    done = await ruled.psql.execute(statement, memory)
                except asyncpg.InsufficientPrivilegeError:
                    continue
                assert done.endswith(" 0"), role  # its owner is under the policies as well, and none lets it
            finally:
                await transaction.rollback()
