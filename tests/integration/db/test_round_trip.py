"""What the contract accepts comes back from Postgres as it was: text byte for byte, JSON value for value."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.rooms import opened

from memcube_common.contracts.api import InsightSubmission
from memcube_common.contracts.events import InsightSubmitted
from memcube_common.contracts.fields import Governance
from memcube_common.db import Database, Statement
from memcube_common.db.arrays import array_literal
from memcube_common.ids import new_id
from memcube_common.insights import store as insights_store
from memcube_common.insights.domain import distil, from_event, from_submission
from memcube_common.memories.store import insert_memories, read_memories
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject

T = TypeVar("T")

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
hostile = st.sampled_from(
    [
        "",
        "NULL",
        "null",
        '"',
        "\\",
        '\\"',
        "{",
        "}",
        "{}",
        ",",
        "a,b",
        "'",
        "\\\\",
        "\n",
        " ",
        "\u2028",
        "\U0010ffff",
        "\\x00",
    ]
)
lists = st.lists(storable | hostile, max_size=8)
line = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64).filter(
    lambda t: any(c.isprintable() and not c.isspace() for c in t)
)
content = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1).filter(
    lambda t: any(c.isprintable() and not c.isspace() for c in t)
)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
free_json = st.dictionaries(
    storable,
    st.recursive(
        st.none() | st.booleans() | numbers | storable,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(storable, inner, max_size=3),
        max_leaves=10,
    ),
    max_size=4,
)
insights = st.fixed_dictionaries(
    {"insight": content},
    optional={
        "label": line,
        "tags": st.lists(line, max_size=5),
        "evidence_refs": st.lists(storable.filter(bool), max_size=5),
        "sentiment": st.floats(-1, 1),
        "metadata": free_json,
    },
)
unhurried = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def same(sent: object, read: object) -> bool:
    """Equal, where jsonb may write a float without its point: 1e16 is read as an integer of the same double."""
    if isinstance(sent, dict) and isinstance(read, dict):
        ours, theirs = cast("dict[str, object]", sent), cast("dict[str, object]", read)
        return ours.keys() == theirs.keys() and all(same(value, theirs[key]) for key, value in ours.items())
    if isinstance(sent, list) and isinstance(read, list):
        one, other = cast("list[object]", sent), cast("list[object]", read)
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(sent, float) and isinstance(read, int | float):
        return sent == float(read)
    return isinstance(read, type(cast("object", sent))) and sent == read


class Loop:
    """Runs coroutines on the session's loop from hypothesis' synchronous examples."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@pytest_asyncio.fixture(scope="module")
async def db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """The ingestion room's pool."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "ingestion", stack)


@pytest_asyncio.fixture(scope="module")
async def readers(database: HouseDatabase) -> AsyncGenerator[Database]:
    """The gateway's pool."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "gateway", stack)


async def test_lists_of_text_come_back_from_postgres_as_they_were(db: Database) -> None:
    echo = Statement("echo", "Back again.", "select $1::text::text[]")

    @unhurried
    @given(lists)
    @example([])
    @example(["NULL"])
    @example([""])
    @example(['\\"', "\\", '{"a"}', "null", " a ", "\t", "ä,ö"])
    def comes_back(loop: Loop, values: list[str]) -> None:
        async def ask() -> list[str]:
            async with db.transaction(Principal.worker("ingestion")) as tx:
                return list(await tx.fetch_value(echo, array_literal(values)))

        assert loop.run(ask()) == values

    await asyncio.to_thread(comes_back, Loop(asyncio.get_running_loop()))


async def test_an_accepted_insight_is_kept_and_read_back_unchanged(
    db: Database, readers: Database, project: HouseProject
) -> None:
    @unhurried
    @given(insights)
    @example({"insight": "x" * 65_536, "metadata": {"": 0.0, "a": [1e308, 5e-324, -0.5, 2**63 - 1, -(2**63)]}})
    @example({"insight": "\\x00 \\u0000 {NULL} '\"", "tags": ["NULL", "{}", '"', "\\"]})
    def comes_back(loop: Loop, body: dict[str, Any]) -> None:
        identity = new_id()
        posted = InsightSubmission.model_validate({**body, "id": identity})
        # An insight is the same whether it comes through the door or over the bus.
        sent = InsightSubmitted.model_validate_json(json.dumps({**body, "id": str(identity)}))
        insight = from_event(sent, "bot")
        assert from_submission(posted, "bot") == insight

        async def keep_and_read() -> None:
            async with db.transaction(Principal.worker("ingestion", project.slug)) as tx:
                new = await insights_store.insert_insights(
                    tx, project=project.slug, via="nats", state="accepted", insights=[insight]
                )
                assert new == {identity}
                [(kept, _)] = await insights_store.read_accepted(tx, project=project.slug, ids=[identity])
                memory = distil(insight, datetime.now(UTC))
                assert await insert_memories(tx, project=project.slug, memories=[memory]) == {memory.id}
            async with readers.transaction(Principal.user(project.slug, "bot", "SERVICE")) as tx:
                read = (await read_memories(tx, project=project.slug, ids=[memory.id]))[memory.id]
            assert (kept.insight, kept.label, kept.tags) == (insight.insight, insight.label, insight.tags)
            assert (kept.evidence_refs, kept.memory_id) == (insight.evidence_refs, memory.id)
            assert (read.content, read.label, tuple(read.tags)) == (posted.insight, memory.label, insight.tags)
            assert same(posted.metadata, read.metadata)
            assert read.governance == (posted.governance or Governance())
            assert read.size_bytes == len(posted.insight.encode())

        loop.run(keep_and_read())

    await asyncio.to_thread(comes_back, Loop(asyncio.get_running_loop()))
