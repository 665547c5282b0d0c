"""Search against the real schema: recall, plans, round trips, and never too few."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest
import pytest_asyncio
from pgvector import HalfVector
from pgvector.asyncpg import register_vector
from tests.fakes.house_work import HouseWork, memory
from tests.plans import nodes, plans_of

from memcube_common.db import Database, Statement, Transaction
from memcube_common.memories import store as memories
from memcube_common.memories.domain import NewMemory
from memcube_common.search.domain import Filters, Question, QuestionVector
from memcube_common.search.listings import QUERIES
from memcube_common.search.store import Found, search
from memcube_common.search.tiers import Sizes
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject

DIMENSIONS = 64
MANY = 2_600
WORDS = [f"w{number}" for number in range(400)]


def clustered(seed: random.Random, centres: Sequence[Sequence[float]]) -> list[float]:
    """A vector near one of the centres: what embeddings look like, unlike points spread evenly."""
    return [value + seed.gauss(0, 0.35) for value in seed.choice(centres)]


class Big:
    """A project with more vectors than the exact tier takes."""

    def __init__(
        self, project: HouseProject, kept: list[NewMemory], vectors: dict[UUID, list[float]], generation: int
    ) -> None:
        self.slug = project.slug
        self.kept = kept
        self.vectors = vectors
        self.generation = generation
        self.centres: list[list[float]] = []

    def nearest(self, to: list[float], many: int, among: set[UUID] | None = None) -> list[UUID]:
        def cosine(memory_id: UUID) -> float:
            vector = self.vectors[memory_id]
            dot = sum(a * b for a, b in zip(vector, to, strict=True))
            return dot / (sum(a * a for a in vector) ** 0.5)

        ids = self.vectors if among is None else among
        return sorted(ids, key=lambda memory_id: -cosine(memory_id))[:many]


@pytest_asyncio.fixture(scope="module")
async def reader(database: HouseDatabase) -> AsyncGenerator[Database]:
    db = await Database.open(database.dsn("gateway"), room="test", size=2)
    yield db
    await db.close()


@pytest_asyncio.fixture(scope="module")
async def big(database: HouseDatabase, house_work: HouseWork) -> Big:
    project = await database.project()
    seed = random.Random(11)
    centres = [[seed.gauss(0, 1) for _ in range(DIMENSIONS)] for _ in range(40)]
    start = datetime(2024, 1, 1, tzinfo=UTC)
    kept = [
        memory(" ".join(seed.choices(WORDS, k=12)), at=start + timedelta(minutes=n), number=n,
               tags=["rare"] if n % 200 == 0 else ["common"])
        for n in range(MANY)
    ]  # fmt: skip
    vectors = {m.id: clustered(seed, centres) for m in kept}
    worker = Principal.worker("embedding", project.slug)
    async with house_work.db.transaction(worker) as tx:
        generation = await memories.register_model(tx, name="fake", dimensions=DIMENSIONS, fingerprint="fake")
        await memories.insert_memories(tx, project=project.slug, memories=kept)
        hashes = await memories.read_texts(tx, project=project.slug, ids=[m.id for m in kept])
        made = [
            memories.NewVector(t.memory_id, t.content_hash, np.asarray(vectors[t.memory_id], dtype=np.float32))
            for t in hashes
        ]
        await memories.save_vectors(tx, project=project.slug, generation=generation, model="fake", vectors=made)
    connection = await asyncpg.connect(database.admin_dsn)
    await connection.execute("vacuum analyze")
    await connection.close()
    made_big = Big(project, kept, vectors, generation)
    made_big.centres = centres
    return made_big


def asked(big: Big, vector: list[float] | None, **more: Any) -> Question:
    given = None if vector is None else QuestionVector(big.generation, DIMENSIONS, HalfVector(vector))
    return replace(Question(text=None, limit=10, vector=given), **more)


async def find(reader: Database, big: Big, question: Question, sizes: Sizes | None = None) -> list[Found]:
    async with reader.transaction(Principal.user(big.slug, "test", "SERVICE")) as tx:
        return (await search(tx, project=big.slug, question=question, sizes=sizes or Sizes())).found


@pytest.mark.parametrize("small", [True, False], ids=["exact", "bits"])
async def test_the_nearest_are_found(reader: Database, big: Big, small: bool) -> None:
    sizes = Sizes()
    sizes.remember(big.slug, big.generation, small=small)
    seed = random.Random(5)
    hits = 0
    for _ in range(20):
        vector = clustered(seed, big.centres)
        found = await find(reader, big, asked(big, vector), sizes)
        hits += len({f.fields["id"] for f in found} & set(big.nearest(vector, 10)))

    assert hits >= 198, f"recall {hits / 200}"


@pytest.mark.parametrize("small", [True, False], ids=["exact", "bits"])
async def test_tags_narrow_before_the_nearest_are_chosen(reader: Database, big: Big, small: bool) -> None:
    sizes = Sizes()
    sizes.remember(big.slug, big.generation, small=small)
    vector = clustered(random.Random(6), big.centres)
    rare = {m.id for m in big.kept if m.tags == ("rare",)}

    found = await find(reader, big, asked(big, vector, filters=Filters(tags_all=("rare",)), limit=13), sizes)

    assert [f.fields["id"] for f in found] == big.nearest(vector, 13, rare)


async def test_never_too_few_however_much_is_left_out(reader: Database, big: Big) -> None:
    """Only the oldest twelve may be shown; more than a hundred nearer ones are in their way."""
    oldest = Filters(as_of=big.kept[11].created_at)
    words = " ".join(WORDS[:30])

    for question in (
        asked(big, big.vectors[big.kept[-1].id], filters=oldest, limit=12),
        asked(big, big.vectors[big.kept[-1].id], text=words, filters=oldest, limit=12),
    ):
        found = await find(reader, big, question)
        assert {f.fields["id"] for f in found} == {m.id for m in big.kept[:12]}


async def test_archived_memories_are_left_out(reader: Database, big: Big, admin_dsn: str) -> None:
    vector = clustered(random.Random(7), big.centres)
    nearest = big.nearest(vector, 160)
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute(
            "update memcube.memories set lifecycle = 'ARCHIVED' where project_id = $1 and id = any($2::uuid[])",
            big.slug,
            nearest[:150],
        )
        found = await find(reader, big, asked(big, vector))
        assert [f.fields["id"] for f in found] == nearest[150:160]
    finally:
        await connection.execute("update memcube.memories set lifecycle = 'NEW' where project_id = $1", big.slug)
        await connection.close()


async def test_a_search_is_two_statements(reader: Database, big: Big, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    fetch = Transaction.fetch

    async def counting(tx: Transaction, statement: Statement, *args: Any) -> Sequence[Any]:
        if tx.principal.database_role == "memcube_user":  # a relay of another test may still be at work
            ran.append(statement.name)
        return await fetch(tx, statement, *args)

    monkeypatch.setattr(Transaction, "fetch", counting)
    sizes = Sizes()
    vector = clustered(random.Random(8), big.centres)
    for question in (asked(big, vector, text="w1 w2"), asked(big, vector), asked(big, None, text="w1 w2")):
        await find(reader, big, question, sizes)

    assert ran == ["by_both", "read_found"] * 2 + ["by_words", "read_found"]
    assert sizes.is_small(big.slug, big.generation) is True


async def test_the_size_of_a_project_is_remembered_for_a_while() -> None:
    now = 0.0
    sizes = Sizes(keep=30.0, most=2, clock=lambda: now)
    sizes.remember("a", 1, small=True)
    sizes.remember("b", 1, small=False)

    assert (sizes.is_small("a", 1), sizes.is_small("b", 1), sizes.is_small("a", 2)) == (True, False, None)
    sizes.remember("c", 1, small=True)
    assert sizes.is_small("a", 1) is None
    now = 31.0
    assert sizes.is_small("b", 1) is None


@pytest_asyncio.fixture
async def plan(database: HouseDatabase, big: Big) -> AsyncGenerator[Any]:
    """Everything that Postgres ran for a statement of an agent of the big project, as text."""
    connection = await asyncpg.connect(
        database.admin_dsn,
        server_settings={"search_path": "memcube, public", "plan_cache_mode": "force_custom_plan", "jit": "off"},
    )
    await register_vector(connection)

    async def explain(statement: Statement, *args: Any) -> list[dict[str, Any]]:
        async with connection.transaction():
            # Test rows are so narrow that reading all of a partition is cheap; real ones have 6 to 50 times the width.
            await connection.execute(
                f"set local enable_seqscan = off; set local app.project_id = '{big.slug}';"
                "set local app.principal = 'somebody'; set local app.role = 'AGENT'"
            )
            plans = await plans_of(connection, statement, *args, role="memcube_user")
            return [node for plan in plans for node in nodes(plan)]

    yield explain
    await connection.close()


def relations(ran: list[dict[str, Any]], table: str) -> set[str]:
    """The partitions of `table` that were read."""
    return {node["Relation Name"] for node in ran if node.get("Relation Name", "").startswith(f"{table}_p")}


async def test_bits_are_read_out_of_the_index_of_one_partition(big: Big, plan: Any) -> None:
    vector = HalfVector(big.vectors[big.kept[0].id])

    ran = await plan(
        QUERIES["by_both"], big.slug, None, "", ["rare"], 1, 100, vector, big.generation, False, 1, 400, 60
    )

    assert "Index Only Scan" in {node["Node Type"] for node in ran if "memory_vectors_p" in node.get("Index Name", "")}
    assert len(relations(ran, "memory_vectors")) == 1
    assert not [node for node in ran if node["Node Type"] == "Seq Scan"]


async def test_found_memories_are_read_by_key_from_one_partition(big: Big, plan: Any) -> None:
    ran = await plan(QUERIES["read_found"], big.slug, [m.id for m in big.kept[:50]], 10, False, *Filters().values())

    assert len(relations(ran, "memories")) == len(relations(ran, "memory_payloads")) == 1
    assert not [node for node in ran if node["Node Type"] == "Seq Scan"]


async def test_the_newest_are_read_in_order(big: Big, plan: Any) -> None:
    ran = await plan(QUERIES["walk"], "created_at", True, None, None, None, None, 11, 20_000, *Filters().values())

    assert not [node for node in ran if node["Node Type"] == "Seq Scan"]


async def test_words_are_found_by_the_index(database: HouseDatabase, big: Big) -> None:
    """The function's own statement, as its owner runs it: rare words come out of the GIN index, one partition only."""
    connection = await asyncpg.connect(database.admin_dsn, server_settings={"search_path": "memcube, public"})
    try:
        async with connection.transaction():
            await connection.execute("set local role memcube_search; set local enable_seqscan = off")
            rows = await connection.fetch(
                "explain select memory_id from memory_text where project_id = $1 and tsv @@ $2::tsquery",
                big.slug,
                "'w7'",
            )
    finally:
        await connection.close()
    shown = "\n".join(row[0] for row in rows)

    assert "Bitmap Index Scan on memory_text_p" in shown
    assert "tsv" in shown
    assert shown.count("Bitmap Heap Scan on memory_text_p") == 1
