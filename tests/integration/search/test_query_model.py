"""Queries give what a plain-Python model of them gives, page by page, whatever is asked and whoever asks."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.rooms import admin

from memcube_common.contracts.api import MemoryQuery
from memcube_common.contracts.fields import Governance
from memcube_common.db import Database
from memcube_common.ids import derive_external
from memcube_common.memories.domain import NewMemory
from memcube_common.memories.store import NewVector, insert_memories, read_texts, register_model, save_vectors
from memcube_common.search import candidates, listings, store
from memcube_common.search.cursors import after_marks, after_place, read_marks, read_place
from memcube_common.search.domain import QuestionVector, mark
from memcube_common.search.store import count_listed, count_ranked, list_memories, list_ranked, search
from memcube_common.search.tiers import Sizes
from memcube_common.search.vectors import direction
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase
from memcube_gateway import asking

MANY = 220
DIMENSIONS = 8
START = datetime(2024, 5, 1, tzinfo=UTC)
TAGS = ["a", "b", "c", "d"]
LABELS = [
    "100% sure",
    "100 sure",
    "snake_case",
    "snakeXcase",
    "Ärger",
    "ärger im Büro",
    "a\\b",
    "Zebra",
    "zebra",
    "日本",
]
WORDS = ["w1", "w2", "w3", "w4", "w5"]
METADATA: list[dict[str, Any]] = [
    {},
    {"k": 1},
    {"k": 2, "s": "x"},
    {"n": {"a": [1, 2]}, "k": 1},
    {"n": {"a": [2], "b": None}},
    {"k": "1"},
]
ASKED: list[dict[str, Any]] = [
    {"k": 1},
    {"k": 1.0},
    {"s": "x"},
    {"n": {"a": [2]}},
    {"n": {}},
    {"n": {"b": None}},
    {"k": "1"},
    {"gone": 1},
]
MAKERS = ["ada", "bo", "mia"]
LIFECYCLES = ["NEW", "ACTIVE", "STALE", "ARCHIVED", "EXPIRED"]
PRIORITIES = ["HOT", "WARM", "COLD"]
TRUSTS = ["trusted", "untrusted", "quarantined"]
TYPES = ["PLAINTEXT", "ACTIVATION", "PARAMETER"]
ASKED_WITH = np.asarray([1.0, 0.5, -0.25, 0, 0, 0.125, 0, 1], dtype=np.float32)


@dataclass(frozen=True)
class Kept:
    """A memory as the model knows it."""

    id: UUID
    label: str
    type: str
    tags: frozenset[str]
    metadata: dict[str, Any]
    priority: str
    lifecycle: str
    trust: str
    maker: str
    private: bool
    over: bool
    created_at: datetime
    updated_at: datetime
    words: frozenset[str]
    similarity: float | None


@dataclass(frozen=True)
class Book:
    """The loaded project, as it is in the database and in the model."""

    project: str
    generation: int
    kept: list[Kept]
    db: Database

    async def pages(self, query: MemoryQuery, who: Principal) -> tuple[list[Any], int | None]:
        """Everything that is found, walking page by page by signed-over cursors; and what is counted."""
        asked = asking.query_digest(self.project, query)
        vector = None
        if query.embedding is not None:
            vector = QuestionVector(self.generation, DIMENSIONS, direction(query.embedding))
        is_listed = query.text is None and query.embedding is None
        found: list[Any] = []
        total, cursor = None, None
        async with self.db.transaction(who) as tx:
            while True:
                listing = asking.listing(query, None if cursor is None else read_place(asked, cursor))
                question = asking.question(query, vector)
                if total is None and is_listed:
                    total = await count_listed(tx, project=self.project, listing=listing)
                elif total is None:
                    total = await count_ranked(tx, project=self.project, question=question)
                if is_listed:
                    page = await list_memories(tx, project=self.project, listing=listing, content=False)
                    cursor = page.after and after_place(asked, page.after)
                elif query.order_by is not None:
                    page = await list_ranked(
                        tx, project=self.project, question=question, listing=listing, content=False
                    )
                    cursor = page.after and after_place(asked, page.after)
                else:
                    seen = frozenset[bytes]() if cursor is None else read_marks(asked, cursor)
                    assert seen is not None
                    question = asking.question(query, vector, seen)
                    page = await search(tx, project=self.project, question=question, sizes=Sizes(), content=False)
                    seen |= {mark(one.fields["id"]) for one in page.found}
                    cursor = after_marks(asked, seen) if page.more else None
                found += page.found
                if cursor is None:
                    return found, total.count if total.is_exact else None


def contains(has: Any, wanted: Any) -> bool:
    """jsonb's `has @> wanted`, below the top."""
    match wanted:
        case dict():
            asked = cast("dict[str, Any]", wanted)
            return isinstance(has, dict) and all(k in has and contains(has[k], v) for k, v in asked.items())
        case list():
            given = cast("list[Any]", has if isinstance(has, list) else [])
            return isinstance(has, list) and all(any(contains(h, w) for h in given) for w in cast("list[Any]", wanted))
        case bool() | str() | None:
            return type(has) is type(wanted) and has == wanted
        case _:
            return not isinstance(has, bool) and has == wanted


