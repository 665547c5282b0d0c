"""Receipts: the fate of every write, and waiting for it."""

from __future__ import annotations

import asyncio
from typing import Literal
from uuid import UUID

from memcube.errors import NotFound, NotYet
from memcube.models import Receipt
from memcube.patience import Patience
from memcube.transport import Transport

_LONGEST_POLL = 10.0
_UNKNOWN = Patience(total=0.0, first_pause=0.05, longest_pause=0.5)


class Receipts:
    """`client.receipts`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, id: UUID | str) -> Receipt:
        """The fate of a write as it stands. Raises NotFound where no write has this id."""
        return await self._transport.ask(Receipt, "GET", f"receipts/{UUID(str(id))}")

    async def wait(
        self, id: UUID | str, until: Literal["stored", "searchable"] = "searchable", timeout: float = 30.0
    ) -> Receipt:
        """Wait until the write is `stored` or `searchable`, at most `timeout` seconds.

        Returns early where nothing more will happen: look at `state`, which may be `failed` or `parked`.
        An id not known yet is waited for as well: an insight sent over NATS is known once it was taken in.
        Raises NotYet, which carries the receipt, when the time is over; NotFound if the id was never known by then.
        """
        identity = UUID(str(id))
        clock = asyncio.get_running_loop().time
        give_up = clock() + timeout
        attempt = 0
        while True:
            attempt += 1
            left = max(0.0, give_up - clock())
            poll = min(left, _LONGEST_POLL)
            try:
                receipt = await self._transport.ask(
                    Receipt,
                    "GET",
                    f"receipts/{identity}",
                    params={"wait": until, "timeout": f"{poll:.3f}"},
                    extra_seconds=poll,
                    patience=Patience(total=left),
                )
            except NotFound:
                pause = _UNKNOWN.pause(attempt)
                if clock() + pause > give_up:
                    raise
                await asyncio.sleep(pause)
                continue
            if receipt.has_reached(until) or receipt.is_settled:
                return receipt
            if clock() >= give_up:
                raise NotYet(receipt, until)
            await asyncio.sleep(_UNKNOWN.pause(1))
