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
from memcube_common.ids import new_id
from memcube_common.memories.domain import NewMemory
from memcube_common.memories.store import NewVector, insert_memories, register_model, save_vectors
from memcube_common.search.domain import Question, QuestionVector
from memcube_common.search.store import Sizes, newest, search
from memcube_common.security.principal import Principal

HIDDEN = 1_500
SHOWN = 15
TEXT = "the same words for all of them"


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
        question = Question(text=text, tags=(), limit=SHOWN, as_of=None, vector=asked)
        async with ruled.gateway.transaction(ruled.principal("bo", "AGENT")) as tx:
            found = await search(tx, project=ruled.project, question=question, sizes=sizes)
        assert {one.fields["id"] for one in found} == shown
    async with ruled.gateway.transaction(ruled.principal("bo", "AGENT")) as tx:
        found = await newest(tx, project=ruled.project, tags=["all"], limit=SHOWN, as_of=None)
    assert {one.fields["id"] for one in found} == shown
    question = Question(text=None, tags=(), limit=SHOWN, as_of=None, vector=vector)
    async with ruled.gateway.transaction(ruled.principal("ada", "AGENT")) as tx:
        found = await search(tx, project=ruled.project, question=question, sizes=Sizes())
    assert not {one.fields["id"] for one in found} & shown, "their owner finds the nearer ones"
    async with ruled.gateway.transaction(ruled.principal("app", "PUBLIC")) as tx:
        assert await search(tx, project=ruled.project, question=question, sizes=Sizes()) == []