def readable(one: Kept, who: Principal) -> bool:
    if who.role == "OWNER":
        return True
    hidden = one.trust == "quarantined" or one.lifecycle == "EXPIRED" or one.over
    return not hidden and (one.maker == who.name or not one.private)


def fits(one: Kept, query: MemoryQuery) -> bool:
    """The filters, said again in Python."""
    label = query.label
    return (
        one.lifecycle in (query.lifecycle or ["NEW", "ACTIVE", "STALE"])
        and not (one.over and one.lifecycle not in ("ARCHIVED", "EXPIRED"))
        and set(query.tags) <= one.tags
        and (not query.tags_any or bool(one.tags & set(query.tags_any)))
        and not one.tags & set(query.tags_none)
        and (query.type is None or one.type in query.type)
        and (query.priority is None or one.priority in query.priority)
        and (query.trust is None or one.trust in query.trust)
        and (query.created_by is None or one.maker in query.created_by)
        and (query.ids is None or one.id in query.ids)
        and (query.metadata is None or contains(one.metadata, query.metadata))
        and (label is None or label.equals is None or one.label == label.equals)
        and (label is None or label.prefix is None or one.label.startswith(label.prefix))
        and (label is None or label.contains is None or label.contains.lower() in one.label.lower())
        and (query.created_after is None or one.created_at > query.created_after)
        and (query.created_before is None or one.created_at < query.created_before)
        and (query.updated_after is None or one.updated_at > query.updated_after)
        and (query.updated_before is None or one.updated_at < query.updated_before)
        and (query.as_of is None or one.created_at <= query.as_of)
    )


def expected(book: Book, query: MemoryQuery, who: Principal) -> list[UUID]:
    """Ids in order; of ranked answers in any."""
    found = [one for one in book.kept if readable(one, who) and fits(one, query)]
    if query.text is not None or query.embedding is not None:
        words = frozenset((query.text or "").split() if query.mode != "semantic" else "")
        by_meaning = query.mode != "keyword" and query.embedding is not None
        floor = -2.0 if query.similarity_threshold is None else query.similarity_threshold
        found = [
            one
            for one in found
            if (one.words & words or (by_meaning and one.similarity is not None))
            and (query.similarity_threshold is None or (one.similarity is not None and one.similarity >= floor))
        ]
    by = query.order_by or "created_at"
    down = by != "label" if query.order is None else query.order == "desc"
    return [one.id for one in sorted(found, key=lambda one: (getattr(one, by), one.id.int), reverse=down)]


@pytest_asyncio.fixture(scope="module")
async def book(database: HouseDatabase) -> AsyncGenerator[Book]:
    """The same memories in two projects, of which one is asked; hidden, archived, expired and late ones among them."""
    dice = Random(20)
    project, other = await database.project(), await database.project()
    kept: list[Kept] = []
    hidden = Governance(visibility="private").model_dump_json()
    new: list[NewMemory] = []
    vectors: dict[UUID, Any] = {}
    for number in range(MANY):
        created = START + timedelta(hours=dice.randrange(60))  # many at the same moment
        one = Kept(
            id=derive_external("model", str(number)),
            label=dice.choice(LABELS),
            type=dice.choices(TYPES, (8, 1, 1))[0],
            tags=frozenset(dice.sample(TAGS, dice.randrange(4))),
            metadata=dice.choice(METADATA),
            priority=dice.choice(PRIORITIES),
            lifecycle=dice.choices(LIFECYCLES, (4, 4, 2, 2, 1))[0],
            trust=dice.choices(TRUSTS, (8, 2, 1))[0],
            maker=dice.choice(MAKERS),
            private=dice.random() < 0.3,
            over=dice.random() < 0.05,
            created_at=created,
            updated_at=created + timedelta(hours=dice.randrange(30)),
            words=frozenset(dice.sample(WORDS, dice.randrange(1, 4))),
            similarity=None,
        )
        if dice.random() < 0.8:
            vector = np.asarray([dice.gauss(0, 1) for _ in range(DIMENSIONS)], dtype=np.float16).astype(np.float64)
            vectors[one.id] = vector.astype(np.float32)
            sides = np.linalg.norm(vector) * np.linalg.norm(ASKED_WITH.astype(np.float64))
            one = replace(one, similarity=float(vector @ ASKED_WITH.astype(np.float64) / sides))
        kept.append(one)
        new.append(
            NewMemory(
                id=one.id,
                label=one.label,
                content=" ".join(sorted(one.words)),
                origin="test",
                provenance_id=one.id,
                tags=tuple(one.tags),
                governance=hidden if one.private else Governance().model_dump_json(),
                metadata=json.dumps(one.metadata),
                priority=cast("Any", one.priority),
                created_by=one.maker,
                created_at=one.created_at,
            )
        )
    room = await Database.open(database.dsn("ingestion"), room="test", size=1)
    async with room.transaction(Principal.worker("embedding", project.slug)) as tx:
        generation = await register_model(tx, name="model", dimensions=DIMENSIONS, fingerprint="model")
    for slug in (other.slug, project.slug):
        async with room.transaction(Principal.worker("embedding", slug)) as tx:
            await insert_memories(tx, project=slug, memories=new)
            texts = await read_texts(tx, project=slug, ids=list(vectors))
            made = [NewVector(text.memory_id, text.content_hash, vectors[text.memory_id]) for text in texts]
            await save_vectors(tx, project=slug, generation=generation, model="model", vectors=made)
    await room.close()
    async with admin(database) as psql, psql.transaction():
        await psql.execute("set local app.project_id = ''")
        await psql.executemany(
            "update memcube.memories set type = $2, trust = $3 where id = $1", [(k.id, k.type, k.trust) for k in kept]
        )
        await psql.execute("set local session_replication_role = replica")
        await psql.executemany(
            "update memcube.memories set lifecycle = $2, updated_at = $3,"
            " expires_at = case when $4 then now() - interval '1 hour' end where id = $1",
            [(k.id, k.lifecycle, k.updated_at, k.over) for k in kept],
        )
    db = await Database.open(database.dsn("gateway"), room="test", size=1)
    yield Book(project.slug, generation, kept, db)
    await db.close()


