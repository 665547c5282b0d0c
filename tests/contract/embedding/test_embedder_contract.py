"""What every embedder promises, asked of each of them: the fake, the local model, and OpenAI over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from tests.fakes.embedder import FakeEmbedder

from memcube_common.testing.openai_server import OpenAIServer
from memcube_embedding.embedders.breaker import BreakingEmbedder
from memcube_embedding.embedders.local import LocalEmbedder
from memcube_embedding.embedders.openai import OpenAIEmbedder
from memcube_embedding.embedders.protocol import Embedder, EmbedderUnavailable, TextRefused, embed_each
from memcube_embedding.embedders.retrying import RetryingEmbedder

Open = Callable[[], Awaitable[Embedder]]


@pytest.fixture(params=["fake", "local", "openai", "guarded"])
async def open_embedder(request: pytest.FixtureRequest, models_dir: Path) -> AsyncIterator[Open]:
    """Opens a fresh embedder of each kind."""
    opened: list[Embedder] = []
    async with OpenAIServer(dimensions=48) as server:

        async def open_one() -> Embedder:
            embedder: Embedder
            match request.param:
                case "fake":
                    embedder = FakeEmbedder()
                case "local":
                    embedder = await LocalEmbedder.open(models_dir)
                case "openai":
                    embedder = OpenAIEmbedder(api_key="k", model="m", dimensions=48, base_url=server.url, max_batch=4)
                case _:
                    embedder = RetryingEmbedder(BreakingEmbedder(FakeEmbedder()), attempts=1)
            opened.append(embedder)
            return embedder

        yield open_one
        for embedder in opened:
            await embedder.aclose()


@pytest.fixture
async def embedder(open_embedder: Open) -> Embedder:
    return await open_embedder()


async def test_the_model_says_what_its_vectors_are(embedder: Embedder) -> None:
    model = embedder.model
    assert model.name
    assert model.fingerprint
    assert model.dimensions > 0
    assert model.max_batch > 0


async def test_every_text_gets_a_unit_vector_of_float32(embedder: Embedder) -> None:
    texts = ["The cache was cold.", "x", "日本語のメモ 😀", "a nul \x00 inside", "word " * 3_000]
    vectors = await embedder.embed(texts)
    assert len(vectors) == len(texts)
    for vector in vectors:
        assert vector.shape == (embedder.model.dimensions,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


async def test_nothing_in_nothing_out(embedder: Embedder) -> None:
    assert await embedder.embed([]) == []


async def test_a_vector_does_not_depend_on_its_neighbours_or_their_number(embedder: Embedder) -> None:
    many = [f"note {number} about deployments " + "and more " * (number % 7) for number in range(13)]
    together = await embedder.embed(many)
    for text, vector in zip(many, together, strict=True):
        (alone,) = await embedder.embed([text])
        np.testing.assert_array_equal(alone, vector)


async def test_calls_at_the_same_time_get_their_own_answers(embedder: Embedder) -> None:
    texts = [f"insight number {number}" for number in range(12)]
    together = await asyncio.gather(*(embedder.embed([text]) for text in texts))
    np.testing.assert_array_equal([vectors[0] for vectors in together], await embedder.embed(texts))


async def test_texts_that_say_similar_things_are_nearer_than_others(embedder: Embedder) -> None:
    near, asked, far = await embedder.embed(
        [
            "the payment service times out when the database pool is empty",
            "why does the payment service wait when the database pool is empty",
            "our team lunch moved to thursday noon",
        ]
    )
    assert asked @ near > asked @ far + 0.2


@pytest.mark.parametrize("bad", ["", " \n ", "half of \ud83d an emoji"])
async def test_a_text_nobody_can_embed_is_named_and_its_neighbours_get_their_vectors(
    embedder: Embedder, bad: str
) -> None:
    with pytest.raises(TextRefused) as caught:
        await embedder.embed(["before", bad, "after"])
    assert caught.value.index == 1
    outcomes = await embed_each(embedder, ["before", bad, "after", bad])
    assert [isinstance(outcome, TextRefused) for outcome in outcomes] == [False, True, False, True]
    (before,) = await embedder.embed(["before"])
    np.testing.assert_array_equal(outcomes[0], before)


async def test_a_cancelled_call_leaves_the_embedder_usable(embedder: Embedder) -> None:
    call = asyncio.create_task(embedder.embed([f"text {number}" for number in range(20)]))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert len(await embedder.embed(["still here"])) == 1


async def test_a_closed_embedder_is_unavailable_and_may_be_closed_again(embedder: Embedder) -> None:
    await embedder.aclose()
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(["too late"])
    await embedder.aclose()
