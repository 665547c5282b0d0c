"""The same words are one memory, on both roads and however many bring them at once; nobody loses access by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg
import numpy as np
import pytest
from tests.rooms import an_insight, work_due

from memcube_common.contracts.api import Receipt
from memcube_common.contracts.fields import Governance
from memcube_common.db.pool import Row
from memcube_common.ids import new_id
from memcube_common.insights import store as insights_store
from memcube_common.insights.domain import Insight
from memcube_common.insights.receipts import read_receipts
from memcube_common.mailbox import work
from memcube_common.memories.store import NewVector, read_texts, register_model, save_vectors
from memcube_common.quotas.store import read_quotas
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseProject
from memcube_ingestion import duplicates, jobs
from memcube_ingestion.handlers import keep
from memcube_ingestion.room import Room

if TYPE_CHECKING:
    Psql = asyncpg.Connection[Row]

PRIVATE = Governance(visibility="private").model_dump_json()


async def over_http(room: Room, project: str, insights: Sequence[Insight]) -> None:
    """Accepted as the gateway does it, and made memories."""
    await accept(room, project, insights)
    while await jobs.keep_due(room):
        pass


async def accept(room: Room, project: str, insights: Sequence[Insight]) -> None:
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        await insights_store.accept_insights(tx, project=project, via="http", insights=insights)


async def over_nats(room: Room, project: str, insights: Sequence[Insight]) -> None:
    assert await keep(project, insights, room) is None


Road = Callable[[Room, str, Sequence[Insight]], Awaitable[None]]
ROADS = pytest.mark.parametrize("road", [over_http, over_nats])


async def memories(psql: Psql, project: str) -> int:
    return int(await psql.fetchval("select count(*) from memcube.memories where project_id = $1", project))


async def support(psql: Psql, insight: Insight) -> int:
    return int(await psql.fetchval("select support_count from memcube.insights where id = $1", insight.id))


async def receipts(room: Room, project: str, *insights: Insight) -> list[Receipt]:
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        return await read_receipts(tx, project=project, ids=[insight.id for insight in insights])


async def used(room: Room, project: str) -> tuple[int, int, int]:
    async with room.db.transaction(Principal.worker("ingestion", project)) as tx:
        found = {quota.resource: quota.used for quota in await read_quotas(tx)}
    return found["memories"], found["bytes"], found["insights_per_day"]


@ROADS
async def test_the_same_words_raise_support_and_say_so(
    road: Road, room: Room, psql: Psql, project: HouseProject
) -> None:
    first, other = an_insight("Ada's flight is at 7."), an_insight("Ada's flight is at 8.")
    again = an_insight("  ADA's   flight is\nat 7!", agent="somebody")
    twice = an_insight("Ada's flight is at 7", agent="else")
    await road(room, project.slug, [first, other])
    await road(room, project.slug, sorted([again, twice], key=lambda i: i.id))

    assert await memories(psql, project.slug) == 2
    assert (await support(psql, first), await support(psql, other), await support(psql, again)) == (3, 1, 1)
    one, two = await receipts(room, project.slug, first, again)
    assert (one.state, one.decision, one.decided_because, one.supports) == ("stored", "new", None, None)
    assert (two.state, two.decision, two.memory_id, two.supports) == ("stored", "duplicate", first.memory_id, first.id)
    assert two.decided_because == f"same words as insight {first.id}"
    assert await used(room, project.slug) == (2, 42, 4)  # what is not stored is not counted as stored


@ROADS
async def test_the_same_words_in_one_batch_are_one_memory(
    road: Road, room: Room, psql: Psql, project: HouseProject
) -> None:
    batch = [an_insight("Bo plays the cello."), an_insight("bo plays the cello"), an_insight("Bo plays chess.")]
    await road(room, project.slug, batch)
    assert await memories(psql, project.slug) == 2
    assert sorted([await support(psql, one) for one in batch]) == [1, 1, 2]


@ROADS
async def test_a_redelivery_raises_nothing(road: Road, room: Room, psql: Psql, project: HouseProject) -> None:
    first, again = an_insight("Once."), an_insight("once")
    for _ in range(3):
        await road(room, project.slug, [first])
        await road(room, project.slug, [again])
    assert await memories(psql, project.slug) == 1
    assert await support(psql, first) == 2
    assert (await used(room, project.slug))[0] == 1


@ROADS
async def test_twenty_agents_who_learn_the_same_at_once_make_one_memory(
    road: Road, room: Room, psql: Psql, project: HouseProject
) -> None:
    said = [
        [an_insight("The office moved.", agent=f"agent{n}"), an_insight("The kitchen is new.", agent=f"agent{n}")]
        for n in range(20)
    ]
    if road is over_http:
        for batch in said:
            await accept(room, project.slug, batch)
        await asyncio.gather(*(over_http(room, project.slug, []) for _ in range(4)))
    else:
        await asyncio.gather(
            *(over_nats(room, project.slug, batch[:: 1 if n % 2 else -1]) for n, batch in enumerate(said))
        )
    rows = await psql.fetch(
        "select support_count from memcube.insights where project_id = $1 and decision = 'new'", project.slug
    )
    assert [row["support_count"] for row in rows] == [20, 20]
    assert await memories(psql, project.slug) == 2
    assert await used(room, project.slug) == (2, 36, 40)


async def test_one_that_came_by_both_roads_supports_the_other(room: Room, psql: Psql, project: HouseProject) -> None:
    posted, published = an_insight("Both roads."), an_insight("both roads")
    await over_http(room, project.slug, [posted])
    await over_nats(room, project.slug, [published])
    assert (await memories(psql, project.slug), await support(psql, posted)) == (1, 2)
    said = await psql.fetch(
        "select type, body ->> 'decision' as decision, body ->> 'memory_id' as memory, body ->> 'supports' as supports"
        " from memcube.changes where project_id = $1 and type like 'receipt.%' order by seq",
        project.slug,
    )
    assert [tuple(row) for row in said] == [("receipt.v1.stored", "duplicate", str(posted.memory_id), str(posted.id))]
    await embed(room, project.slug)
    again = an_insight("Both roads!")
    await over_nats(room, project.slug, [again])
    last = await psql.fetch(
        "select type from memcube.changes where project_id = $1 and agent is not null and body ->> 'receipt_id' = $2"
        " order by seq",
        project.slug,
        str(again.id),
    )
    assert [row["type"] for row in last] == ["receipt.v1.stored", "receipt.v1.searchable"]
    [receipt] = await receipts(room, project.slug, again)
    assert receipt.state == "searchable"
    assert receipt.searchable_at is not None
    assert receipt.searchable_at == receipt.stored_at


@ROADS
async def test_what_was_purged_since_is_learned_anew(road: Road, room: Room, psql: Psql, project: HouseProject) -> None:
    first, second, third = (an_insight("Short-lived.") for _ in range(3))
    await road(room, project.slug, [first])
    await psql.execute("delete from memcube.memories where project_id = $1", project.slug)
    left = await psql.fetchval("select count(*) from memcube.insight_fingerprints where project_id = $1", project.slug)
    assert left == 0
    await road(room, project.slug, [second])
    await road(room, project.slug, [third])
    found = await receipts(room, project.slug, first, second, third)
    assert [one.decision for one in found] == ["new", "new", "duplicate"]
    assert found[2].supports == second.id
    assert await memories(psql, project.slug) == 1


@pytest.mark.parametrize(
    "change",
    [
        "lifecycle = 'ARCHIVED'",
        "lifecycle = 'EXPIRED'",
        "trust = 'quarantined'",
        """governance = governance || '{"visibility": "private"}'""",
        "version = 2, content_version = 2",
    ],
)
async def test_words_that_a_memory_does_not_say_to_all_any_more_go_to_the_newcomer(
    room: Room, psql: Psql, project: HouseProject, change: str
) -> None:
    first, second, third = (an_insight("Held.") for _ in range(3))
    await over_nats(room, project.slug, [first])
    await psql.execute(f"update memcube.memories set {change} where project_id = $1", project.slug)
    await over_nats(room, project.slug, [second])
    await over_nats(room, project.slug, [third])
    found = await receipts(room, project.slug, first, second, third)
    assert [one.decision for one in found] == ["new", "new", "duplicate"]
    assert found[2].memory_id == second.memory_id


async def test_what_not_everybody_may_read_stands_for_nobody_elses_words(
    room: Room, psql: Psql, project: HouseProject
) -> None:
    mine = an_insight("A secret.", agent="ada", governance=PRIVATE)
    theirs = an_insight("A secret.", agent="bob", governance=PRIVATE)
    public = an_insight("A secret.", agent="bob")
    denied = Governance.model_validate({"principals": {"deny": ["ada"]}}).model_dump_json()
    against = an_insight("A secret.", agent="bob", governance=denied)
    for one in (mine, theirs, public, against):
        await over_nats(room, project.slug, [one])
    assert await memories(psql, project.slug) == 4
    again = [replace(one, id=new_id()) for one in (mine, theirs, public, against)]
    await over_nats(room, project.slug, sorted(again, key=lambda one: one.id))
    found = await receipts(room, project.slug, *again)
    assert [one.supports for one in found] == [mine.id, theirs.id, public.id, against.id]


async def test_a_hundred_echoes_are_no_memory_and_raise_nothing(room: Room, psql: Psql, project: HouseProject) -> None:
    known, other = an_insight("Deploys are on Tuesdays."), an_insight("Ada decides.")
    await over_nats(room, project.slug, [known, other])
    async with room.db.transaction(Principal.worker("scheduling", project.slug)) as tx:
        recalled = {known.memory_id: known.insight, other.memory_id: other.insight}
        await insights_store.note_recalled(tx, project=project.slug, agent="reader", recalled=recalled)
        await insights_store.note_recalled(tx, project=project.slug, agent="reader", recalled=recalled)
    block = "<<MEM:Deploys>>\nDeploys are on Tuesdays.\n<<ENDMEM>>"
    echoes = [an_insight(f"deploys ARE on tuesdays{'.' * (n % 3)}", agent=f"a{n}") for n in range(50)]
    echoes += [an_insight(block) for _ in range(49)]
    both = an_insight(f"{block}\n\n<<MEM:x>>\nada decides\n<<ENDMEM>>\n")
    await over_http(room, project.slug, [*echoes, both])
    assert await memories(psql, project.slug) == 2
    assert (await support(psql, known), await support(psql, other)) == (1, 1)
    [receipt] = await receipts(room, project.slug, both)
    assert (receipt.decision, receipt.memory_id, receipt.supports) == ("echo", known.memory_id, None)
    assert receipt.decided_because == f"memory {known.memory_id} was recalled with these words"
    assert (await used(room, project.slug))[0] == 2

    more = [an_insight(f"{block}\nAnd more."), an_insight("<<MEM:x>>\nNever recalled.\n<<ENDMEM>>")]
    await over_nats(room, project.slug, sorted(more, key=lambda one: one.id))
    assert await memories(psql, project.slug) == 4


async def test_an_echo_is_forgotten_and_only_heard_by_who_may_read_it(
    room: Room, psql: Psql, project: HouseProject
) -> None:
    secret = an_insight("Only ada knows.", agent="ada", governance=PRIVATE)
    await over_nats(room, project.slug, [secret])
    async with room.db.transaction(Principal.worker("scheduling", project.slug)) as tx:
        recalled = {secret.memory_id: secret.insight}
        await insights_store.note_recalled(tx, project=project.slug, agent="ada", recalled=recalled)
    others, own = an_insight("Only ada knows.", agent="bob"), an_insight("Only ada knows.", agent="ada")
    await over_nats(room, project.slug, sorted([others, own], key=lambda one: one.id))
    found = await receipts(room, project.slug, others, own)
    assert [one.decision for one in found] == ["new", "echo"]

    await psql.execute("update memcube.recalls set at = now() - interval '61 minutes'")
    later = an_insight("Only ada knows.", agent="ada", governance=PRIVATE)
    await over_nats(room, project.slug, [later])
    [receipt] = await receipts(room, project.slug, later)
    assert (receipt.decision, receipt.supports) == ("duplicate", secret.id)

    await psql.execute("update memcube.recalls set at = now() - interval '25 hours'")
    async with room.db.transaction(Principal.worker("ingestion")) as tx:
        assert await insights_store.forget_recalls(tx, at_most=100) >= 1
    assert await psql.fetchval("select count(*) from memcube.recalls") == 0


# Near duplicates. The vectors are scripted: two dimensions that say how near two texts are.


async def near_duplicates(psql: Psql, project: str, threshold: float | None) -> None:
    await psql.execute("update memcube.projects set near_duplicates = $2 where id = $1", project, threshold)


async def embed(room: Room, project: str, angles: dict[str, float] | None = None) -> None:
    """Give every waiting memory of the project a vector at its angle, as the embedding room does."""
    async with room.db.transaction(Principal.worker("embedding", project)) as tx:
        generation = await register_model(tx, name="angles", dimensions=2, fingerprint="angles")
        ids = [
            row["item_id"]
            for row in await tx._connection.fetch(  # pyright: ignore[reportPrivateUsage]
                "select item_id from memcube.work_queue where project_id = $1 and kind = 'embedding'", project
            )
        ]
        texts = await read_texts(tx, project=project, ids=ids)
        vectors = [
            NewVector(
                text.memory_id,
                text.content_hash,
                np.asarray(
                    [np.cos((angles or {}).get(text.text, 0.0)), np.sin((angles or {}).get(text.text, 0.0))],
                    dtype=np.float32,
                ),
            )
            for text in texts
        ]
        await save_vectors(tx, project=project, generation=generation, model="angles", vectors=vectors)
        await work.finish(tx, kind="embedding", project=project, ids=ids)


async def compare(room: Room) -> None:
    while await work_due(duplicates.line_of(room), room):
        pass


ANGLES = {"Ada likes tea.": 0.0, "Ada is fond of tea.": 0.2, "Bo likes tea.": 0.6, "Ada loves tea.": 0.25}


async def test_what_nearly_says_the_same_supports_the_older_and_goes(
    room: Room, psql: Psql, project: HouseProject
) -> None:
    await near_duplicates(psql, project.slug, 0.95)
    first, near, far = (an_insight(text) for text in list(ANGLES)[:3])
    await over_nats(room, project.slug, [first, far])
    await over_nats(room, project.slug, [near, an_insight("ada is fond of tea")])
    await embed(room, project.slug, ANGLES)
    await compare(room)
    ids = {row["id"] for row in await psql.fetch("select id from memcube.memories where project_id = $1", project.slug)}
    assert ids == {first.memory_id, far.memory_id}
    assert (await support(psql, first), await support(psql, far)) == (3, 1)
    [receipt] = await receipts(room, project.slug, near)
    assert (receipt.state, receipt.decision, receipt.memory_id) == ("searchable", "near_duplicate", first.memory_id)
    assert receipt.decided_because == f"0.980 similar to insight {first.id}"
    assert receipt.supports == first.id
    assert await psql.fetchval("select insight from memcube.insights where id = $1", near.id) == near.insight
    assert (await used(room, project.slug))[:2] == (2, 27)
    heard = await psql.fetchval(
        "select count(*) from memcube.changes where project_id = $1 and type = 'receipt.v1.searchable'"
        " and body ->> 'decision' = 'near_duplicate'",
        project.slug,
    )
    assert heard == 1


async def test_nothing_is_compared_where_the_project_does_not_ask_for_it(
    room: Room, psql: Psql, project: HouseProject
) -> None:
    await over_nats(room, project.slug, [an_insight(text) for text in ANGLES])
    await embed(room, project.slug)
    waiting = "select count(*) from memcube.work_queue where project_id = $1 and kind = 'duplicate'"
    assert await psql.fetchval(waiting, project.slug) == 0
    await near_duplicates(psql, project.slug, 0.8)
    assert await memories(psql, project.slug) == len(ANGLES)


@pytest.mark.parametrize(
    "change",
    [
        "version = 2, label = 'changed'",
        """governance = governance || '{"frozen": true}'""",
        """governance = governance || '{"legal_hold": true}'""",
        """governance = governance || '{"visibility": "private"}'""",
        "lifecycle = 'ARCHIVED'",
    ],
)
async def test_what_was_changed_frozen_held_or_closed_stays(
    room: Room, psql: Psql, project: HouseProject, change: str
) -> None:
    await near_duplicates(psql, project.slug, 0.9)
    first, near = an_insight("Ada likes tea."), an_insight("Ada is fond of tea.")
    await over_nats(room, project.slug, [first])
    await over_nats(room, project.slug, [near])
    await embed(room, project.slug, ANGLES)
    await psql.execute(f"update memcube.memories set {change} where id = $1", near.memory_id)
    await compare(room)
    assert await memories(psql, project.slug) == 2
    assert await support(psql, first) == 1


async def test_private_memories_are_near_to_their_owners_only(room: Room, psql: Psql, project: HouseProject) -> None:
    await near_duplicates(psql, project.slug, 0.9)
    mine = an_insight("Ada likes tea.", agent="ada", governance=PRIVATE)
    theirs = an_insight("Ada is fond of tea.", agent="bob", governance=PRIVATE)
    again = an_insight("Ada loves tea.", agent="ada", governance=PRIVATE)
    for one in (mine, theirs, again):
        await over_nats(room, project.slug, [one])
    await embed(room, project.slug, ANGLES)
    await compare(room)
    found = await receipts(room, project.slug, mine, theirs, again)
    assert [one.decision for one in found] == ["new", "new", "near_duplicate"]
    assert found[2].supports == mine.id


async def test_what_was_redacted_is_neither_the_same_nor_nearly(room: Room, psql: Psql, project: HouseProject) -> None:
    """Two secrets that were different leave the same words."""
    await near_duplicates(psql, project.slug, 0.8)
    await psql.execute("update memcube.projects set screening = 'redact' where id = $1", project.slug)
    said = [an_insight(f"Ask {name}@example.org.") for name in ("ada", "bob")]
    for one in said:
        await over_nats(room, project.slug, [one])
    found = await receipts(room, project.slug, *said)
    assert [one.decision for one in found] == ["new", "new"]
    await embed(room, project.slug)
    await compare(room)
    assert await memories(psql, project.slug) == 2

    await over_nats(room, project.slug, [replace(said[0])])
    assert (await memories(psql, project.slug), await support(psql, said[0])) == (2, 1)
