"""Scripted OpenAI endpoints over real HTTP on loopback, embeddings and chat completions: they answer at once, or fail
the way they are told to.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Self, TypeAlias

import orjson
from pydantic import BaseModel

_WORD = re.compile(r"\w+")
_PLACES_PER_WORD = 8


class Answer(Enum):
    """What one request gets."""

    VECTORS = auto()
    """One vector per text, as asked."""
    SHUFFLED = auto()
    """The right vectors with the right indexes, last one first."""
    TOO_FEW = auto()
    """One vector less than there are texts."""
    WRONG_DIMENSIONS = auto()
    """Vectors one number short."""
    NOT_A_NUMBER = auto()
    """Vectors whose first number is NaN, as Python's own JSON writes it."""
    INFINITE = auto()
    """Vectors whose first number overflows a float."""
    ZERO = auto()
    """Vectors without a direction."""
    HTML = auto()
    """Status 200 and a web page, as a captive proxy sends."""
    GARBAGE = auto()
    """Status 200, JSON by its header, not JSON at all."""
    CUT_BODY = auto()
    """Half of the body that was announced, then a closed connection."""
    HANG_UP = auto()
    """A closed connection without a word."""
    SILENCE = auto()
    """Nothing, until the caller leaves."""


@dataclass(frozen=True, slots=True)
class Status:
    """An error status, with a Retry-After header if given; the body echoes the first text, as some servers do."""

    code: int
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What the language model says: the text of its message, or why it refuses, and how it came to its end."""

    content: str | None = None
    refusal: str | None = None
    finish_reason: str = "stop"


Step: TypeAlias = Answer | Status
Turn: TypeAlias = Answer | Status | Completion


@dataclass(frozen=True, slots=True)
class Asked:
    """One request the server received."""

    model: str
    texts: tuple[str, ...]
    dimensions: int | None
    authorization: str


@dataclass(frozen=True, slots=True)
class Conversed:
    """One question to the language model: what it was told to do, what it was given, and the schema of its answer."""

    model: str
    instructions: str
    data: str
    schema: Mapping[str, object]
    authorization: str


class _Message(BaseModel):
    role: str
    content: str


class _Conversation(BaseModel):
    model: str
    messages: list[_Message]
    response_format: dict[str, object] = {}


class _Body(BaseModel):
    model: str
    input: list[str]
    dimensions: int | None = None
    encoding_format: str = "float"


class OpenAIServer:
    """The endpoint; use it as `async with OpenAIServer() as server` and talk to `server.url`.

    Requests take the scripted steps in order, then `otherwise`. A request with a text for which `refuses` holds gets
    status 400 when its step would have answered vectors. With `apart`, vectors of two models have nothing in common.
    Questions to the language model take the steps of `converse`
    in order, then what `says` makes of them; without it, `{}`.
    """

    def __init__(
        self,
        *,
        dimensions: int = 384,
        otherwise: Step = Answer.VECTORS,
        refuses: Callable[[str], bool] = lambda _: False,
        apart: bool = False,
        says: Callable[[Conversed], Turn] = lambda _: Completion("{}"),
    ) -> None:
        self.dimensions = dimensions
        self.otherwise = otherwise
        self.refuses = refuses
        self.apart = apart
        self.says = says
        self.asked: list[Asked] = []
        self.conversed: list[Conversed] = []
        self.most_at_once = 0
        self._script: deque[Step] = deque()
        self._turns: deque[Turn] = deque()
        self._at_once = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[object]] = set()

    @property
    def url(self) -> str:
        """The base URL a client is given."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/v1"

    def script(self, *steps: Step) -> None:
        """Answer the next requests this way, one step each."""
        self._script.extend(steps)

    def converse(self, *turns: Turn) -> None:
        """Answer the next questions to the language model this way, one turn each."""
        self._turns.extend(turns)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        try:
            while await self._answer_one(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the caller left, or the server closes; asyncio would log a cancelled handler
        finally:
            writer.close()
            self._serving.discard(serving)

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may carry another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        if lines[0].startswith("POST /v1/chat/completions "):
            return await self._converse(
                _Conversation.model_validate_json(content), headers.get("authorization", ""), reader, writer
            )
        if not lines[0].startswith("POST /v1/embeddings "):
            _respond(writer, HTTPStatus.NOT_FOUND, b"{}")
            return True
        body = _Body.model_validate_json(content)
        self.asked.append(Asked(body.model, tuple(body.input), body.dimensions, headers.get("authorization", "")))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            step = self._script.popleft() if self._script else self.otherwise
            return await self._take(step, body, reader, writer)
        finally:
            self._at_once -= 1

    async def _converse(
        self, body: _Conversation, authorization: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        asked = Conversed(
            body.model,
            "\n".join(message.content for message in body.messages if message.role == "system"),
            "\n".join(message.content for message in body.messages if message.role == "user"),
            body.response_format,
            authorization,
        )
        self.conversed.append(asked)
        turn = self._turns.popleft() if self._turns else self.says(asked)
        match turn:
            case Status():
                extra = {"retry-after": turn.retry_after} if turn.retry_after is not None else {}
                error = {"error": {"message": f"cannot serve this: {asked.data[:100]}", "type": "scripted"}}
                _respond(writer, turn.code, orjson.dumps(error), extra=extra)
                return True
            case Completion():
                message = {"role": "assistant", "content": turn.content, "refusal": turn.refusal}
                content = orjson.dumps(
                    {
                        "id": "chatcmpl-scripted",
                        "object": "chat.completion",
                        "created": 0,
                        "model": body.model,
                        "choices": [{"index": 0, "message": message, "finish_reason": turn.finish_reason}],
                    }
                )
                _respond(writer, HTTPStatus.OK, content)
                return True
            case Answer.SILENCE:
                await reader.read()  # until the caller hangs up
                return False
            case Answer.HTML:
                _respond(writer, HTTPStatus.OK, b"<html><body>Welcome</body></html>", kind="text/html")
                return True
            case Answer.GARBAGE:
                _respond(writer, HTTPStatus.OK, b"insights: many")
                return True
            case Answer.CUT_BODY:
                _respond(writer, HTTPStatus.OK, b'{"choices": [', announced=1_000)
                return False
            case _:
                return False

    async def _take(self, step: Step, body: _Body, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if isinstance(step, Status):
            extra = {"retry-after": step.retry_after} if step.retry_after is not None else {}
            _respond(writer, step.code, _error(body), extra=extra)
            return True
        match step:
            case Answer.SILENCE:
                await reader.read()  # until the caller hangs up
                return False
            case Answer.HANG_UP:
                return False
            case Answer.HTML:
                _respond(writer, HTTPStatus.OK, b"<html><body>Welcome</body></html>", kind="text/html")
                return True
            case Answer.GARBAGE:
                _respond(writer, HTTPStatus.OK, b"vectors: many")
                return True
            case _ if any(self.refuses(text) for text in body.input):
                _respond(writer, HTTPStatus.BAD_REQUEST, _error(body))
                return True
            case _:
                content = self._vectors(step, body)
                announced = len(content) * 2 if step is Answer.CUT_BODY else len(content)
                _respond(writer, HTTPStatus.OK, content, announced=announced)
                return step is not Answer.CUT_BODY

    def _vectors(self, step: Answer, body: _Body) -> bytes:
        dimensions = (body.dimensions or self.dimensions) - (step is Answer.WRONG_DIMENSIONS)
        salt = body.model if self.apart else ""
        vectors = [hashed_vector(text, dimensions, salt=salt) for text in body.input]
        if step is Answer.ZERO:
            vectors = [[0.0] * dimensions for _ in vectors]
        data = [{"object": "embedding", "index": place, "embedding": v} for place, v in enumerate(vectors)]
        if step is Answer.SHUFFLED:
            data.reverse()
        if step is Answer.TOO_FEW:
            data.pop()
        content = orjson.dumps(
            {"object": "list", "data": data, "model": body.model, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        )
        strange = {Answer.NOT_A_NUMBER: b"NaN", Answer.INFINITE: b"1e999"}.get(step)
        return re.sub(rb'("embedding":\[)[^,]+', rb"\g<1>" + strange, content) if strange else content


def hashed_vector(text: str, dimensions: int, *, salt: str = "") -> list[float]:
    """A unit vector made of the text's hashed words: the same every time, and near for texts that share words."""
    numbers = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        digest = hashlib.sha256(f"{salt}{word}".encode(errors="surrogatepass")).digest()
        for place in range(_PLACES_PER_WORD):
            chunk = int.from_bytes(digest[place * 4 : place * 4 + 4], "big")
            numbers[(chunk >> 1) % dimensions] += 1.0 if chunk & 1 else -1.0
    length = math.sqrt(sum(number * number for number in numbers))
    if length == 0.0:
        return [1.0] + [0.0] * (dimensions - 1)
    return [number / length for number in numbers]


def _error(body: _Body) -> bytes:
    echo: Sequence[str] = body.input[:1]
    return orjson.dumps({"error": {"message": f"cannot serve this input: {echo}", "type": "scripted", "code": None}})


def _respond(
    writer: asyncio.StreamWriter,
    status: int,
    content: bytes,
    *,
    kind: str = "application/json",
    extra: Mapping[str, str] | None = None,
    announced: int | None = None,
) -> None:
    length = len(content) if announced is None else announced
    headers = {"content-type": kind, "content-length": str(length), **(extra or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode("latin-1") + content)
