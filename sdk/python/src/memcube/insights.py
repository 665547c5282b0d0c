"""Insights: what agents learned, on its way to becoming memories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from memcube.bodies import insight_body
from memcube.models import Receipt, ReceiptsAnswer
from memcube.transport import Transport


class Insights:
    """`client.insights`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def submit(
        self,
        insight: str | Mapping[str, Any],
        *,
        id: UUID | str | None = None,
        agent_id: str | None = None,
        label: str | None = None,
        tags: Sequence[str] | None = None,
        evidence_refs: Sequence[str] | None = None,
        sentiment: float | None = None,
        priority: str | None = None,
        governance: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Submit one insight: its text (1 byte to 64 KiB of UTF-8), or a mapping of the same fields.

        id: a UUIDv7; the same id sent twice is one insight. tags: ≤ 64 of 1-64 characters. evidence_refs: ≤ 64 of
        1-512 characters. sentiment: -1 … 1. priority: HOT, WARM or COLD. metadata: a JSON object of ≤ 16 KiB.

        When this returns, the insight is durable. Raises Invalid with the fields refused, NotSignedIn, NotFound
        (the project), and Unavailable or Unreachable when patience ends: then submit again with the same id.
        """
        body = insight_body(
            insight,
            id=id,
            agent_id=agent_id,
            label=label,
            tags=tags,
            evidence_refs=evidence_refs,
            sentiment=sentiment,
            priority=priority,
            governance=governance,
            metadata=metadata,
        )
        return await self._transport.ask(Receipt, "POST", "insights", body=body)

    async def submit_many(self, insights: Iterable[str | Mapping[str, Any]]) -> list[Receipt]:
        """Submit 1 to 500 insights, accepted together or not at all; their receipts in the order given."""
        body = {"insights": [insight_body(insight) for insight in insights]}
        return (await self._transport.ask(ReceiptsAnswer, "POST", "insights", body=body)).receipts
