"""Questions' vectors, asked over the real bus as the gateway asks."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import AsyncGenerator

import nats.errors
import numpy as np
import pytest
import pytest_asyncio
from nats.aio.client import Client
from tests.eventually import eventually
from tests.fakes.embedder import FakeEmbedder
from tests.rooms import bus_client, embedding_room

from memcube_common.bus import Subscribers
from memcube_common.contracts import subjects
from memcube_common.contracts.asks import EmbeddedTexts, EmbedTexts, Refused
from memcube_common.testing.servers import HouseDatabase
from memcube_embedding.embedders.protocol import EmbedderUnavailable
from memcube_embedding.handlers import on_embed_texts
from memcube_embedding.room import Room


@pytest_asyncio.fixture
async def embedder() -> FakeEmbedder:
    """A model that does as it is told."""
    return FakeEmbedder()


@pytest_asyncio.fixture
async def room(database: HouseDatabase, embedder: FakeEmbedder) -> AsyncGenerator[Room]:
    """The room, answering."""
    async with embedding_room(database, embedder) as room:
        subscribers = Subscribers(database.nats_url, "embedding")
        subscribers.on_ask(
            functools.partial(on_embed_texts, room=room), subject=subjects.EMBED_TEXTS, queue="embedding"
        )
        await subscribers.open()
        await eventually(lambda: answers(database.nats_url), within=5)
        embedder.calls.clear()
        yield room
        await subscribers.close()


async def answers(url: str) -> bool:
    async with bus_client(url) as client:
        try:
            return bool(await client.request(subjects.EMBED_TEXTS, b"", timeout=1))
        except nats.errors.Error:
            return False


@pytest_asyncio.fixture(scope="module")
async def asker(database: HouseDatabase) -> AsyncGenerator[Client]:
    """Somebody who asks."""
    async with bus_client(database.nats_url) as client:
        yield client


async def ask(asker: Client, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    return (await asker.request(subjects.EMBED_TEXTS, body, timeout=5, headers=headers)).data


async def test_texts_are_answered_with_unit_vectors_in_their_order(
    room: Room, embedder: FakeEmbedder, asker: Client
) -> None:
    texts = ["one", "two", "one", "drei ä\n"]
    answer = EmbeddedTexts.model_validate_json(await ask(asker, EmbedTexts(texts=texts).model_dump_json().encode()))
    assert (answer.generation, answer.model, answer.dimensions) == (room.models.current.generation, "fake", 64)
    vectors = [np.frombuffer(base64.b64decode(text), dtype="<f4") for text in answer.vectors]
    expected = await FakeEmbedder().embed(texts)
    for vector, other in zip(vectors, expected, strict=True):
        assert vector.shape == (64,)
        np.testing.assert_array_equal(vector, other)
        assert abs(float(np.linalg.norm(vector)) - 1) < 1e-6


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"canary",
        b"[]",
        b'{"texts": []}',
        b'{"texts": "canary"}',
        b'{"texts": [1]}',
        b'{"texts": ["canary\\u0000"]}',
        b'{"texts": ["\\ud800"]}',
        b"[" * 100_000,
        json.dumps({"texts": ["x"] * 65}).encode(),
        b"\xff\xfe",
    ],
)
async def test_what_is_no_ask_is_refused_at_once(room: Room, asker: Client, body: bytes) -> None:
    refused = Refused.model_validate_json(await ask(asker, body))
    assert (refused.code, refused.after) == ("invalid", None)
    assert "canary" not in refused.detail


async def test_an_ask_is_answered_whatever_its_headers_say(room: Room, asker: Client) -> None:
    for kind in ("application/json", "text/plain", "x"):
        body = EmbedTexts(texts=["one"]).model_dump_json().encode()
        EmbeddedTexts.model_validate_json(await ask(asker, body, {"content-type": kind}))
        Refused.model_validate_json(await ask(asker, b"\xffcanary", {"content-type": kind}))


async def test_a_text_no_model_embeds_is_refused_for_good(room: Room, asker: Client) -> None:
    refused = Refused.model_validate_json(await ask(asker, b'{"texts": ["  "]}'))
    assert refused.after is None
    assert refused.code == "text_refused"


async def test_an_embedder_that_is_away_says_when_to_ask_again(
    room: Room, embedder: FakeEmbedder, asker: Client
) -> None:
    embedder.failures.append(EmbedderUnavailable("away", after=7))
    refused = Refused.model_validate_json(await ask(asker, b'{"texts": ["one"]}'))
    assert (refused.code, refused.after) == ("embedder_unavailable", 7)
    EmbeddedTexts.model_validate_json(await ask(asker, b'{"texts": ["one"]}'))


async def test_a_surprise_in_the_model_is_answered_and_does_not_stop_the_room(
    room: Room, embedder: FakeEmbedder, asker: Client
) -> None:
    embedder.failures.append(RuntimeError("canary"))
    refused = Refused.model_validate_json(await ask(asker, b'{"texts": ["one"]}'))
    assert "canary" not in refused.detail
    assert refused.after is not None
    EmbeddedTexts.model_validate_json(await ask(asker, b'{"texts": ["one"]}'))
