"""What is written is screened as the project decided, before anything of it is stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, TypeVar

from pydantic import BaseModel

from memcube_common.errors import TooLarge
from memcube_common.language.protocol import Extracted
from memcube_common.memories.domain import pack
from memcube_common.screening import screen_change_soon, screen_content_soon, screen_writing_soon, size_of
from memcube_common.screening.insights import screen_extracted_soon
from memcube_common.screening.threads import COST_MOST
from memcube_gateway.payloads.receiving import Received
from memcube_gateway.routes.door import Visit

M = TypeVar("M", bound=BaseModel)

SCREENED_MOST: Final = 18 * 64 * 1024
"""Characters of one request that are screened: the longest conversation and what stands beside it."""

LEAST_SECONDS: Final = 0.05


async def screened(visit: Visit, body: M) -> M:
    """A body that makes something, as it may be stored, marked with what was found. Raises as `screened_all`."""
    return (await screened_all(visit, [body]))[0]


async def screened_all(visit: Visit, bodies: Sequence[M]) -> list[M]:
    """Bodies that make something, as they may be stored, marked with what was found.

    Where nothing is screened they cost nothing. Raises Invalid, TooLarge over `SCREENED_MOST` characters or where they
    cost too much, TryAgain where the request's patience ends first.
    """
    how = (await visit.settings()).screening
    if how == "off":
        return list(bodies)
    if size_of(bodies, SCREENED_MOST) > SCREENED_MOST:
        raise TooLarge(f"This project screens what is written: one request may hold {SCREENED_MOST} characters.")
    async with visit.patience.spent():
        return await screen_writing_soon(bodies, how, visit.room.screening, within=_within(visit))


async def screened_change(visit: Visit, body: M) -> tuple[M, Collection[str]]:
    """A body that changes something, as it may be stored, and the kinds that were found. Raises as `screened_all`."""
    how = (await visit.settings()).screening
    async with visit.patience.spent():
        return await screen_change_soon(body, how, visit.room.screening, within=_within(visit))


async def screened_text(visit: Visit, text: str) -> tuple[str, Collection[str]]:
    """A text as it may be stored, and the kinds that were found. Raises as `screened_all`."""
    how = (await visit.settings()).screening
    async with visit.patience.spent():
        return await screen_content_soon(text, how, visit.room.screening, within=_within(visit))


async def screened_payload(visit: Visit, received: Received) -> tuple[Received, Collection[str]]:
    """A payload as it may be stored, and the kinds found; bytes are not looked into. Raises as `screened_all`."""
    text, kinds = await screened_text(visit, received.text)
    return received if text == received.text else Received(pack(text), text), kinds


async def screened_extracted(visit: Visit, found: Sequence[Extracted]) -> list[Extracted]:
    """What a language model found, as it may be stored, with the kinds in it. Raises TooLarge, TryAgain."""
    how = (await visit.settings()).screening
    async with visit.patience.spent():
        return await screen_extracted_soon(found, how, visit.room.screening, within=_within(visit), cost_most=COST_MOST)


def _within(visit: Visit) -> float:
    return max(LEAST_SECONDS, visit.patience.left)
