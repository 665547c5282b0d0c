"""Bodies as they come in: bounded while they stream, JSON once, every refused field by its path."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request

from memcube_common.errors import Invalid, Malformed, TooLarge
from memcube_gateway.routes.door import InRoom, Stranger
from memcube_gateway.routes.problems import NotJson, TooSlow, field_errors
from memcube_gateway.routes.soundness import faults_of, surrogates_of

T = TypeVar("T")

HEARD_OUT: Final = 4
STRANGERS_MOST: Final = 16 * 1024


async def read_body(request: Request, visit: InRoom) -> bytes:
    """The whole body, at most `body_limit` bytes; 16 KiB of whom nobody knows yet, who could else fill the memory.

    A larger one is not kept; it is heard out to four times the limit, since a sender who is cut off while sending
    does not read the answer, and cut off there. Raises NotJson, TooLarge, TooSlow, Malformed.
    """
    limit = visit.room.settings.body_limit
    if isinstance(visit, Stranger):
        limit = min(limit, STRANGERS_MOST)
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise NotJson
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise NotJson("Send the body without Content-Encoding.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > HEARD_OUT * limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(visit.room.settings.body_within):
            async for piece in request.stream():
                size += len(piece)
                if size <= limit:
                    pieces.append(piece)
                else:
                    pieces.clear()
                    if size > HEARD_OUT * limit:
                        break
    except TimeoutError:
        raise TooSlow from None
    except ClientDisconnect as error:
        raise Malformed("The body ended too early.") from error
    if size > limit:
        raise _too_large(limit)
    return b"".join(pieces)


def parse(adapter: TypeAdapter[T], body: bytes) -> T:
    """The body as a contract model. Raises Malformed (not JSON) or Invalid (every refused field by its path)."""
    try:
        value = adapter.validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        if details[0]["type"] != "json_invalid":
            raise Invalid(errors=field_errors(details)) from None
        if found := surrogates_of(body):
            raise Invalid(errors=found) from None
        raise Malformed(f"The body is not valid JSON: {details[0]['msg'].removeprefix('Invalid JSON: ')}.") from None
    if found := faults_of(body):
        raise Invalid(errors=found)
    return value


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body may be at most {limit} bytes.")
