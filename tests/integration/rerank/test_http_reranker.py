"""The reranker over HTTP: asked in the common shape, its scores in our order; anything else is one kind of failure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr
from tests.fakes.scripted_http import Answered, Asked, scripted

from memcube_common.rerank.build import build_reranker
from memcube_common.rerank.http import HttpReranker
from memcube_common.rerank.protocol import RerankerUnavailable
from memcube_common.rerank.settings import RerankSettings

SECRETS: dict[str, Any] = {"postgres_dsn": SecretStr("postgresql://x"), "nats_url": SecretStr("nats://x")}


def by_words(asked: Asked) -> Answered:
    """Scores by shared words, best first, as the endpoint has it."""
    words = set(asked.json["query"].split())
    scored = [(len(words & set(text.split())), place) for place, text in enumerate(asked.json["documents"])]
    results = [{"index": place, "relevance_score": score} for score, place in sorted(scored, reverse=True)]
    return Answered(200, {"id": "x", "results": results, "meta": {}})


async def test_scores_come_in_the_order_of_what_was_asked() -> None:
    async with scripted(always=by_words) as server:
        settings = RerankSettings(**SECRETS, rerank_url=f"{server.url}/v1/rerank", rerank_key=SecretStr("sk-x"))
        reranker = build_reranker(settings)
        assert reranker is not None
        scores = await reranker.scores("where is tea", ["no", "tea is where it was", "tea"])
        nothing = await reranker.scores("where is tea", [])
        await reranker.aclose()
    assert (scores, nothing, reranker.name) == ([0, 3, 1], [], "rerank")
    (asked,) = server.asked
    assert (asked.path, asked.headers["authorization"]) == ("/v1/rerank", "Bearer sk-x")
    assert asked.json == {
        "model": "rerank", "query": "where is tea", "documents": ["no", "tea is where it was", "tea"], "top_n": 3
    }  # fmt: skip


def test_without_an_address_there_is_none() -> None:
    assert build_reranker(RerankSettings(**SECRETS)) is None


def results(*pairs: tuple[Any, Any]) -> Answered:
    return Answered(200, json.dumps({"results": [{"index": i, "relevance_score": s} for i, s in pairs]}))


@pytest.mark.parametrize(
    ("answer", "detail", "after"),
    [
        (results((0, 1.0)), "each text once", 0),
        (results((0, 1.0), (0, 2.0)), "each text once", 0),
        (results((0, 1.0), (7, 2.0)), "each text once", 0),
        (results((0, 1.0), (-1, 2.0)), "could not be read", 0),
        (results((0, 1.0), (1, float("nan"))), r"no numbers|could not be read", 0),
        (results((0, 1.0), (1, None)), "could not be read", 0),
        (Answered(200, "<html>"), "could not be read", 0),
        (Answered(200, "x" * 1_100_000), "too long", 0),
        (Answered(429, {"error": "a document of yours"}, {"Retry-After": "7"}), "answered 429", 7),
        (Answered(500, {}, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}), "answered 500", 0),
        (Answered(302, "", {"Location": "http://127.0.0.1:9/"}), "answered 302", 0),
        (Answered(hang_up=True), "could not be asked", 0),
        (Answered(200, "", {"Content-Type": "text/event-stream"}, hold=True), "in time", 0),
    ],
)
async def test_whatever_is_no_score_for_each_is_said_and_quotes_nothing(
    answer: Answered, detail: str, after: float
) -> None:
    async with scripted(answer) as server:
        reranker = HttpReranker(server.url, model="m", timeout=0.3)
        with pytest.raises(RerankerUnavailable, match=detail) as caught:
            await reranker.scores("a question of mine", ["one of mine", "another"])
        await reranker.aclose()
    assert caught.value.after == after
    assert "mine" not in caught.value.detail
    assert caught.value.__cause__ is None


async def test_where_nobody_listens_it_says_so() -> None:
    reranker = HttpReranker("http://127.0.0.1:9/rerank", model="m")
    with pytest.raises(RerankerUnavailable, match="could not be asked"):
        await reranker.scores("?", ["a"])
    await reranker.aclose()


@pytest.mark.parametrize("given", [{"rerank_url": "ftp://x"}, {"rerank_key": SecretStr("a b")}, {"rerank_within": 0}])
def test_unfit_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(?i)rerank"):
        RerankSettings(**SECRETS, **given)
