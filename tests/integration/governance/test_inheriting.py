"""What is derived gets the strictest union of its sources, and is judged again when a source changes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.eventually import eventually
from tests.integration.governance.conftest import Ruled

from memcube_common.contracts.fields import Governance
from memcube_common.errors import Invalid
from memcube_common.ids import new_id

ROLES = ["OWNER", "ADMIN", "MEMBER", "AGENT", "VIEWER", "SERVICE"]


async def test_a_derived_memory_is_as_strict_as_its_strictest_source(ruled: Ruled) -> None:
    later = datetime.now(UTC) + timedelta(days=30)
    open_one = await ruled.write(by="ada", read_roles=["MEMBER", "AGENT", "VIEWER"], visibility="public")
    narrow = await ruled.write(
        by="bo", read_roles=["AGENT"], principals={"deny": ["cy"]}, sensitivity="confidential", shareable=False,
        expires_at=later.isoformat(), on_expire="purge", audit_reads=True, pii_tagged=True, pii_kinds=["email"],
    )  # fmt: skip
    child = await ruled.write(by="ada", parents=[open_one, narrow], read_roles=["AGENT", "MEMBER"])

    applies = Governance.model_validate_json(await ruled.column(child, "governance"))
    assert applies.read_roles == ["AGENT"]
    assert applies.principals.deny == ["cy"]
    assert (applies.visibility, applies.sensitivity, applies.shareable) == ("project", "confidential", False)
    assert (applies.on_expire, applies.audit_reads, applies.pii_tagged, applies.pii_kinds) == (
        "purge", True, True, ["email"],
    )  # fmt: skip
    assert await ruled.column(child, "expires_at") == later
    assert await ruled.read(child, by="cy", role="AGENT") is None
    assert await ruled.read(child, by="mo", role="MEMBER") is None
    assert await ruled.read(child, by="di", role="AGENT") is not None


async def test_the_maker_of_a_derivation_keeps_no_way_in_that_a_source_does_not_give(ruled: Ruled) -> None:
    source = await ruled.write(by="bo", principals={"allow": ["ada"]}, visibility="private")
    child = await ruled.write(by="ada", role="AGENT", parents=[source])
    assert await ruled.read(child, by="ada", role="AGENT") is not None
    assert await ruled.govern(source, by="bo", role="AGENT", visibility="private")
    assert await ruled.read(child, by="ada", role="AGENT") is None


async def test_a_way_in_that_a_source_takes_away_is_announced_of_what_was_derived(ruled: Ruled) -> None:
    source = await ruled.write(by="bo", principals={"allow": ["ada"]}, visibility="private")
    child = await ruled.write(by="ada", role="AGENT", parents=[source])
    assert await ruled.govern(source, by="bo", role="AGENT", visibility="private")
    change = await ruled.psql.fetchrow(
        "select body, let_in from memcube.changes where project_id = $1 and memory_id = $2 order by seq desc limit 1",
        ruled.project,
        child,
    )
    assert change is not None
    assert (orjson.loads(change["body"])["changed"], change["let_in"]) == (["governance"], [])
    assert await ruled.psql.fetchval(
        "select changed from memcube.memory_events where memory_id = $1 and kind = 'UPDATED'", child
    ) == ["governance"]


@pytest.mark.parametrize("first", ["source", "child"])
async def test_a_source_tightened_while_something_is_derived_from_it_reaches_it(ruled: Ruled, first: str) -> None:
    source = await ruled.write(by="bo")
    children: list[UUID] = []

    async def derive() -> None:
        children.append(await ruled.write(by="ada", role="AGENT", parents=[source]))

    async def tighten() -> None:
        assert await ruled.govern(source, by="bo", role="AGENT", visibility="private", principals={"allow": ["ada"]})

    before, after = (tighten, derive) if first == "source" else (derive, tighten)
    # A lock that the first needs last keeps its transaction open until the second waits for it.
    gate = ruled.psql.transaction()
    await gate.start()
    await ruled.psql.execute("lock table memcube.memory_events in share mode")
    leading = asyncio.create_task(before())
    await eventually(lambda: _waiting(ruled, 1), within=5)
    following = asyncio.create_task(after())
    await eventually(lambda: _waiting(ruled, 2), within=5)
    await gate.rollback()
    await asyncio.gather(leading, following)
    assert [await ruled.column(one, "visibility") for one in (source, *children)] == ["private", "private"]


async def _waiting(ruled: Ruled, many: int) -> bool:
    """Whether `many` of the database's transactions wait for a lock."""
    await ruled.psql.execute("select pg_stat_clear_snapshot()")
    return many <= await ruled.psql.fetchval(
        "select count(distinct pid) from pg_locks"
        " where not granted and pid in (select pid from pg_stat_activity where datname = current_database())"
    )


async def test_what_a_source_does_not_say_opens_nothing(ruled: Ruled) -> None:
    source = await ruled.write(by="bo", visibility="public", sensitivity="public")
    child = await ruled.write(by="ada", parents=[source], visibility="public", sensitivity="public")
    own = await ruled.write(by="ada", visibility="public")
    unsaid = "array['visibility', 'sensitivity', 'principals']"
    silent = f"update memcube.memories set governance = governance - {unsaid} where id = $1"
    await ruled.psql.execute(silent, source)
    assert await ruled.column(source, "visibility") == "private"
    assert await ruled.column(child, "visibility") == "private"
    assert orjson.loads(await ruled.column(child, "governance"))["sensitivity"] == "confidential"
    await ruled.psql.execute(silent, own)
    assert await ruled.write(by="ada", parents=[own], principals={"deny": ["cy"]})


