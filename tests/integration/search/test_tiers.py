"""Graphs of vectors built beside writers, asked by their own project, dropped when it shrinks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.asyncpg import register_vector
from prometheus_client import CollectorRegistry
from tests.eventually import eventually, stopped
from tests.fakes.house_work import HouseWork, memory
from tests.plans import nodes, plans_of
from tests.rooms import admin, opened

from memcube_common.contracts.fields import Governance, Role
from memcube_common.db import Database, Statement
from memcube_common.db.builder import building
from memcube_common.db.pool import Row
from memcube_common.errors import TryAgain
from memcube_common.memories import store as memories
from memcube_common.search.domain import Filters, Question, QuestionVector
from memcube_common.search.store import search
from memcube_common.search.tiers import Sizes
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase
from memcube_lifecycle.graphs import GraphMeters, Graphs, tend_graphs
from memcube_lifecycle.store import Graph, forget_graph, read_graph_indexes, read_graphs

DIMENSIONS = 32
MANY = 600
FEW = 150
THRESHOLD = 400

Matrix = NDArray[np.float32]
NEAREST = Statement(
    "nearest", "The nearest.", "select memory_id from vector_candidates($1::smallint, $2::halfvec, $3, $4, $5)"
)


@dataclass(frozen=True, slots=True)
class Filled:
    """A project, its memories' ids and their vectors in the same order."""

    slug: str
    generation: int
    ids: list[UUID]
    vectors: Matrix

    def nearest(self, to: Matrix, many: int = 10) -> set[UUID]:
        near = self.vectors @ to / np.linalg.norm(self.vectors, axis=1)
        return {self.ids[place] for place in np.argsort(-near)[:many]}


@pytest_asyncio.fixture(scope="module")
async def graphs(database: HouseDatabase) -> AsyncGenerator[Graphs]:
    """The lifecycle room's hands."""
    async with contextlib.AsyncExitStack() as stack:
        db = await opened(database, "lifecycle", stack)
        meters = GraphMeters.fresh(CollectorRegistry())
        yield Graphs(db, database.dsn("lifecycle"), meters, threshold=THRESHOLD, memory_mb=64, workers=0)


@pytest_asyncio.fixture(scope="module")
async def reader(database: HouseDatabase) -> AsyncGenerator[Database]:
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "gateway", stack, size=2)


@pytest_asyncio.fixture(scope="module")
async def psql(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[Row]]:
    async with admin(database) as connection:
        await connection.execute("load 'auto_explain'; set plan_cache_mode = force_custom_plan")
        await register_vector(connection)
        yield connection


def points(many: int, seed: int) -> Matrix:
    """So many vectors about forty centres, the same forty for every seed."""
    centres = np.random.default_rng(1).normal(size=(40, DIMENSIONS))
    dice = np.random.default_rng(seed)
    made = centres[dice.integers(40, size=many)] + dice.normal(scale=0.35, size=(many, DIMENSIONS))
    return made.astype(np.float32)


Fill = Callable[..., Awaitable[Filled]]


@pytest.fixture(scope="module")
def fill(database: HouseDatabase, house_work: HouseWork) -> Fill:
    """Makes a project, or adds to one, with so many memories and vectors."""

    async def filling(many: int, seed: int, *, into: str | None = None, governance: str | None = None) -> Filled:
        slug = into or (await database.project()).slug
        vectors = points(many, seed)
        now = datetime.now(UTC)
        given = [
            memory(f"fact {seed} {n}", at=now, number=seed * 1_000 + n, tags=[f"of-{seed}"] if n % 7 == 0 else [])
            for n in range(many)
        ]
        if governance is not None:
            given = [replace(one, governance=governance, created_by="ada") for one in given]
        async with house_work.db.transaction(Principal.worker("embedding", slug)) as tx:
            generation = await memories.register_model(tx, name="tiny", dimensions=DIMENSIONS, fingerprint="tiers")
            await memories.insert_memories(tx, project=slug, memories=given)
            texts = await memories.read_texts(tx, project=slug, ids=[one.id for one in given])
            hashes = {text.memory_id: text.content_hash for text in texts}
            made = [memories.NewVector(m.id, hashes[m.id], v) for m, v in zip(given, vectors, strict=True)]
            await memories.save_vectors(tx, project=slug, generation=generation, model="tiny", vectors=made)
        return Filled(slug, generation, [one.id for one in given], vectors)

    return filling


@pytest_asyncio.fixture(scope="module")
async def house(fill: Fill, graphs: Graphs) -> tuple[Filled, Filled]:
    """A project that has grown its graph, and a small one, in one database."""
    big, small = await fill(MANY, 2), await fill(FEW, 3)
    assert await tend_graphs(graphs) == 1
    return big, small


