"""From one model to another while the house is open: nothing is lost, nothing mixed, and there is a way back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from tests.fakes.embedder import FakeEmbedder
from tests.rooms import admin, an_insight, embedding_room, ingestion_room, opened

from memcube_common.contracts.asks import EmbeddedTexts, EmbedTexts, Refused
from memcube_common.db import Database
from memcube_common.db.pool import Row
from memcube_common.memories import generations
from memcube_common.memories.domain import pack
from memcube_common.memories.generations import Migration, Progress, Step
from memcube_common.search.domain import Question, QuestionVector
from memcube_common.search.embedding_room import read_vector
from memcube_common.search.store import find_generation, search
from memcube_common.search.tiers import Sizes
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_embedding import jobs, moving
from memcube_embedding.embedders.protocol import EmbedderUnavailable
from memcube_embedding.handlers import on_embed_texts
from memcube_embedding.room import Room
from memcube_ingestion.handlers import keep
from memcube_ingestion.room import Room as IngestionRoom

TARGET = "openai:fake:32"
FACTS = [f"Fact number {n} about {word}." for n, word in enumerate(("cellos", "boats", "moss", "salt") * 10)]


@dataclass(frozen=True)
class House:
    """The hands and eyes of a test: a room that can open two models, and everybody around it."""

    room: Room
    old: FakeEmbedder
    new: FakeEmbedder
    ingestion: IngestionRoom
    gateway: Database
    operator: Database
    psql: asyncpg.Connection[Row]
    project: str

    async def learn(self, *texts: str) -> list[UUID]:
        """Memories of insights that came over NATS, with their first vector."""
        insights = [an_insight(text, agent="bot") for text in texts]
        assert await keep(self.project, insights, self.ingestion) is None
        await self.embed()
        return [insight.memory_id for insight in insights]

    async def embed(self) -> None:
        """Work off what waits for its first vector."""
        await self.psql.execute("update memcube.work_queue set due_at = now() where kind = 'embedding'")
        while await jobs.embed_due(self.room):
            pass

    async def start(self) -> None:
        """Begin the migration, and let the room open its target."""
        async with self.operator.transaction(Principal.operator()) as tx:
            assert await generations.start(tx, target=TARGET) is None
        await self.open()

    async def open(self) -> None:
        """Let the room see what is going on, and open what it needs."""
        await self.room.models.look()
        await self.room.models.open_missing()

    async def move(self) -> None:
        """Work for the migration until nothing is left to do."""
        await self.open()
        await self.psql.execute("update memcube.work_queue set due_at = now() where kind <> 'embedding'")
        while await moving.move_once(self.room):
            await self.psql.execute("update memcube.work_queue set due_at = now() where kind = 'backfill'")

    async def step(self, step: Step) -> str | None:
        """What the operator does, and the room sees; why not, else None."""
        async with self.operator.transaction(Principal.operator()) as tx:
            refused = await generations.steer(tx, step=step)
        await self.room.models.look()
        return refused

    async def must(self, *steps: Step) -> None:
        """Steps that succeed."""
        for step in steps:
            assert await self.step(step) is None, step

    async def settle(self) -> None:
        """Let so much time pass that no search of the other model is under way."""
        await self.psql.execute("update memcube.embedding_migrations set switched_at = now() - interval '21 seconds'")

    async def look(self) -> tuple[Migration, Progress]:
        """Where the migration is."""
        async with self.operator.transaction(Principal.operator()) as tx:
            migration = await generations.latest_migration(tx)
            assert migration is not None
            return migration, await generations.read_progress(tx, migration=migration.id)

    async def found(self, text: str) -> tuple[int, UUID | None, float]:
        """By which generation the house searches, and the memory nearest in meaning, with its similarity."""
        answer = await on_embed_texts(EmbedTexts(texts=[text]).model_dump_json().encode(), self.room)
        said = EmbeddedTexts.model_validate_json(answer)
        vector = QuestionVector(said.generation, said.dimensions, read_vector(said.vectors[0], said.dimensions))
        question = Question(text=None, limit=1, vector=vector)
        async with self.gateway.transaction(Principal.user(self.project, "reader", "MEMBER")) as tx:
            page = await search(tx, project=self.project, question=question, sizes=Sizes())
        if not page.found:
            return said.dimensions, None, 0.0
        return said.dimensions, page.found[0].fields["id"], page.found[0].similarity or 0.0

    async def vectors(self) -> dict[int, int]:
        """How many vectors the project has, by their dimensions."""
        rows = await self.psql.fetch(
            "select public.vector_dims(embedding) as dims, count(*) as many from memcube.memory_vectors"
            " where project_id = $1 group by 1",
            self.project,
        )
        return {row["dims"]: row["many"] for row in rows}

    async def states(self) -> dict[UUID, tuple[str, str | None]]:
        """State and model, or reason, of each memory."""
        rows = await self.psql.fetch(
            "select id, embedding_state, coalesce(embedding_reason, embedding_model) as why from memcube.memories"
            " where project_id = $1",
            self.project,
        )
        return {row["id"]: (row["embedding_state"], row["why"]) for row in rows}


@pytest_asyncio.fixture(scope="module")
async def ingestion(database: HouseDatabase) -> AsyncGenerator[IngestionRoom]:
    """Where memories come from."""
    async with ingestion_room(database) as room:
        yield room


@pytest_asyncio.fixture
async def house(database: HouseDatabase, ingestion: IngestionRoom, project: HouseProject) -> AsyncGenerator[House]:
    """A house without memories whose first model makes 64 numbers and whose second makes 32."""
    old, new = FakeEmbedder(dimensions=64), FakeEmbedder(dimensions=32)
    async with contextlib.AsyncExitStack() as stack:
        psql = await stack.enter_async_context(admin(database))
        await psql.execute("delete from memcube.memories; truncate memcube.work_queue, memcube.embedding_backfills")
        await psql.execute("truncate memcube.embedding_migrations; delete from memcube.embedding_models")
        room = await stack.enter_async_context(embedding_room(database, old, new))
        operator = await Database.open(database.admin_dsn, room="operator", size=2)
        stack.push_async_callback(operator.close)
        gateway = await opened(database, "gateway", stack, size=2)
        yield House(room, old, new, ingestion, gateway, operator, psql, project.slug)


async def test_a_house_goes_over_to_another_model_and_back_and_over_again(house: House) -> None:
    ids = await house.learn(*FACTS)
    assert await house.found(FACTS[3]) == (64, ids[3], pytest.approx(1.0, abs=1e-3))
    assert await house.step("cut-over") == "no migration is under way"
    await house.start()
    assert (await house.step("cut-over") or "").startswith("the back-fill")
    await house.move()
    await house.must("look", "look")
    await house.move()
    migration, progress = await house.look()
    assert migration.state == "ready"
    assert (progress.todo, progress.through, progress.made, progress.refused) == (40, 40, 40, 0)
    assert (progress.comparing, progress.waiting) == (0, 0)
    async with house.operator.transaction(Principal.operator()) as tx:
        [found_out] = await generations.read_found_out(tx, migration=migration.id)
    assert len(found_out.samples) == 40
    assert all(0 <= sample["overlap"] <= 1 < sample["old_ms"] + 1 for sample in found_out.samples)
    assert await house.vectors() == {64: 40, 32: 40}

    assert await house.found(FACTS[3]) == (64, ids[3], pytest.approx(1.0, abs=1e-3)), "nothing has changed for searches"
    await house.must("cut-over")
    assert await house.found(FACTS[3]) == (32, ids[3], pytest.approx(1.0, abs=1e-3))
    [between] = await house.learn("Written between the models.")
    assert await house.found("Written between the models.") == (32, between, pytest.approx(1.0, abs=1e-3))
    await house.move()
    assert await house.vectors() == {64: 41, 32: 41}

    await house.must("roll-back")
    assert await house.found("Written between the models.") == (64, between, pytest.approx(1.0, abs=1e-3))
    assert await house.step("finish") == "searches do not use the new model: cut over first"
    await house.must("cut-over")
    assert (await house.step("cancel") or "").endswith("roll back first")
    assert (await house.step("finish") or "").endswith("wait 20 s"), "somebody may still read the old vectors"
    await house.settle()
    await house.must("finish")
    await house.move()
    await house.must("look")
    assert (await house.look())[0].swept_at is not None
    assert await house.vectors() == {32: 41}
    assert set((await house.states()).values()) == {("ready", "fake")}
    assert house.old.closed, "the second model is there only while it is needed"
    assert not house.new.closed
    assert await house.found(FACTS[3]) == (32, ids[3], pytest.approx(1.0, abs=1e-3))


async def test_a_vector_that_a_caller_brings_is_one_of_the_model_in_force(house: House) -> None:
    await house.learn("Bo plays the cello.")
    await house.start()
    await house.move()
    await house.must("look", "look")

    async def taken(dimensions: int) -> bool:
        async with house.gateway.transaction(Principal.user(house.project, "reader", "MEMBER")) as tx:
            return await find_generation(tx, dimensions=dimensions) is not None

    assert (await taken(64), await taken(32)) == (True, False)
    await house.must("cut-over")
    assert (await taken(64), await taken(32)) == (False, True)


async def test_refused_texts_are_told_and_failed_with_their_reason_in_the_end(house: House) -> None:
    house.new.refused.add("Not this one.")
    house.old.refused.add("Only the other way.")
    good, bad, other = await house.learn("This one.", "Not this one.", "Only the other way.")
    await house.start()
    await house.move()
    await house.must("look", "look")
    migration, progress = await house.look()
    assert (migration.state, progress.made, progress.refused) == ("ready", 2, 1)
    async with house.operator.transaction(Principal.operator()) as tx:
        [found_out] = await generations.read_found_out(tx, migration=migration.id)
    assert found_out.refusals == {"it is on the fake's list": {"count": 1, "ids": [str(bad)]}}
    await house.must("cut-over")
    await house.settle()
    await house.must("finish")
    await house.move()
    await house.embed()
    assert await house.states() == {
        good: ("ready", "fake"),
        bad: ("failed", "it is on the fake's list"),
        other: ("ready", "fake"),
    }
    assert await house.vectors() == {32: 2}


async def test_content_that_changes_under_way_never_gets_a_vector_of_what_it_was(house: House) -> None:
    [memory_id] = await house.learn("The old words.")
    await house.start()
    house.new.gate.clear()
    house.new.called.clear()
    moved = asyncio.create_task(moving.move_once(house.room))
    await asyncio.wait_for(house.new.called.wait(), 5)
    words = pack("Quite other words.")
    await house.psql.execute(
        "update memcube.memory_payloads set content = $2, checksum = $3 where memory_id = $1",
        memory_id,
        words.content,
        words.checksum,
    )
    house.new.gate.set()
    await moved
    assert (await house.look())[1].made == 0
    assert await house.vectors() == {64: 1}
    await house.move()
    assert await house.vectors() == {64: 1, 32: 1}
    assert house.new.calls[-1] == ["Quite other words."]


async def test_a_vector_by_the_old_model_makes_nothing_ready_once_the_new_one_is_in_force(house: House) -> None:
    await house.learn("A fact.")
    await house.start()
    await house.move()
    await house.must("look", "look")
    insight = an_insight("Just under way.", agent="bot")
    assert await keep(house.project, [insight], house.ingestion) is None
    house.old.gate.clear()
    house.old.called.clear()
    embedding = asyncio.create_task(jobs.embed_due(house.room))
    await asyncio.wait_for(house.old.called.wait(), 5)
    await house.must("cut-over")
    house.old.gate.set()
    await embedding
    assert (await house.states())[insight.memory_id] == ("pending", None)
    await house.embed()
    assert await house.found("Just under way.") == (32, insight.memory_id, pytest.approx(1.0, abs=1e-3))


async def test_a_target_that_is_away_delays_nothing_and_is_told(house: House) -> None:
    ids = await house.learn(*FACTS[:3])
    house.new.failures.append(EmbedderUnavailable("away for a while", after=0.01))
    await house.start()
    migration, _ = await house.look()
    assert (migration.to_generation, migration.state) == (None, "backfilling")
    assert migration.problem == "the target does not answer as it should: away for a while"
    assert await house.found(FACTS[0]) == (64, ids[0], pytest.approx(1.0, abs=1e-3))
    await house.open()
    assert (await house.look())[0].problem is None
    house.new.failures.append(EmbedderUnavailable("away again", after=0.01))
    with contextlib.suppress(EmbedderUnavailable):
        await house.move()
    [new] = await house.learn("Meanwhile.")
    assert (await house.states())[new] == ("ready", "fake")
    await house.move()
    await house.must("look", "look")
    assert (await house.look())[0].state == "ready"
    assert await house.vectors() == {64: 4, 32: 4}


async def test_a_migration_that_is_cancelled_leaves_nothing_behind(house: House) -> None:
    [memory_id] = await house.learn("It stays.")
    await house.start()
    await house.move()
    assert await house.vectors() == {64: 1, 32: 1}
    [waiting] = await house.learn("Its second vector is waited for.")
    await house.must("cancel")
    async with house.operator.transaction(Principal.operator()) as tx:
        assert (await generations.start(tx, target=TARGET) or "").endswith("still being removed")
    await house.move()
    assert await house.vectors() == {64: 2}
    assert await house.states() == {memory_id: ("ready", "fake"), waiting: ("ready", "fake")}
    assert house.new.closed
    assert await house.psql.fetchval("select count(*) from memcube.work_queue") == 0


async def test_a_model_that_is_in_force_already_is_no_target(house: House) -> None:
    await house.learn("A fact.")
    async with house.operator.transaction(Principal.operator()) as tx:
        assert await generations.start(tx, target="openai:fake:64") is None
        assert await generations.start(tx, target=TARGET) == "another migration is under way"
    await house.open()
    migration, _ = await house.look()
    assert (migration.state, migration.problem) == ("cancelled", "fake is the model in force already")
    await house.move()
    await house.must("look")
    await house.start()


async def test_other_settings_embed_nothing_anew_once_there_are_vectors(house: House, database: HouseDatabase) -> None:
    async with embedding_room(database, house.new, house.old) as room:
        assert room.models.current.generation != house.room.models.current.generation, "nothing is lost by changing now"
    await house.room.models.look()
    async with embedding_room(database, house.old, house.new) as room:
        pass
    await house.open()
    [memory_id] = await house.learn("A fact.")
    async with embedding_room(database, FakeEmbedder(dimensions=32), FakeEmbedder(dimensions=64)) as room:
        assert room.models.current.embedder.model.dimensions == 64
        assert await jobs.embed_due(room) is False
    assert await house.vectors() == {64: 1}
    assert await house.states() == {memory_id: ("ready", "fake")}


async def test_a_model_that_cannot_be_opened_any_more_is_left_for_another(
    house: House, database: HouseDatabase
) -> None:
    [memory_id] = await house.learn("A fact.")
    async with embedding_room(database, FakeEmbedder(dimensions=32)) as room:
        moved = dataclasses.replace(house, room=room)
        answer = await on_embed_texts(EmbedTexts(texts=["A fact."]).model_dump_json().encode(), room)
        assert Refused.model_validate_json(answer).detail == "this model is not carried any more"
        await moved.start()
        await moved.move()
        await moved.must("look", "look")
        await moved.move()
        await moved.must("cut-over")
        assert await moved.found("A fact.") == (32, memory_id, pytest.approx(1.0, abs=1e-3))


async def test_a_room_that_cannot_see_the_pointer_says_so_rather_than_guess(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memcube_embedding.models.BELIEVED_SECONDS", -1.0)
    answer = await on_embed_texts(EmbedTexts(texts=["Who?"]).model_dump_json().encode(), house.room)
    refused = Refused.model_validate_json(answer)
    assert (refused.code, refused.after) == ("embedder_unavailable", 1.0)
