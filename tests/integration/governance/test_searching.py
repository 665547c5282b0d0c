"""Hidden memories neither show in a search nor take the places of those that may be seen."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import pytest
from pgvector import HalfVector
from tests.integration.governance.conftest import Ruled

from memcube_common.contracts.fields import DEFAULT_GOVERNANCE, Governance
from memcube_common.db import Statement, Transaction
from memcube_common.ids import new_id
from memcube_common.memories.domain import NewMemory
from memcube_common.memories.store import NewVector, insert_memories, register_model, save_vectors
from memcube_common.search import listings
from memcube_common.search.domain import Filters, Listing, Question, QuestionVector
from memcube_common.search.store import Found, list_memories, search
from memcube_common.search.tiers import Sizes
from memcube_common.security.principal import Principal

HIDDEN = 1_500
SHOWN = 15
TEXT = "the same words for all of them"


async def newest(tx: Transaction, project: str, limit: int) -> list[Found]:
    """The newest of those that carry the tag."""
    listing = Listing(by="created_at", down=True, limit=limit, filters=Filters(tags_all=("all",)))
    return (await list_memories(tx, project=project, listing=listing)).found


async def fill(ruled: Ruled) -> tuple[set[UUID], QuestionVector]:
    """Many memories that only their owner sees, all of them nearer to the question than the few that are open."""
    private = Governance(visibility="private").model_dump_json()
    memories = [
        NewMemory(
            id=new_id(),
            label="x",
            content=f"{TEXT} {TEXT}" if number < HIDDEN else TEXT,
            origin="test",
            provenance_id=new_id(),
            tags=("all",),
            governance=private if number < HIDDEN else DEFAULT_GOVERNANCE,
            metadata="{}",
            priority="WARM",
            created_by="ada",
            created_at=datetime.now(UTC),
        )
        for number in range(HIDDEN + SHOWN)
    ]
    dice = np.random.default_rng(3)
    near, far = np.eye(8, dtype=np.float32)[0], np.eye(8, dtype=np.float32)[1]
    async with ruled.room.transaction(Principal.worker("embedding", ruled.project)) as tx:
        generation = await register_model(tx, name="tiny", dimensions=8, fingerprint="governed")
        await insert_memories(tx, project=ruled.project, memories=memories)
        vectors = [
            NewVector(
                memory.id,
                hashlib.sha256(memory.content.encode()).digest(),
                (near if number < HIDDEN else near + far) + dice.normal(0, 0.01, 8).astype(np.float32),
            )
            for number, memory in enumerate(memories)
        ]
        await save_vectors(tx, project=ruled.project, generation=generation, model="tiny", vectors=vectors)
    return {memory.id for memory in memories[HIDDEN:]}, QuestionVector(generation, 8, HalfVector(near.tolist()))


@pytest.mark.parametrize("small", [True, False], ids=["exact", "bits"])
async def test_a_reader_of_a_few_finds_as_many_as_there_are(ruled: Ruled, small: bool) -> None:
    shown, vector = await fill(ruled)
    for text, asked in ((TEXT, vector), (None, vector), (TEXT, None)):
        sizes = Sizes()
        sizes.remember(ruled.project, vector.generation, small=small)
        question = Question(text=text, limit=SHOWN, vector=asked)
        async with ruled.gateway.transaction(ruled.principal("bo", "AGENT")) as tx:
            found = (await search(tx, project=ruled.project, question=question, sizes=sizes)).found
        assert {one.fields["id"] for one in found} == shown
    async with ruled.gateway.transaction(ruled.principal("bo", "AGENT")) as tx:
        found = await newest(tx, ruled.project, SHOWN)
    assert {one.fields["id"] for one in found} == shown
    question = Question(text=None, limit=SHOWN, vector=vector)
    async with ruled.gateway.transaction(ruled.principal("ada", "AGENT")) as tx:
        found = (await search(tx, project=ruled.project, question=question, sizes=Sizes())).found
    assert not {one.fields["id"] for one in found} & shown, "their owner finds the nearer ones"
    async with ruled.gateway.transaction(ruled.principal("app", "PUBLIC")) as tx:
        assert (await search(tx, project=ruled.project, question=question, sizes=Sizes())).found == []


async def scatter(ruled: Ruled, *, many: int, each: int) -> tuple[set[UUID], QuestionVector]:
    """Memories in all directions, each `each`-th of them open, the others their owner's."""
    private = Governance(visibility="private").model_dump_json()
    open_one = Governance(audit_reads=True).model_dump_json()
    memories = [
        NewMemory(
            id=new_id(),
            label="x",
            content=TEXT,
            origin="test",
            provenance_id=new_id(),
            tags=("all",),
            governance=private if number % each else open_one,
            metadata="{}",
            priority="WARM",
            created_by="ada",
            created_at=datetime.now(UTC),
        )
        for number in range(many)
    ]
    dice = np.random.default_rng(5)
    async with ruled.room.transaction(Principal.worker("embedding", ruled.project)) as tx:
        generation = await register_model(tx, name="small", dimensions=64, fingerprint="scattered")
        await insert_memories(tx, project=ruled.project, memories=memories)
        checksum = hashlib.sha256(TEXT.encode()).digest()
        vectors = [NewVector(one.id, checksum, dice.normal(size=64).astype(np.float32)) for one in memories]
        await save_vectors(tx, project=ruled.project, generation=generation, model="small", vectors=vectors)
    return {one.id for one in memories[::each]}, QuestionVector(generation, 64, HalfVector(dice.normal(size=64)))