async def find(reader: Database, project: Filled, vector: Matrix, *, role: Role = "SERVICE", **more: Any) -> list[UUID]:
    """What a search finds that knows the project to be large."""
    sizes = Sizes()
    sizes.remember(project.slug, project.generation, small=False)
    asked = QuestionVector(project.generation, DIMENSIONS, HalfVector(vector))
    question = replace(Question(text=None, limit=10, vector=asked), **more)
    async with reader.transaction(Principal.user(project.slug, "bo", role)) as tx:
        return [
            one.fields["id"] for one in (await search(tx, project=project.slug, question=question, sizes=sizes)).found
        ]


async def indexes_used(psql: asyncpg.Connection[Row], project: Filled, *, tags: tuple[str, ...] = ()) -> set[str]:
    """The names of the indexes that Postgres read for a search of a large project."""
    async with psql.transaction():
        await psql.execute(
            f"set local search_path = memcube, public; set local app.project_id = '{project.slug}';"
            "set local app.principal = 'bo'; set local app.role = 'AGENT'"
        )
        vector = HalfVector(project.vectors[0])
        plans = await plans_of(psql, NEAREST, project.generation, vector, list(tags), 20, -400, role="memcube_user")
    return {node["Index Name"] for plan in plans for node in nodes(plan) if "Index Name" in node}


