"""A reranker over HTTP, of the shape that Cohere made common and Jina, vLLM, Infinity and others speak."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final

import httpx
import orjson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from memcube_common.rerank.protocol import RerankerUnavailable

ANSWER_MAX: Final = 1024 * 1024
LONGEST_WAIT: Final = 300.0


class _Result(BaseModel):
    index: int = Field(ge=0)
    relevance_score: float


class _Answer(BaseModel):
    results: list[_Result]


_ANSWER: Final = TypeAdapter(_Answer)


class HttpReranker:
    """Asks once and does not try again: who asks has no time for it. timeout: seconds for one whole answer."""

    def __init__(self, url: str, *, model: str, key: str = "", timeout: float = 0.5) -> None:
        self._url = url
        self._model = model
        self._timeout = timeout
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout, follow_redirects=False)

    @property
    def name(self) -> str:
        """The model, as it is asked for."""
        return self._model

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text fits, in their order; no texts ask nobody. Raises RerankerUnavailable."""
        if not texts:
            return []
        asked = {"model": self._model, "query": question, "documents": list(texts), "top_n": len(texts)}
        try:
            async with asyncio.timeout(self._timeout):
                return _in_order(await self._post(orjson.dumps(asked)), len(texts))
        except TimeoutError:
            raise RerankerUnavailable("the reranker did not answer in time") from None
        except httpx.HTTPError as error:
            raise RerankerUnavailable(f"the reranker could not be asked ({type(error).__name__})") from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _post(self, body: bytes) -> bytes:
        """The body of a good answer. Raises RerankerUnavailable for any other, and for one that does not end."""
        async with self._http.stream("POST", self._url, content=body) as answer:
            if answer.status_code != 200:
                after = _seconds(answer.headers.get("retry-after"))
                raise RerankerUnavailable(f"the reranker answered {answer.status_code}", after=after)
            pieces: list[bytes] = []
            size = 0
            async for piece in answer.aiter_bytes():
                size += len(piece)
                if size > ANSWER_MAX:
                    raise RerankerUnavailable("the reranker's answer is too long")
                pieces.append(piece)
        return b"".join(pieces)


def _in_order(answer: bytes, many: int) -> list[float]:
    """The scores by the places of what was asked. Raises RerankerUnavailable where not each has just one."""
    try:
        results = _ANSWER.validate_json(answer).results
    except ValidationError:
        raise RerankerUnavailable("the reranker's answer could not be read") from None
    scores = {result.index: result.relevance_score for result in results}
    if len(scores) != len(results) or scores.keys() != set(range(many)):
        raise RerankerUnavailable("the reranker did not score each text once")
    if not all(math.isfinite(score) for score in scores.values()):
        raise RerankerUnavailable("the reranker's scores are no numbers")
    return [scores[place] for place in range(many)]


def _seconds(said: str | None) -> float:
    """What Retry-After says in seconds, at most five minutes; 0 for a date or nothing."""
    if said is None or not (said.isascii() and said.isdecimal()):
        return 0.0
    return min(float(said[:6]), LONGEST_WAIT)