def some_of(values: list[str]) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


hours = st.integers(0, 90).map(lambda hour: (START + timedelta(hours=hour)).isoformat())
letters = st.sampled_from(["100%", "_", "%", "snake_", "Ä", "ärger", "a\\", "z", "Z", "日", "e"])
FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "tags": some_of(TAGS[:3]),
    "tags_any": some_of(TAGS),
    "tags_none": some_of(TAGS),
    "type": some_of(TYPES) | st.sampled_from(TYPES),
    "priority": some_of(PRIORITIES),
    "lifecycle": some_of(LIFECYCLES),
    "trust": some_of(TRUSTS),
    "label": st.fixed_dictionaries({"prefix": letters})
    | st.fixed_dictionaries({"contains": letters})
    | st.fixed_dictionaries({"equals": st.sampled_from(LABELS)}),
    "metadata": st.sampled_from(ASKED),
    "created_by": some_of(MAKERS),
    "created_after": hours,
    "updated_before": hours,
    "as_of": hours,
    "ids": st.lists(st.integers(0, MANY + 5), min_size=1, max_size=60).map(
        lambda numbers: [str(derive_external("model", str(n))) for n in numbers]
    ),
}
ORDERS = st.fixed_dictionaries(
    {},
    optional={
        "order_by": st.sampled_from(["created_at", "updated_at", "label"]),
        "order": st.sampled_from(["asc", "desc"]),
    },
)
ORDERED = st.fixed_dictionaries(
    {"order_by": st.sampled_from(["updated_at", "label"])}, optional={"order": st.sampled_from(["asc", "desc"])}
)
VECTOR = {"embedding": [float(x) for x in ASKED_WITH]}
TEXT = st.lists(st.sampled_from([*WORDS, "w9"]), min_size=1, max_size=2).map(" ".join)
RANKED = st.one_of(
    st.fixed_dictionaries({"text": TEXT, "mode": st.just("keyword")}),
    st.fixed_dictionaries(
        {"mode": st.just("semantic")}, optional={"similarity_threshold": st.sampled_from([0.0, 0.35])}
    ).map(lambda q: {**VECTOR, **q}),
    st.fixed_dictionaries({"text": TEXT}, optional={"similarity_threshold": st.sampled_from([0.0, 0.35])}).map(
        lambda q: {**VECTOR, **q}
    ),
)


@st.composite
def queries(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(FILTERS)), max_size=3, unique=True))
    asked = draw(st.one_of(ORDERS, ORDERS, RANKED))
    if "mode" in asked and draw(st.integers(0, 3)) == 0:
        asked = {**asked, **draw(ORDERED)}
    return {**asked, **{name: draw(FILTERS[name]) for name in names}, "limit": draw(st.sampled_from([40, 200]))}


READERS = (("root", "OWNER"), ("mia", "MEMBER"))


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(
    asked=queries(),
    reader=st.sampled_from(READERS),
    budget=st.sampled_from([60, 20_000]),
    few=st.sampled_from([5, 2_000]),
)
async def test_what_is_found_is_what_the_model_finds(
    book: Book, asked: dict[str, Any], reader: tuple[str, str], budget: int, few: int
) -> None:
    query = MemoryQuery.model_validate(asked)
    who = Principal.user(book.project, reader[0], cast("Any", reader[1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listings, "WALKED_MAX", budget)
        patch.setattr(listings, "FEW_MAX", few)
        patch.setattr(store, "FEW_MAX", few)
        patch.setattr(candidates, "FITTING_MAX", few)
        found, total = await book.pages(query, who)
    ids, model = [one.fields["id"] for one in found], expected(book, query, who)
    if query.order_by is not None or (query.text is None and query.embedding is None):
        assert ids == model
    else:
        assert sorted(ids) == sorted(model)
        if query.mode != "hybrid":
            scores = [one.score for one in found]
            assert scores == sorted(scores, reverse=True)
    assert total == len(model)