async def looked(graphs: Graphs) -> tuple[dict[str, Graph], dict[str, bool]]:
    """The graphs that stand or should, by project; and whether each index is whole, by name."""
    async with graphs.db.transaction(Principal.worker("lifecycle")) as tx:
        found = await read_graphs(tx, most=THRESHOLD, least=THRESHOLD // 2)
        there = await read_graph_indexes(tx)
    return {one.project: one for one in found}, {one.name: one.is_whole for one in there}


async def test_a_large_project_is_answered_by_its_own_graph_and_no_other_is(
    house: tuple[Filled, Filled], graphs: Graphs, psql: asyncpg.Connection[Row]
) -> None:
    big, small = house
    found, there = await looked(graphs)

    assert set(found) == {big.slug}
    assert found[big.slug].stands
    assert there == {found[big.slug].name: True}
    assert found[big.slug].name in await indexes_used(psql, big)
    assert found[big.slug].name not in await indexes_used(psql, small)
    assert found[big.slug].name not in await indexes_used(psql, big, tags=("rare",)), "a graph knows no tags"


async def test_a_graph_finds_the_nearest(house: tuple[Filled, Filled], reader: Database) -> None:
    for project in house:
        hits = 0
        for vector in points(30, 9):
            hits += len(set(await find(reader, project, vector)) & project.nearest(vector))
        assert hits >= 297, f"recall {hits / 300}"


async def test_what_is_learned_later_is_found_too(fill: Fill, house: tuple[Filled, Filled], reader: Database) -> None:
    later = await fill(20, 11, into=house[0].slug)
    for memory_id, vector in zip(later.ids, later.vectors, strict=True):
        assert (await find(reader, house[0], vector))[0] == memory_id


async def test_tags_are_found_past_the_graph(house: tuple[Filled, Filled], reader: Database) -> None:
    big = house[0]
    seventh = replace(big, ids=big.ids[::7], vectors=big.vectors[::7])

    for vector in points(5, 19):
        found = await find(reader, big, vector, filters=Filters(tags_all=("of-2",)))
        assert set(found) == seventh.nearest(vector)
    assert await find(reader, big, big.vectors[0], filters=Filters(tags_all=("nobody",))) == []


async def test_of_a_graph_half_hidden_the_nearest_that_may_be_seen_are_found(
    fill: Fill, graphs: Graphs, reader: Database
) -> None:
    hidden = await fill(MANY, 17, governance=Governance(visibility="private").model_dump_json())
    shown = await fill(MANY, 18, into=hidden.slug)
    assert await tend_graphs(graphs) == 1
    hits = 0
    for vector in points(20, 20):
        hits += len(set(await find(reader, shown, vector, role="AGENT")) & shown.nearest(vector))
        assert await find(reader, shown, vector, role="AGENT", filters=Filters(tags_all=("of-17",))) == []
    assert hits >= 198, f"recall {hits / 200}"


async def test_hidden_ones_do_not_take_the_places_of_those_that_may_be_seen(
    fill: Fill, graphs: Graphs, reader: Database
) -> None:
    hidden = await fill(MANY, 12, governance=Governance(visibility="private").model_dump_json())
    shown = await fill(10, 13, into=hidden.slug)
    assert await tend_graphs(graphs) == 1

    found = await find(reader, hidden, hidden.vectors[0], role="AGENT")

    assert set(found) == set(shown.ids)
    assert len(await find(reader, hidden, hidden.vectors[0], role="SERVICE", limit=50)) == 50


async def test_a_graph_that_was_not_finished_is_built_anew_beside_a_writer(
    fill: Fill, graphs: Graphs, reader: Database, psql: asyncpg.Connection[Row]
) -> None:
    """Building waits for a transaction that was open before; here it gives up, as a builder does that is killed."""
    project = await fill(MANY, 14)
    found, _ = await looked(graphs)
    writing = psql.transaction()
    await writing.start()
    await psql.execute("update memcube.memory_vectors set tags = '{x}' where memory_id = $1", project.ids[0])
    async with building(graphs.dsn, memory_mb=64, workers=0, lock_timeout=0.1) as builder:
        assert builder is not None
        with pytest.raises(TryAgain, match="LockNotAvailable"):
            await builder.run(found[project.slug].building)
    await writing.commit()
    assert (await looked(graphs))[1][found[project.slug].name] is False
    assert set(await find(reader, project, project.vectors[0])) == project.nearest(project.vectors[0])

    assert await tend_graphs(graphs) == 1

    assert (await looked(graphs))[1][found[project.slug].name] is True
    assert found[project.slug].name in await indexes_used(psql, project)


async def test_a_room_that_stops_ends_what_it_was_building(
    fill: Fill, graphs: Graphs, psql: asyncpg.Connection[Row], database: HouseDatabase
) -> None:
    await fill(MANY, 21)
    at_work = "select count(*) from pg_stat_activity where application_name = 'memcube-builder'"
    async with admin(database) as writer, writer.transaction():
        await writer.execute("update memcube.memory_vectors set tags = '{x}' where tags = '{of-21}'")
        room = asyncio.create_task(tend_graphs(graphs))
        await eventually(lambda: psql.fetchval(f"{at_work} and wait_event = 'virtualxid'"))
        await stopped(room)
        await eventually(lambda: psql.fetchval(f"select not exists ({at_work} having count(*) > 0)"))
    assert False in (await looked(graphs))[1].values()
    assert await tend_graphs(graphs) == 1
    assert False not in (await looked(graphs))[1].values()


async def test_only_one_room_builds(fill: Fill, graphs: Graphs) -> None:
    project = await fill(MANY, 15)
    async with building(graphs.dsn, memory_mb=64, workers=0) as builder:
        assert builder is not None
        assert await tend_graphs(graphs) == 0
        assert not (await looked(graphs))[0][project.slug].stands
    assert await tend_graphs(graphs) == 1


async def test_a_project_that_has_shrunk_loses_its_graph(
    fill: Fill, graphs: Graphs, reader: Database, psql: asyncpg.Connection[Row]
) -> None:
    project = await fill(MANY, 16)
    await tend_graphs(graphs)
    name = (await looked(graphs))[0][project.slug].name
    await psql.execute(
        "delete from memcube.memory_vectors where project_id = $1 and memory_id = any ($2)",
        project.slug,
        project.ids[: MANY - THRESHOLD + 50],
    )
    assert await tend_graphs(graphs) == 0
    assert (await looked(graphs))[1][name] is True, "a few more or less make no difference"
    await psql.execute(
        "delete from memcube.memory_vectors where project_id = $1 and memory_id = any ($2)",
        project.slug,
        project.ids[: MANY - THRESHOLD // 2],
    )

    assert await tend_graphs(graphs) == 0

    found, there = await looked(graphs)
    assert project.slug not in found
    assert name not in there
    left = replace(project, ids=project.ids[MANY - THRESHOLD // 2 :], vectors=project.vectors[MANY - THRESHOLD // 2 :])
    assert set(await find(reader, left, left.vectors[0])) == left.nearest(left.vectors[0])


async def test_a_graph_whose_index_is_gone_is_not_missed_and_comes_back(
    house: tuple[Filled, Filled], graphs: Graphs, reader: Database, psql: asyncpg.Connection[Row]
) -> None:
    big = house[0]
    name = (await looked(graphs))[0][big.slug].name
    await psql.execute(f"drop index memcube_vectors.{name}")
    assert big.ids[0] in await find(reader, big, big.vectors[0])

    assert await tend_graphs(graphs) == 1

    assert name in await indexes_used(psql, big)
    async with graphs.db.transaction(Principal.worker("lifecycle", big.slug)) as tx:
        await forget_graph(tx, graph=(await looked(graphs))[0][big.slug])
    assert name not in await indexes_used(psql, big)
    assert await tend_graphs(graphs) == 0, "the index is whole: it is asked again"
    assert name in await indexes_used(psql, big)


async def test_a_room_that_may_not_build_says_so_and_tries_again(database: HouseDatabase) -> None:
    with pytest.raises(TryAgain, match="InsufficientPrivilege"):
        async with building(database.dsn("embedding"), memory_mb=64, workers=0):
            pass
