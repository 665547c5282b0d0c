"""What a project may hold and do, and how much of it is used."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from fastapi import APIRouter
from pydantic import Field, TypeAdapter
from starlette.responses import Response

from memcube_common.contracts.api import Answer
from memcube_common.contracts.fields import QuotaResource
from memcube_common.errors import NotAllowed
from memcube_common.governance.domain import PRIVILEGED
from memcube_common.quotas.domain import DAILY
from memcube_common.quotas.store import read_quotas
from memcube_gateway.routes import reference
from memcube_gateway.routes.door import InVisit
from memcube_gateway.routes.once import JSON

router = APIRouter(tags=["projects"])


class QuotaAnswer(Answer):
    """One resource of a project."""

    resource: QuotaResource
    used: int = Field(description="Taken by what is kept or, of a daily resource, by this UTC day.")
    max: int | None = Field(description="What the project may have of it; null is unlimited.")
    period: Literal["day"] | None = Field(description="'day': counted anew every day, UTC.")
    warned_at: datetime | None = Field(description="When `quota.v1.warned` was announced, if it stands.")
    exhausted_at: datetime | None = Field(description="When `quota.v1.exhausted` was announced, if it stands.")


class QuotaAnswers(Answer):
    """Every resource of a project."""

    quotas: list[QuotaAnswer]


_QUOTAS: Final = TypeAdapter(QuotaAnswers)


@router.get(
    "/v1/projects/{project}/quota",
    operation_id="get_quota",
    summary="What the project may hold, and how much is used",
    response_model=QuotaAnswers,
    responses=reference.problems(401, 403, 404, 422, 503),
)
async def get_quota(visit: InVisit) -> Response:
    """Memories, bytes of their texts, insights a day, packs. The operator sets the maxima (`memcube quota set`).

    For OWNERs, ADMINs and SERVICE keys: it counts memories that others may not see.
    """
    if visit.caller.role not in PRIVILEGED:
        raise NotAllowed("This counts what your role may not see: it is for OWNERs, ADMINs and SERVICE keys.")
    async with visit.transaction() as tx:
        quotas = await read_quotas(tx)
    answers = [
        QuotaAnswer.model_construct(
            resource=quota.resource,
            used=quota.used,
            max=quota.max,
            period="day" if quota.resource in DAILY else None,
            warned_at=quota.warned_at,
            exhausted_at=quota.exhausted_at,
        )
        for quota in quotas
    ]
    return Response(_QUOTAS.dump_json(QuotaAnswers.model_construct(quotas=answers)), media_type=JSON)
