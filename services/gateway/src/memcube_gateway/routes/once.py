"""Having an effect once: the Idempotency-Key, the effect and the answer are kept in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from memcube_common.db import Transaction
from memcube_common.errors import KeyReused, QuotaExceeded
from memcube_common.quotas.store import announce_refusal
from memcube_gateway import store
from memcube_gateway.domain import request_hash
from memcube_gateway.routes.door import Visit

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request is answered; `repeated` where it had its effect before."""

    status: int
    body: bytes
    repeated: bool = False

    def response(self) -> Response:
        """The answer as it goes out: a repeat is the same but for a header that says so."""
        headers = {"idempotency-replayed": "true"} if self.repeated else None
        return Response(self.body, self.status, headers, JSON)


async def once(
    visit: Visit, route: str, body: bytes, effect: Callable[[Transaction], Awaitable[tuple[int, bytes]]]
) -> Answered:
    """Run `effect` in a transaction and keep its answer (status, body) under the request's Idempotency-Key, if any.

    The same key with the same body finds the first answer, also while the first is still being made. Raises KeyReused
    for another body, TryAgain where Postgres is away, QuotaExceeded: nothing of the effect is kept then.
    """
    try:
        return await _once(visit, route, body, effect)
    except QuotaExceeded as refused:
        await announce_refusal(visit.room.db, principal=visit.caller.principal, refused=refused)
        raise


async def _once(
    visit: Visit, route: str, body: bytes, effect: Callable[[Transaction], Awaitable[tuple[int, bytes]]]
) -> Answered:
    async with visit.transaction() as tx:
        if visit.idempotency_key is None:
            return Answered(*await effect(tx))
        intent = store.Intent(visit.project, visit.caller.principal.name, route, visit.idempotency_key)
        hashed = request_hash(body)
        given = await store.claim_key(tx, intent=intent, request_hash=hashed)
        if given is not None:
            if given.request_hash != hashed:
                raise KeyReused
            return Answered(given.status, given.body, repeated=True)
        status, answer = await effect(tx)
        await store.keep_answer(tx, intent=intent, status=status, body=answer)
        return Answered(status, answer)
