"""The change feed: server-sent events, resumed where they broke off."""

from __future__ import annotations

import asyncio
import fnmatch
import json
from collections.abc import AsyncGenerator
from typing import Final, cast

from httpx_sse import ServerSentEvent
from pydantic import ValidationError

from memcube.errors import Unavailable
from memcube.models import Change, Reset
from memcube.patience import Patience
from memcube.transport import Transport

QUIET_SECONDS: Final = 45.0
_ATTEMPTS: Final = 8
_RETURN: Final = Patience(total=0.0, first_pause=0.2, longest_pause=10.0)


async def follow(
    transport: Transport, *, after: int | None, event: str, quiet: float
) -> AsyncGenerator[Change | Reset]:
    """See `MemCubeClient.changes`."""
    position = after
    failures = 0
    while True:
        wait: float | None = None
        try:
            headers = {} if position is None else {"Last-Event-ID": str(position)}
            async with transport.listen("changes", headers=headers, quiet=quiet) as source:
                async for sent in source.aiter_sse():
                    failures = 0
                    wait = wait if sent.retry is None else sent.retry / 1000
                    if sent.event == "reset":
                        reset = _reset(sent)
                        position = reset.position
                        yield reset
                        continue
                    place = _position(sent)
                    if place is None or (position is not None and place <= position):
                        continue
                    position = place
                    change = _change(sent, place)
                    if change is not None and fnmatch.fnmatchcase(change.type, event):
                        yield change
        except Unavailable as error:
            wait = error.after
        failures += 1
        await asyncio.sleep(_RETURN.pause(failures, wait))


async def newest_position(transport: Transport) -> int:
    """See `MemCubeClient.position`."""
    attempt = 0
    while True:
        attempt += 1
        try:
            async with transport.listen("changes", headers={}, quiet=QUIET_SECONDS) as source:
                async for sent in source.aiter_sse():
                    if (position := _position(sent)) is not None:
                        return position
            failure = Unavailable("the change feed ended before it began")
        except Unavailable as error:
            failure = error
        if attempt >= _ATTEMPTS:
            raise failure
        await asyncio.sleep(_RETURN.pause(attempt, failure.after))


def _position(sent: ServerSentEvent) -> int | None:
    return int(sent.id) if sent.id.isascii() and sent.id.isdigit() else None


def _said(sent: ServerSentEvent) -> dict[str, object]:
    try:
        said: object = json.loads(sent.data)
    except ValueError:
        return {}
    return cast("dict[str, object]", said) if isinstance(said, dict) else {}


def _reset(sent: ServerSentEvent) -> Reset:
    """The event's own id is where the stream goes on; its data may speak of other positions."""
    return Reset.model_validate({**_said(sent), "position": _position(sent)})


def _change(sent: ServerSentEvent, position: int) -> Change | None:
    """The change of one event; None for a greeting, a sign of life, and what a newer server says in other words."""
    said = _said(sent)
    if not said or "." not in sent.event:
        return None
    try:
        return Change.model_validate({"type": sent.event, **said, "position": position})
    except ValidationError:
        return None
