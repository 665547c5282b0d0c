"""Having an effect once: the Idempotency-Key, the effect and the answer are kept in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from memcube_common.db import Transaction
from memcube_common.errors import MemCubeError, QuotaExceeded
from memcube_common.quotas.store import announce_refusal
from memcube_gateway.domain import request_hash
from memcube_gateway.routes.door import Visit
from memcube_gateway.store import Intent, find_answer
from memcube_gateway.together import JSON, Answered, once_each, repeated

__all__ = ["JSON", "Answered", "answered_before", "intent_of", "once"]


async def once(
    visit: Visit,
    route: str,
    body: bytes,
    effect: Callable[[Transaction], Awaitable[tuple[int, bytes]]],
    *,
    about: UUID | None = None,
) -> Answered:
    """Run `effect` in a transaction and keep its answer (status, body) under the request's Idempotency-Key, if any.

    The same key with the same body finds the first answer, also while the first is still being made. about: the memory
    whose content the answer tells: when that is purged, the answer goes too. Raises KeyReused for another body,
    NotFound where the answer went with its memory, TryAgain where Postgres is away, QuotaExceeded: nothing of the
    effect is kept then.
    """
    try:
        async with visit.transaction() as tx:

            async def alone(_: Sequence[int]) -> list[tuple[int, bytes]]:
                return [await effect(tx)]

            (answered,) = await once_each(tx, [intent_of(visit, route, body, about)], alone)
            if isinstance(answered, MemCubeError):
                raise answered
            return answered
    except QuotaExceeded as refused:
        await announce_refusal(visit.room.db, principal=visit.caller.principal, refused=refused)
        raise


async def answered_before(visit: Visit, route: str, body: bytes) -> Answered | None:
    """What was answered under the request's Idempotency-Key, if anything: looked at before what is costly to prepare.

    It claims nothing: the effect itself still runs in `once`. Raises as `once` does.
    """
    intent = intent_of(visit, route, body, None)
    if intent is None:
        return None
    async with visit.transaction() as tx:
        given = await find_answer(tx, intent=intent)
    if given is None:
        return None
    answered = repeated(intent, given)
    if isinstance(answered, MemCubeError):
        raise answered
    return answered


def intent_of(visit: Visit, route: str, body: bytes, about: UUID | None) -> Intent | None:
    """What is to happen once, where the request says so by an Idempotency-Key."""
    if visit.idempotency_key is None:
        return None
    return Intent(route, visit.idempotency_key, request_hash(body), about)