async def test_descendants_are_judged_again_through_every_generation(ruled: Ruled) -> None:
    source = await ruled.write(by="ada")
    family = [source]
    for _ in range(4):
        family.append(await ruled.write(by="ada", parents=[family[-1]]))
    sibling = await ruled.write(by="ada")

    assert await ruled.govern(source, by="ada", role="AGENT", visibility="private")
    assert [await ruled.column(one, "visibility") for one in family] == ["private"] * 5
    assert [await ruled.column(one, "audience") for one in family] == [2] * 5
    assert await ruled.column(sibling, "visibility") == "project"
    words = await ruled.psql.fetch("select audience from memcube.memory_text where memory_id = any($1)", family)
    assert {row["audience"] for row in words} == {2}

    assert await ruled.govern(source, by="ada", role="AGENT")
    assert [await ruled.column(one, "visibility") for one in family] == ["project"] * 5
    assert {row[0] for row in await ruled.psql.fetch(
        "select audience from memcube.memory_text where memory_id = any($1)", family
    )} == {1}  # fmt: skip


async def test_a_source_changed_by_any_hand_reaches_its_descendants(ruled: Ruled) -> None:
    source = await ruled.write(by="ada")
    child = await ruled.write(by="ada", parents=[source])
    await ruled.psql.execute(
        'update memcube.memories set governance = governance || \'{"visibility": "private"}\' where id = $1', source
    )
    assert await ruled.column(child, "visibility") == "private"


async def test_a_purged_source_leaves_what_it_demanded_in_force(ruled: Ruled) -> None:
    source = await ruled.write(by="ada", visibility="private")
    other = await ruled.write(by="ada")
    child = await ruled.write(by="ada", parents=[source, other])
    await ruled.psql.execute("delete from memcube.memories where id = $1", source)
    assert await ruled.govern(child, by="ada", role="AGENT", visibility="public")
    assert await ruled.govern(other, by="ada", role="AGENT", visibility="public")
    assert await ruled.column(child, "visibility") == "private"


async def test_own_governance_comes_back_when_the_source_gives_way(ruled: Ruled) -> None:
    source = await ruled.write(by="ada", read_roles=["AGENT"])
    child = await ruled.write(by="ada", parents=[source], read_roles=["MEMBER", "AGENT"])
    assert await ruled.column(child, "read_roles") == ["AGENT"]
    assert await ruled.govern(source, by="ada", role="AGENT", read_roles=["MEMBER", "AGENT"])
    assert await ruled.column(child, "read_roles") == ["MEMBER", "AGENT"]


async def test_nobody_derives_from_what_they_may_not_read_or_what_is_not_there(ruled: Ruled) -> None:
    hidden = await ruled.write(by="bo", visibility="private")
    refused: list[str] = []
    for parent in (hidden, new_id()):
        with pytest.raises(Invalid) as error:
            await ruled.write(by="ada", role="AGENT", parents=[parent])
        refused.append(str([(one.field, one.message) for one in error.value.errors]))
    assert refused[0] == refused[1]


governances: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "read_roles": st.lists(st.sampled_from(ROLES), unique=True),
        "write_roles": st.lists(st.sampled_from(ROLES), unique=True),
        "visibility": st.sampled_from(["private", "project", "public"]),
        "principals": st.fixed_dictionaries(
            {
                "allow": st.lists(st.sampled_from("abc"), unique=True),
                "deny": st.lists(st.sampled_from("abc"), unique=True),
            }
        ),
        "sensitivity": st.sampled_from(["public", "internal", "confidential"]),
        "shareable": st.booleans(),
        "legal_hold": st.booleans(),
        "audit_reads": st.booleans(),
        "license": st.sampled_from([None, "MIT", "CC-BY-4.0"]),
    },
)


def as_json(stated: dict[str, Any]) -> str:
    return Governance.model_validate(stated).model_dump_json()


async def test_the_union_is_closed_commutative_in_effect_and_never_looser(ruled: Ruled) -> None:
    loop = asyncio.get_running_loop()

    def union(a: str, b: str) -> dict[str, Any]:
        asked = ruled.psql.fetchval("select memcube.strictest($1::jsonb, $2::jsonb)", a, b)
        return orjson.loads(asyncio.run_coroutine_threadsafe(asked, loop).result(30))

    @given(governances, governances)
    def holds(a: dict[str, Any], b: dict[str, Any]) -> None:
        left, right = union(as_json(a), as_json(b)), union(as_json(b), as_json(a))
        Governance.model_validate(left)
        stated = [Governance.model_validate(one) for one in (a, b)]
        for name in ("read_roles", "write_roles", "share_roles"):
            assert set(left[name]) == set(right[name])
            assert all(set(left[name]) <= set(getattr(one, name)) for one in stated)
        assert set(left["principals"]["deny"]) == {n for one in stated for n in one.principals.deny}
        for name in ("visibility", "shareable", "legal_hold", "sensitivity", "audit_reads", "license", "on_expire"):
            assert left[name] == right[name], name
        assert left["shareable"] == all(one.shareable for one in stated)
        assert left["legal_hold"] == any(one.legal_hold for one in stated)
        assert union(orjson.dumps(left).decode(), as_json(b)) | {"principals": None} == left | {"principals": None}

    await asyncio.to_thread(holds)