@pytest.mark.parametrize("small", [True, False], ids=["exact", "bits"])
async def test_some_near_and_the_rest_far_come_each_once(ruled: Ruled, small: bool) -> None:
    shown, vector = await scatter(ruled, many=1_000, each=20)
    sizes = Sizes()
    sizes.remember(ruled.project, vector.generation, small=small)
    question = Question(text=None, limit=len(shown), vector=vector)
    async with ruled.gateway.transaction(ruled.principal("bo", "AGENT")) as tx:
        found = (await search(tx, project=ruled.project, question=question, sizes=sizes)).found
    assert sorted(one.fields["id"] for one in found) == sorted(shown)


async def test_a_search_that_looks_again_leaves_one_mark_for_each_memory_it_shows(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, vector = await scatter(ruled, many=150, each=3)
    # Those that are archived take the places of others among the candidates: the search is made again.
    await ruled.psql.execute(
        "update memcube.memories set governance = $2::jsonb, lifecycle = 'ARCHIVED' where id <> all ($1)",
        list(shown),
        DEFAULT_GOVERNANCE,
    )
    monkeypatch.setattr(listings, "FEW_MAX", 10)
    question = Question(text=TEXT, limit=len(shown), vector=vector)
    for marks in (1, 2):
        async with ruled.gateway.transaction(ruled.principal("bo", "AGENT")) as tx:
            if marks == 1:
                found = (await search(tx, project=ruled.project, question=question, sizes=Sizes())).found
            else:
                found = await newest(tx, ruled.project, len(shown))
        assert {one.fields["id"] for one in found} == shown
        rows = await ruled.psql.fetch(
            "select memory_id, count(*) as marks from memcube.memory_events"
            " where project_id = $1 and kind = 'ACCESSED' group by memory_id",
            ruled.project,
        )
        assert {row["memory_id"]: row["marks"] for row in rows} == dict.fromkeys(shown, marks)


async def test_how_near_a_hidden_memory_is_stays_untold(ruled: Ruled) -> None:
    shown, vector = await scatter(ruled, many=10, each=5)
    everyone = [
        row["id"]
        for row in await ruled.psql.fetch("select id from memcube.memories where project_id = $1", ruled.project)
    ]
    distances = Statement(
        "test", "distances", "select memory_id from vector_distances($1::smallint, $2::halfvec, $3::uuid[])"
    )
    async with ruled.gateway.transaction(ruled.principal("bo", "AGENT")) as tx:
        told = await tx.fetch(distances, vector.generation, vector.value, everyone)
    assert {row["memory_id"] for row in told} == shown
    async with ruled.gateway.transaction(ruled.principal("root", "OWNER")) as tx:
        assert len(await tx.fetch(distances, vector.generation, vector.value, everyone)) == 10
