"""Everything an embeddings endpoint does wrong in practice, over real HTTP: never a bad vector, never a lost text."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate

import numpy as np
import pytest

from memcube_common.testing.openai_server import Answer, OpenAIServer, Status, Step
from memcube_embedding.embedders.breaker import BreakingEmbedder, Circuit
from memcube_embedding.embedders.openai import MAX_INPUT_TOKENS, OpenAIEmbedder, seconds_of_retry_after
from memcube_embedding.embedders.protocol import (
    CircuitOpen,
    Embedder,
    EmbedderUnavailable,
    TextRefused,
    embed_each,
)
from memcube_embedding.embedders.retrying import RetryingEmbedder
from memcube_embedding.embedders.truncation import Truncation

DIMENSIONS = 16
NOW = 1_700_000_000.0
CONTENT = "the launch code is 0000"

Make = Callable[..., OpenAIEmbedder]


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer(dimensions=DIMENSIONS) as server:
        yield server


@pytest.fixture
async def make(server: OpenAIServer) -> AsyncIterator[Make]:
    """Makes embedders that talk to the scripted server."""
    made: list[OpenAIEmbedder] = []

    def make_one(**settings: object) -> OpenAIEmbedder:
        arguments: dict[str, object] = {
            "api_key": "secret-key",
            "model": "some-model",
            "dimensions": DIMENSIONS,
            "base_url": server.url,
            "wall_clock": lambda: NOW,
            **settings,
        }
        made.append(OpenAIEmbedder(**arguments))  # pyright: ignore[reportArgumentType]  (named once, above)
        return made[-1]

    yield make_one
    for embedder in made:
        await embedder.aclose()


def is_forbidden(text: str) -> bool:
    return "forbidden" in text


async def no_wait(_: float) -> None:
    """A sleep that takes no time."""


async def test_a_request_names_the_model_the_dimensions_and_the_key(server: OpenAIServer, make: Make) -> None:
    await make().embed(["a", "b"])
    (asked,) = server.asked
    assert asked.model == "some-model"
    assert asked.texts == ("a", "b")
    assert asked.dimensions == DIMENSIONS
    assert asked.authorization == "Bearer secret-key"


async def test_dimensions_are_left_out_for_models_that_refuse_them(server: OpenAIServer, make: Make) -> None:
    await make(send_dimensions=False).embed(["a"])
    assert server.asked[0].dimensions is None


async def test_long_calls_are_split_and_so_many_requests_run_at_once(server: OpenAIServer, make: Make) -> None:
    await make(max_batch=2, concurrency=3).embed([f"text {number}" for number in range(14)])
    assert [len(asked.texts) for asked in server.asked] == [2] * 7
    assert server.most_at_once <= 3


async def test_a_request_stays_below_the_tokens_one_may_hold(server: OpenAIServer, make: Make) -> None:
    await make().embed(["word " * 6_000] * 20)
    assert len(server.asked) == 3
    assert all(sum(map(len, asked.texts)) <= 262_144 for asked in server.asked)


async def test_vectors_are_matched_by_their_index(server: OpenAIServer, make: Make) -> None:
    embedder = make()
    expected = await embedder.embed(["a", "b", "c"])
    server.script(Answer.SHUFFLED)
    np.testing.assert_array_equal(await embedder.embed(["a", "b", "c"]), expected)


@pytest.mark.parametrize(
    "step",
    [
        Answer.TOO_FEW,
        Answer.WRONG_DIMENSIONS,
        Answer.NOT_A_NUMBER,
        Answer.INFINITE,
        Answer.ZERO,
        Answer.HTML,
        Answer.GARBAGE,
        Answer.CUT_BODY,
        Answer.HANG_UP,
        Answer.SILENCE,
        Status(408),
        Status(409),
        Status(429),
        Status(500),
        Status(502),
        Status(503),
        Status(401),
        Status(403),
        Status(404),
        Status(302),
    ],
    ids=str,
)
async def test_a_fault_is_never_a_vector_and_never_the_texts_fault(
    server: OpenAIServer, make: Make, step: Step
) -> None:
    embedder = make(timeout=0.2 if step is Answer.SILENCE else 10.0)
    server.script(step)
    with pytest.raises(EmbedderUnavailable) as caught:
        await embedder.embed([CONTENT, "b"])
    assert "0000" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    assert len(server.asked) == 1
    assert len(await embedder.embed(["a"])) == 1


@pytest.mark.parametrize(
    ("header", "after"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (formatdate(NOW + 42, usegmt=True), 42.0),
        (formatdate(NOW - 42, usegmt=True), 0.0),
        ("86400", 300.0),
        ("-3", 0.0),
        ("soon", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        (None, 0.0),
    ],
)
async def test_retry_after_is_passed_on_within_bounds(
    server: OpenAIServer, make: Make, header: str | None, after: float
) -> None:
    server.script(Status(429, retry_after=header))
    with pytest.raises(EmbedderUnavailable) as caught:
        await make().embed(["a"])
    assert caught.value.after == after


def test_retry_after_of_neither_kind_is_nothing() -> None:
    assert seconds_of_retry_after("Thu, 99 Nov 2026", now=NOW) is None


async def test_the_refused_text_is_found_and_all_others_get_their_vectors(server: OpenAIServer, make: Make) -> None:
    server.refuses = is_forbidden
    embedder = make(max_batch=16)
    texts = [f"text {number}" for number in range(16)]
    expected = await embedder.embed(texts)
    texts[5] = "forbidden fruit"
    texts[11] = "forbidden city"
    with pytest.raises(TextRefused) as caught:
        await embedder.embed(texts)
    assert caught.value.index == 5
    assert "fruit" not in "".join(traceback.format_exception(caught.value))
    outcomes = await embed_each(embedder, texts)
    assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, TextRefused)] == [5, 11]
    for place in set(range(16)) - {5, 11}:
        np.testing.assert_array_equal(outcomes[place], expected[place])


async def test_no_text_is_blamed_when_the_service_refuses_every_text(server: OpenAIServer, make: Make) -> None:
    server.refuses = bool
    with pytest.raises(EmbedderUnavailable, match="check the model's settings") as caught:
        await make().embed(["a", "b", "c"])
    assert caught.value.after > 0
    assert len(server.asked) == 2


async def test_a_long_text_is_cut_at_the_models_limit_and_a_short_one_is_untouched(
    server: OpenAIServer, make: Make
) -> None:
    long = "naïve 日本語 😀 memory, " * 5_000
    short = "word " * 3_000
    await make().embed([long, short])
    sent_long, sent_short = (text for asked in server.asked for text in asked.texts)
    assert sent_short == short
    assert long.startswith(sent_long)
    assert MAX_INPUT_TOKENS - 8 < Truncation(MAX_INPUT_TOKENS).count(sent_long) <= MAX_INPUT_TOKENS


async def test_no_text_and_no_key_reaches_a_log(
    server: OpenAIServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    embedder = make()
    server.script(Status(500), Answer.CUT_BODY)
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            with pytest.raises(EmbedderUnavailable):
                await embedder.embed([CONTENT])
        await embedder.embed([CONTENT])
    assert "0000" not in caplog.text
    assert "secret-key" not in caplog.text


async def test_retries_carry_a_call_through_a_bad_moment(server: OpenAIServer, make: Make) -> None:
    server.script(Status(429, retry_after="1"), Status(503), Answer.CUT_BODY)
    embedder = RetryingEmbedder(make(), attempts=4, sleep=no_wait)
    assert len(await embedder.embed(["a"])) == 1
    assert len(server.asked) == 4


async def test_a_dead_service_is_asked_a_few_times_then_left_alone_but_for_single_probes(
    server: OpenAIServer, make: Make
) -> None:
    server.otherwise = Status(500)
    now = 0.0
    breaker = BreakingEmbedder(make(), failures=5, probe_interval=5.0, clock=lambda: now)
    embedder: Embedder = RetryingEmbedder(breaker, attempts=4, sleep=no_wait)
    for _ in range(20):
        with pytest.raises(EmbedderUnavailable):
            await embedder.embed(["a"])
    assert len(server.asked) == 5
    for second in range(1, 61):
        now = float(second)
        with pytest.raises(CircuitOpen):
            await embedder.embed(["a"])
    assert len(server.asked) == 5 + 12
    server.otherwise = Answer.VECTORS
    now = 65.0
    assert len(await embedder.embed(["a"])) == 1
    assert breaker.circuit is Circuit.CLOSED
