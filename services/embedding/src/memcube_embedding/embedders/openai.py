"""Embeds over HTTP: OpenAI's embeddings endpoint, or any server that speaks it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeAlias, assert_never

import openai
from pydantic import BaseModel, ConfigDict, ValidationError

from memcube_embedding.embedders.protocol import (
    EmbedderUnavailable,
    EmbeddingModel,
    Outcome,
    TextRefused,
    Vector,
    vectors_or_refusal,
)
from memcube_embedding.embedders.truncation import Truncation
from memcube_embedding.embedders.validation import InvalidVector, unit_vector, why_refused

MAX_INPUT_TOKENS = 8191
"""Tokens of one text OpenAI's embedding models read; https://platform.openai.com/docs/guides/embeddings."""

MAX_REQUEST_BYTES = 262_144
"""Most text bytes in one request. A token is at least a byte, so this stays below OpenAI's 300,000 tokens a request."""

_LONGEST_REST = 300.0
_REST_AFTER_REFUSED_KEY = 30.0
_PROBE_TEXT = "memory"


class _Item(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)
    index: int
    embedding: list[float]


class _Answer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)
    data: list[_Item]


@dataclass(frozen=True, slots=True)
class _Unavailable:
    """The service did not answer usably; ask again after so many seconds."""

    detail: str
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class _Refused:
    """The service answered that it will never take this request."""

    reason: str


_Reply: TypeAlias = "list[Vector] | _Unavailable | _Refused"


