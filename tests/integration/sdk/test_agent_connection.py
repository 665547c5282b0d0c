"""Agents publish over a real NATS server: once however often it is tried, and through its absence."""

# nats-py carries no complete types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from nats.js.api import StreamConfig

from memcube import NotSignedIn, Patience, TooLarge, Unreachable
from memcube.bodies import new_id
from memcube.bus import AgentConnection, NotAllPublished
from memcube_common.embedded import EmbeddedNats

SUBJECT = "memcube.demo.insight.v1.submitted.builder"


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[EmbeddedNats]:
    async with EmbeddedNats(tmp_path_factory.mktemp("nats"), name="memcube-sdk-test") as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(
            StreamConfig(name="INSIGHTS", subjects=["memcube.*.insight.v1.submitted.*"], max_msg_size=256 * 1024)
        )
        await client.close()
        yield server


async def stored(server: EmbeddedNats) -> list[dict[str, object]]:
    """Every insight in the stream, oldest first."""
    client = await nats.connect(server.url)
    try:
        state = (await client.jetstream().stream_info("INSIGHTS")).state
        messages = [
            await client.jetstream().get_msg("INSIGHTS", seq) for seq in range(state.first_seq, state.last_seq + 1)
        ]
    finally:
        await client.close()
    return [json.loads(message.data or b"") for message in messages if message.subject == SUBJECT]


async def test_an_insight_is_acknowledged_by_the_stream_and_kept_once(server: EmbeddedNats) -> None:
    identity = new_id()
    async with AgentConnection(server.url, project="demo", agent="builder") as agent:
        first = await agent.publish_insight("Warm the cache.", id=identity, tags=["deploy"], sentiment=0.5)
        again = await agent.publish_insight("Warm the cache.", id=identity, tags=["deploy"], sentiment=0.5)

    assert (first.id, first.duplicate) == (identity, False)
    assert (again.sequence, again.duplicate) == (first.sequence, True)
    kept = [insight for insight in await stored(server) if insight["id"] == str(identity)]
    assert kept == [{"insight": "Warm the cache.", "tags": ["deploy"], "sentiment": 0.5, "id": str(identity)}]


async def test_many_are_published_in_a_window_and_told_in_order(server: EmbeddedNats) -> None:
    ids = [new_id() for _ in range(300)]
    async with AgentConnection(server.url, project="demo", agent="builder") as agent:
        published = await agent.publish_many(
            ({"id": identity, "insight": f"Learned {identity}."} for identity in ids), window=64
        )

    assert [one.id for one in published] == ids
    assert {str(identity) for identity in ids} <= {insight["id"] for insight in await stored(server)}


async def test_one_refused_insight_does_not_keep_the_others_back(server: EmbeddedNats) -> None:
    ids = [new_id() for _ in range(3)]
    texts = ["Small.", "x" * 300_000, "Small too."]
    async with AgentConnection(server.url, project="demo", agent="builder") as agent:
        with pytest.raises(NotAllPublished) as partly:
            await agent.publish_many({"id": i, "insight": t} for i, t in zip(ids, texts, strict=True))

    assert sorted(partly.value.published) == [0, 2]
    assert isinstance(partly.value.failed[1], TooLarge)


async def test_a_publish_waits_out_a_server_that_restarts(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path / "nats", name="memcube-sdk-restart") as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(StreamConfig(name="INSIGHTS", subjects=[SUBJECT]))
        await client.close()
        async with AgentConnection(server.url, project="demo", agent="builder", publish_timeout=1.0) as agent:
            await agent.publish_insight("Before.")
            await server.stop()
            publishing = asyncio.create_task(agent.publish_insight("Meanwhile."))
            await asyncio.wait({publishing}, timeout=0.2)
            assert not publishing.done()
            await server.start()
            sent = await publishing

        assert [insight["insight"] for insight in await stored(server)] == ["Before.", "Meanwhile."]
        assert (await stored(server))[1]["id"] == str(sent.id)


async def test_patience_ends_where_nothing_takes_insights(server: EmbeddedNats) -> None:
    quick = Patience(total=0.0, first_pause=0.01, longest_pause=0.01)
    await server.stop()
    try:
        with pytest.raises(Unreachable):
            async with AgentConnection(server.url, project="demo", agent="b", publish_timeout=1.0, patience=quick):
                pass
    finally:
        await server.start()


async def test_wrong_credentials_are_said_to_be_wrong(server: EmbeddedNats) -> None:
    wrong = f"nats://memcube:wrong@127.0.0.1:{server.port}"
    with pytest.raises(NotSignedIn):
        async with AgentConnection(wrong, project="demo", agent="b", publish_timeout=1.0, patience=Patience(total=1.0)):
            pass


async def test_receipts_are_heard_from_the_moment_the_stream_is_open(server: EmbeddedNats) -> None:
    identity = new_id()
    news = {"id": "demo/7", "project": "demo", "position": 7, "receipt_id": str(identity), "agent": "builder"}
    async with AgentConnection(server.url, project="demo", agent="builder") as agent, agent.receipts() as receipts:
        other = await nats.connect(server.url)
        for subject in ("memcube.demo.receipt.v1.stored.other", "memcube.demo.receipt.v1.stored.builder"):
            await other.publish(subject, json.dumps(news).encode())
        await other.publish("memcube.demo.receipt.v1.searchable.builder", b"not json")
        await other.publish("memcube.demo.receipt.v1.searchable.builder", json.dumps(news).encode())
        await other.close()
        heard = [await anext(receipts), await anext(receipts)]

    assert [one.type for one in heard] == ["receipt.v1.stored", "receipt.v1.searchable"]
    assert {one.receipt_id for one in heard} == {identity}


@pytest.mark.parametrize(
    ("project", "agent"), [("Demo", "a"), ("demo.x", "a"), ("demo", "a.b"), ("demo", "*"), ("", "a")]
)
def test_names_that_may_not_stand_in_a_subject_are_refused(project: str, agent: str) -> None:
    with pytest.raises(ValueError, match="1-6"):
        AgentConnection("nats://127.0.0.1:1", project=project, agent=agent)
