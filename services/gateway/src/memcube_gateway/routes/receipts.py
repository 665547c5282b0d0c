"""The fate of a write, now or when it is settled."""

from __future__ import annotations

import time
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.responses import Response

from memcube_common.contracts.api import Receipt
from memcube_common.errors import NotFound, TryAgain
from memcube_common.ids import derive
from memcube_common.insights.receipts import read_receipts
from memcube_gateway.domain import is_settled
from memcube_gateway.handlers import next_news
from memcube_gateway.patience import Patience
from memcube_gateway.routes import reference
from memcube_gateway.routes.door import InVisit, Visit
from memcube_gateway.routes.once import JSON

router = APIRouter(tags=["insights"])

FIRST_LOOK: Final = 0.1
LOOK_WHILE_HEARING: Final = 2.0
LOOK_WHILE_DEAF: Final = 0.5
_RECEIPT: Final = TypeAdapter(Receipt)


@router.get(
    "/v1/projects/{project}/receipts/{receipt_id}",
    operation_id="get_receipt",
    summary="What became of a write",
    response_model=Receipt,
    responses=reference.problems(401, 404, 422, 503),
)
async def get_receipt(
    visit: InVisit,
    receipt_id: Annotated[UUID, Path(description="Id of an insight, a conversation, or a memory written directly.")],
    wait: Annotated[
        Literal["stored", "searchable"] | None, Query(description="Answer when this is reached, or cannot be any more.")
    ] = None,
    timeout: Annotated[float, Query(ge=0, le=30, description="Seconds to wait at most.")] = 10.0,
) -> Response:
    """The receipt as it stands; with `wait`, when the state is reached, at `failed` and `parked`, or at the timeout.

    An id that is not known yet is waited for as well: it may be on its way over NATS.
    """
    if wait is None:
        receipt = await _read(visit, receipt_id)
    else:
        receipt = await _await(visit, receipt_id, wait, timeout)
    if receipt is None:
        raise NotFound
    return Response(_RECEIPT.dump_json(receipt), media_type=JSON)


async def _await(
    visit: Visit, receipt_id: UUID, wait: Literal["stored", "searchable"], seconds: float
) -> Receipt | None:
    """The receipt when it is settled or the time is up.

    Changes on the bus wake it. What says nothing of itself there (a duplicate, a conversation) is looked at after 0.1,
    0.3, 0.7 … seconds, then every two, and twice a second while NATS is away.
    Where Postgres goes away meanwhile, what was seen last is answered. Raises TryAgain where it is away from the start.
    """
    end = time.monotonic() + seconds
    pause = FIRST_LOOK
    receipt: Receipt | None = None
    seen = False
    with visit.room.changes.waiting_for(receipt_id, derive(receipt_id, "memory")) as changed:
        while True:
            changed.clear()
            over = time.monotonic() >= end or visit.room.changes.closing
            try:
                receipt = await _read(visit, receipt_id)
                seen = True
            except TryAgain:
                if not seen:
                    raise
            if over or (receipt is not None and is_settled(receipt, wait)):
                return receipt
            look = LOOK_WHILE_HEARING if visit.room.bus.connected else LOOK_WHILE_DEAF
            if not await next_news(changed, max(0.0, min(look, pause, end - time.monotonic()))):
                pause *= 2


async def _read(visit: Visit, receipt_id: UUID) -> Receipt | None:
    patience = Patience(visit.room.settings.answer_within)
    async with patience.transaction(visit.room.db, visit.caller.principal) as tx:
        receipts = await read_receipts(tx, project=visit.project, ids=[receipt_id])
    return receipts[0] if receipts else None
