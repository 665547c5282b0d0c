"""Term statistics: what is counted is what is there, whatever happened to it; and nothing that is gone is left."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import pytest_asyncio
from tests.rooms import admin

from memcube_common.contracts.fields import Governance, Role
from memcube_common.contracts.links import NewChain
from memcube_common.db import Database
from memcube_common.db.pool import Row
from memcube_common.ids import new_id
from memcube_common.links.store import begin_chain
from memcube_common.memories.domain import NewMemory, Revision, pack
from memcube_common.memories.revisions import purge_memories, update_memory
from memcube_common.memories.store import insert_memories
from memcube_common.search.candidates import find_candidates, find_common_words
from memcube_common.search.domain import WORK_MAX, Filters, Question
from memcube_common.search.names import CommonNames
from memcube_common.search.store import search
from memcube_common.search.tiers import Sizes
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_lifecycle.counting import count_terms

START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = ("apple", "bread", "cherry", "date", "egg", "fig", "grape")
OPEN, SHARED, PRIVATE = (Governance(visibility=v).model_dump_json() for v in ("public", "project", "private"))


@pytest_asyncio.fixture(scope="module")
async def gateway(database: HouseDatabase) -> AsyncGenerator[Database]:
    db = await Database.open(database.dsn("gateway"), room="test", size=4)
    yield db
    await db.close()


@pytest_asyncio.fixture(scope="module")
async def lifecycle(database: HouseDatabase) -> AsyncGenerator[Database]:
    db = await Database.open(database.dsn("lifecycle"), room="test", size=4)
    yield db
    await db.close()


@pytest_asyncio.fixture
async def psql(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[Row]]:
    async with admin(database) as connection:
        yield connection


def owner(project: HouseProject) -> Principal:
    return Principal.user(project.slug, "olga", "OWNER")


def memory(words: str, governance: str = SHARED, tags: tuple[str, ...] = (), created_at: datetime = START) -> NewMemory:
    memory_id = new_id()
    return NewMemory(
        id=memory_id,
        label="x",
        content=words,
        origin="test",
        provenance_id=memory_id,
        tags=tags,
        governance=governance,
        metadata="{}",
        priority="WARM",
        created_by="olga",
        created_at=created_at,
    )


async def counted(psql: asyncpg.Connection[Row], project: str) -> tuple[dict[str, tuple[int, int]], tuple[int, int]]:
    """What the statistics say: of each term, and of all texts."""
    terms = await psql.fetch("select term, open, shared from memcube.term_stats where project_id = $1", project)
    texts = await psql.fetchrow("select open, shared from memcube.text_stats where project_id = $1", project)
    return {r["term"]: (r["open"], r["shared"]) for r in terms}, (texts["open"], texts["shared"]) if texts else (0, 0)


async def there(psql: asyncpg.Connection[Row], project: str) -> tuple[dict[str, tuple[int, int]], tuple[int, int]]:
    """What they should say, counted afresh."""
    rows = await psql.fetch(
        "select audience, tsvector_to_array(tsv) as terms from memcube.memory_text where project_id = $1", project
    )
    public = Counter(term for row in rows if row["audience"] == 0 for term in row["terms"])
    shared = Counter(term for row in rows if row["audience"] < 2 for term in row["terms"])
    texts = (sum(row["audience"] == 0 for row in rows), sum(row["audience"] < 2 for row in rows))
    return {term: (public[term], many) for term, many in shared.items()}, texts


async def test_what_is_counted_is_what_is_there(
    gateway: Database, lifecycle: Database, psql: asyncpg.Connection[Row], project: HouseProject
) -> None:
    dice = Random(5)
    kept: list[NewMemory] = []

    async def write() -> None:
        some = [memory(" ".join(dice.sample(WORDS, 3)), dice.choice((OPEN, SHARED, PRIVATE))) for _ in range(4)]
        async with gateway.transaction(owner(project)) as tx:
            await insert_memories(tx, project=project.slug, memories=some)
        kept.extend(some)

    async def change() -> None:
        one = dice.choice(kept)
        words = dice.choice(WORDS)
        revision = (
            Revision(payload=pack(words), words=words)
            if dice.random() < 0.5
            else Revision(governance=dice.choice((OPEN, SHARED, PRIVATE)))
        )
        async with gateway.transaction(owner(project)) as tx:
            await update_memory(tx, project=project.slug, memory_id=one.id, revision=revision)

    async def end() -> None:
        one = kept.pop(dice.randrange(len(kept)))
        async with gateway.transaction(owner(project)) as tx:
            await purge_memories(tx, project=project.slug, ids=[one.id])

    await write()
    for _ in range(40):
        await dice.choice((write, change, change, end) if len(kept) > 2 else (write,))()
        if dice.random() < 0.3:
            await asyncio.gather(count_terms(lifecycle), count_terms(lifecycle))
    while await count_terms(lifecycle):
        pass
    assert await counted(psql, project.slug) == await there(psql, project.slug)


async def test_nothing_of_a_purged_text_waits_to_be_counted(
    gateway: Database, psql: asyncpg.Connection[Row], project: HouseProject, lifecycle: Database
) -> None:
    early, late = memory("needle in hay"), memory("another needle")
    for one in (early, late):
        async with gateway.transaction(owner(project)) as tx:
            await insert_memories(tx, project=project.slug, memories=[one])
        if one is early:
            await count_terms(lifecycle)
    async with gateway.transaction(owner(project)) as tx:
        await purge_memories(tx, project=project.slug, ids=[early.id])
        await purge_memories(tx, project=project.slug, ids=[late.id])
    assert await counted(psql, project.slug) == ({}, (0, 0))
    assert await psql.fetchval("select count(*) from memcube.text_changes where project_id = $1", project.slug) == 0


async def test_a_purge_does_not_look_through_all_that_waits_to_be_counted(
    gateway: Database, psql: asyncpg.Connection[Row], project: HouseProject
) -> None:
    """While the lifecycle room is away, what waits grows with every memory."""
    one = memory("needle in hay")
    async with gateway.transaction(owner(project)) as tx:
        await insert_memories(tx, project=project.slug, memories=[one])
    await psql.execute(
        "insert into memcube.text_changes (project_id, memory_id, audience, sign, terms)"
        " select $1, gen_random_uuid(), 1, 1, '{hay}' from generate_series(1, 5000)",
        project.slug,
    )
    await psql.execute("analyze memcube.text_changes")
    async with psql.transaction():
        await psql.execute("delete from memcube.memories where project_id = $1 and id = $2", project.slug, one.id)
        read = await psql.fetchval(
            "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables"
            " where schemaname = 'memcube' and relname = 'text_changes'"
        )
    assert read < 100
    await psql.execute("delete from memcube.text_changes where project_id = $1", project.slug)


async def test_a_weight_does_not_tell_that_a_hidden_memory_is_there(
    gateway: Database, lifecycle: Database, project: HouseProject
) -> None:
    async with gateway.transaction(owner(project)) as tx:
        await insert_memories(tx, project=project.slug, memories=[memory("apple"), memory("grape", PRIVATE)])
    await count_terms(lifecycle)
    async with gateway.transaction(Principal.user(project.slug, "mia", "MEMBER")) as tx:
        pool = await find_candidates(tx, project.slug, Question("apple grape nowhere", 10, None), Sizes())
    weights = dict(zip(("apple", "grape", "nowhere"), pool.terms.weights, strict=True))
    assert weights["grape"] == weights["nowhere"] > weights["apple"]


async def test_hidden_memories_take_no_places_however_many_share_a_word(
    gateway: Database, lifecycle: Database, project: HouseProject
) -> None:
    """As many hidden memories as a search by words looks at stand before the ones that may be read."""
    hidden, seen = [memory("apple", PRIVATE) for _ in range(WORK_MAX)], [memory("apple") for _ in range(3)]
    async with gateway.transaction(owner(project)) as tx:
        await insert_memories(tx, project=project.slug, memories=hidden)
        await insert_memories(tx, project=project.slug, memories=seen)
    while await count_terms(lifecycle):
        pass
    async with gateway.transaction(Principal.user(project.slug, "mia", "MEMBER")) as tx:
        pool = await find_candidates(tx, project.slug, Question("apple", 10, None), Sizes())
    assert {one.memory_id for one in pool.candidates} == {one.id for one in seen}


async def test_a_rare_word_does_not_keep_what_has_the_others_from_being_found(
    gateway: Database, lifecycle: Database, psql: asyncpg.Connection[Row], project: HouseProject
) -> None:
    """Words beside a rare one stand in so many memories that the quick way leaves them out."""
    some = [memory("apple bread", tags=("tin",) if n < 3 else ()) for n in range(20)]
    async with gateway.transaction(owner(project)) as tx:
        await insert_memories(tx, project=project.slug, memories=[*some, memory("fig")])
    await count_terms(lifecycle)
    many = "update memcube.term_stats set shared = shared + $2 where project_id = $1 and term in ('appl', 'bread')"
    await psql.execute(many, project.slug, WORK_MAX)
    for filters, found in ((Filters(tags_all=("tin",)), 3), (Filters(), 10)):
        async with gateway.transaction(owner(project)) as tx:
            asked = Question("apple bread fig", 10, None, filters=filters)
            page = await search(tx, project=project.slug, question=asked, sizes=Sizes())
        assert len(page.found) == found


async def test_names_that_stand_nearly_everywhere_are_common_to_those_who_may_know(
    gateway: Database, lifecycle: Database, project: HouseProject
) -> None:
    some = [memory(f"Ann said {word}") for word in WORDS] + [memory("Bob said figs")]
    async with gateway.transaction(owner(project)) as tx:
        await insert_memories(tx, project=project.slug, memories=some)
    await count_terms(lifecycle)
    mia = Principal.user(project.slug, "mia", "MEMBER")
    async with gateway.transaction(mia) as tx:
        assert await find_common_words(tx, project.slug, ["Ann", "Bob", "Cat"], 0.2) == ["Ann"]
    names = CommonNames()
    asked = "What did Ann say about the Bob of old?"
    bare = await names.bare(asked, lambda: gateway.transaction(mia), project=project.slug, role="MEMBER")
    assert bare == "What did say about the of old?"
    public = Principal.public(project.slug, "key")
    seen = await names.bare(asked, lambda: gateway.transaction(public), project=project.slug, role="PUBLIC")
    assert seen == asked


async def test_neighbours_in_a_sequence_are_those_the_reader_may_see(gateway: Database, project: HouseProject) -> None:
    turns = [
        memory(word, PRIVATE if word == "cherry" else SHARED, tags=("session-1",), created_at=START + timedelta(n))
        for n, word in enumerate(("apple", "bread", "cherry", "date"))
    ]
    aside = memory("egg", tags=("session-2",), created_at=START + timedelta(hours=36))
    async with gateway.transaction(owner(project)) as tx:
        await insert_memories(tx, project=project.slug, memories=[*turns, aside])
    found: dict[str, tuple[int, int]] = {}
    readers: tuple[tuple[str, Role], ...] = (("olga", "OWNER"), ("mia", "MEMBER"))
    for reader, role in readers:
        async with gateway.transaction(Principal.user(project.slug, reader, role)) as tx:
            asked = Question("apple bread cherry date", 10, None)
            pool = await find_candidates(tx, project.slug, asked, Sizes())
        [one] = [c for c in pool.candidates if c.memory_id == turns[1].id]
        found[role] = (one.before.mask if one.before else 0, one.behind.mask if one.behind else 0)
    assert found == {"OWNER": (0b0001, 0b0100), "MEMBER": (0b0001, 0b1000)}


async def test_neighbours_in_a_chain_are_those_beside_in_it(gateway: Database, project: HouseProject) -> None:
    links = [memory(word) for word in ("apple", "bread", "cherry")]
    async with gateway.transaction(owner(project)) as tx:
        await insert_memories(tx, project=project.slug, memories=links)
        backwards = [one.id for one in reversed(links)]
        assert await begin_chain(tx, chain_id=new_id(), chain=NewChain(name="a chain", memory_ids=backwards))
        pool = await find_candidates(tx, project.slug, Question("apple bread cherry", 10, None), Sizes())
    [one] = [c for c in pool.candidates if c.memory_id == links[1].id]
    assert (one.before and one.before.mask, one.behind and one.behind.mask) == (0b100, 0b001)