class OpenAIEmbedder:
    """One request per batch and no retries: those, and the circuit breaker, are composed around it.

    `timeout` is seconds for a whole request. At most `concurrency` requests are under way at once. With
    `send_dimensions` the wanted length is part of the request, which older and some self-hosted models refuse.
    `wall_clock` is seconds since the epoch, for a Retry-After given as a date.
    """

    def __init__(
        self,
        *,
        api_key: str,
        model: str,
        dimensions: int,
        base_url: str = "https://api.openai.com/v1",
        send_dimensions: bool = True,
        timeout: float = 10.0,
        max_batch: int = 64,
        concurrency: int = 4,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._model = EmbeddingModel(
            name=model, dimensions=dimensions, max_batch=max_batch, fingerprint=f"openai/{model}/{dimensions}"
        )
        self._client = openai.AsyncOpenAI(api_key=api_key, base_url=base_url, max_retries=0, timeout=timeout)
        logging.getLogger("openai").setLevel(logging.WARNING)  # its debug lines may hold what was sent
        self._dimensions = dimensions if send_dimensions else openai.omit
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._wall_clock = wall_clock
        self._truncation = Truncation(MAX_INPUT_TOKENS)
        self._closed = False

    @property
    def model(self) -> EmbeddingModel:
        """The remote model, under the name it is asked for by."""
        return self._model

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One unit vector per text, in order; a text longer than the model reads is cut at its 8,191st token.

        Raises `TextRefused` (carrying its neighbours' vectors) when the service refuses a text by itself, and
        `EmbedderUnavailable` on timeouts, lost connections, refused keys, 429, 5xx and answers that are not vectors.
        """
        outcomes: dict[int, Outcome] = {}
        accepted: dict[int, str] = {}
        for place, text in enumerate(texts):
            reason = why_refused(text)
            if reason is None:
                accepted[place] = await self._truncation.cut(text)
            else:
                outcomes[place] = TextRefused(place, reason)
        batches = list(_batches(accepted, self._model.max_batch))
        replies = await asyncio.gather(
            *(self._embed_batch(batch, accepted) for batch in batches), return_exceptions=True
        )
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
            outcomes.update(reply)
        return vectors_or_refusal([outcomes[place] for place in range(len(texts))])

    async def aclose(self) -> None:
        """Close the connections; later calls raise `EmbedderUnavailable`."""
        self._closed = True
        await self._client.close()

    async def _embed_batch(self, places: Sequence[int], texts: dict[int, str]) -> dict[int, Outcome]:
        """The outcome of each place; halves a refused batch until the refused text stands alone."""
        outcomes: dict[int, Outcome] = {}
        settings_trusted = False
        waiting = [list(places)]
        while waiting:
            batch = waiting.pop()
            reply = await self._request([texts[place] for place in batch])
            match reply:
                case list() as vectors:
                    settings_trusted = True
                    outcomes.update(zip(batch, vectors, strict=True))
                case _Unavailable() as failure:
                    raise EmbedderUnavailable(failure.detail, after=failure.after)
                case _Refused() if not settings_trusted:
                    await self._require_a_plain_text_to_pass()
                    settings_trusted = True
                    waiting.append(batch)
                case _Refused() if len(batch) > 1:
                    middle = len(batch) // 2
                    waiting += [batch[middle:], batch[:middle]]
                case _Refused() as refusal:
                    outcomes[batch[0]] = TextRefused(batch[0], refusal.reason)
                case _:
                    assert_never(reply)
        return outcomes

    async def _require_a_plain_text_to_pass(self) -> None:
        """Before a text is blamed: the fault may be the model's name or the dimensions, which no text would pass."""
        reply = await self._request([_PROBE_TEXT])
        match reply:
            case list():
                return
            case _Unavailable() as failure:
                raise EmbedderUnavailable(failure.detail, after=failure.after)
            case _Refused() as refusal:
                detail = f"the embedding service refuses every text ({refusal.reason}): check the model's settings"
                raise EmbedderUnavailable(detail, after=_REST_AFTER_REFUSED_KEY)
            case _:
                assert_never(reply)

    async def _request(self, texts: list[str]) -> _Reply:
        # No failure of the client is chained to ours: its message may quote what was sent.
        if self._closed:
            return _Unavailable("the embedder is closed")
        try:
            async with self._slots, asyncio.timeout(self._timeout):
                response = await self._client.embeddings.with_raw_response.create(
                    model=self._model.name, input=texts, dimensions=self._dimensions, encoding_format="float"
                )
                body = response.content
        except openai.APIStatusError as error:
            return self._explain(error)
        except (openai.APITimeoutError, TimeoutError):
            return _Unavailable("the embedding service did not answer in time")
        except openai.APIConnectionError:
            return _Unavailable("the connection to the embedding service failed")
        except openai.OpenAIError as error:
            return _Unavailable(f"the embedding service's answer was not understood ({type(error).__name__})")
        return self._vectors(body, len(texts))

    def _explain(self, error: openai.APIStatusError) -> _Unavailable | _Refused:
        status = error.status_code
        if status in (400, 413, 422):
            return _Refused(f"the embedding service answered {status}")
        detail = f"the embedding service answered {status}"
        if status in (401, 403, 404):
            return _Unavailable(f"{detail}: check its key, address and model", after=_REST_AFTER_REFUSED_KEY)
        asked = seconds_of_retry_after(error.response.headers.get("retry-after"), now=self._wall_clock())
        return _Unavailable(detail, after=min(asked or 0.0, _LONGEST_REST))

    def _vectors(self, body: bytes, expected: int) -> list[Vector] | _Unavailable:
        try:
            items = sorted(_Answer.model_validate_json(body).data, key=lambda item: item.index)
        except ValidationError:
            return _Unavailable("the embedding service's answer was not a list of vectors")
        if [item.index for item in items] != list(range(expected)):
            return _Unavailable(f"the embedding service answered {len(items)} vectors for {expected} texts")
        try:
            return [unit_vector(item.embedding, dimensions=self._model.dimensions, index=item.index) for item in items]
        except InvalidVector as invalid:
            return _Unavailable(f"the embedding service's answer was not usable: {invalid}")


def seconds_of_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds to wait by a Retry-After header: a number or an HTTP date (RFC 9110, 10.2.3); None when neither.

    `now` is seconds since the epoch. A date in the past means 0.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds < float("inf") else None


def _batches(texts: dict[int, str], max_batch: int) -> Iterator[list[int]]:
    """The places of `texts` in requests of at most `max_batch` texts and `MAX_REQUEST_BYTES` bytes (or one text)."""
    batch: list[int] = []
    size = 0
    for place, text in texts.items():
        length = len(text.encode())
        if batch and (len(batch) == max_batch or size + length > MAX_REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += length
    if batch:
        yield batch
