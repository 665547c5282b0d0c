"""A correction of nats-py's pull fetch, until a release carries it.

nats-py 2.15/2.16 may raise a bare asyncio.TimeoutError from fetch (nats-io/nats.py#1008); FastStream's batch puller
only expects nats.errors.TimeoutError, so its task dies and a part-filled batch waits for ack_wait.
"""

from __future__ import annotations

from typing import Any

import nats.errors
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext


def correct_fetch() -> None:
    """Make fetch raise the error it documents. Calling it again changes nothing."""
    fetch = JetStreamContext.PullSubscription.fetch
    if getattr(fetch, "corrected", False):
        return

    async def corrected(self: JetStreamContext.PullSubscription, *args: Any, **kwargs: Any) -> list[Msg]:
        try:
            return await fetch(self, *args, **kwargs)
        except nats.errors.TimeoutError:
            raise
        except TimeoutError as error:
            raise nats.errors.TimeoutError from error

    corrected.corrected = True  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    JetStreamContext.PullSubscription.fetch = corrected
