"""Insights: what agents learned, on its way to becoming memories."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from memcube.bodies import insight_body, new_id
from memcube.models import DryRun, Insight, InsightsPage, Receipt, ReceiptsAnswer
from memcube.transport import Transport

_LONGEST_ANSWER = 60.0  # seconds a language model may take, beside the usual ones


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

    async def submit_messages(
        self,
        messages: Iterable[Mapping[str, Any]],
        *,
        id: UUID | str | None = None,
        agent_id: str | None = None,
        tags: Sequence[str] | None = None,
        priority: str | None = None,
        governance: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Submit a conversation: 1 to 200 messages `{"role", "content", "name"?, "at"?}`, ≤ 1 MiB together.

        A language model makes insights of them where the server has one, else each message is one; `tags` and the rest
        go with every insight. One receipt for all: its `insights` say what was made, once it is stored. When this
        returns, the messages are durable. Raises as `submit` does.
        """
        body = _conversation(messages, id, agent_id, tags, priority, governance, metadata)
        return await self._transport.ask(Receipt, "POST", "insights", body=body)

    async def weigh(self, insights: Iterable[str | Mapping[str, Any]]) -> DryRun:
        """What would be stored of 1 to 500 insights, and why not; nothing is."""
        body = {"insights": [insight_body(insight) for insight in insights]}
        return await self._transport.ask(DryRun, "POST", "insights", body=body, params={"dry_run": "true"})

    async def weigh_messages(
        self,
        messages: Iterable[Mapping[str, Any]],
        *,
        tags: Sequence[str] | None = None,
        governance: Mapping[str, Any] | None = None,
    ) -> DryRun:
        """What would be stored of a conversation; nothing is. Raises Unavailable where the language model is away."""
        body = _conversation(messages, None, None, tags, None, governance, None)
        return await self._transport.ask(
            DryRun, "POST", "insights", body=body, params={"dry_run": "true"}, extra_seconds=_LONGEST_ANSWER
        )

    async def list(
        self,
        *,
        agent_id: str | None = None,
        tag: str | None = None,
        state: str | None = None,
        memory_id: UUID | str | None = None,
        min_support: int | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> InsightsPage:
        """A page of what was learned, newest first: your own, and those whose memory you may read.

        state: accepted, stored or parked. limit: 1-200. cursor: the `next_cursor` of the page before, of the same list.
        """
        given = {
            "agent_id": agent_id,
            "tag": tag,
            "state": state,
            "memory_id": memory_id,
            "min_support": min_support,
            "limit": limit,
            "cursor": cursor,
        }
        params = {name: str(value) for name, value in given.items() if value is not None}
        return await self._transport.ask(InsightsPage, "GET", "insights", params=params)

    async def all(
        self,
        *,
        agent_id: str | None = None,
        tag: str | None = None,
        state: str | None = None,
        memory_id: UUID | str | None = None,
        min_support: int | None = None,
    ) -> AsyncGenerator[Insight]:
        """Everything that was learned, newest first, page by page; see `list`."""
        cursor: str | None = None
        while True:
            page = await self.list(
                agent_id=agent_id,
                tag=tag,
                state=state,
                memory_id=memory_id,
                min_support=min_support,
                limit=200,
                cursor=cursor,
            )
            for insight in page.insights:
                yield insight
            cursor = page.next_cursor
            if cursor is None:
                return

    async def get(self, id: UUID | str) -> Insight:
        """One insight. Raises NotFound where there is none that you may see."""
        return await self._transport.ask(Insight, "GET", f"insights/{UUID(str(id))}")

    async def support(
        self, id: UUID | str, *, evidence_refs: Sequence[str] = (), sentiment: float | None = None
    ) -> Insight:
        """Say that an insight holds: its `support_count` is raised once for each who says so. Raises NotFound."""
        body: dict[str, Any] = {"evidence_refs": [*evidence_refs]}
        if sentiment is not None:
            body["sentiment"] = sentiment
        return await self._transport.ask(Insight, "POST", f"insights/{UUID(str(id))}/support", body=body)

    async def link(self, id: UUID | str, memory_id: UUID | str) -> Insight:
        """Let an insight belong to another memory, one that you may change. Raises NotFound, NotAllowed, Invalid."""
        body = {"memory_id": str(UUID(str(memory_id)))}
        return await self._transport.ask(Insight, "PUT", f"insights/{UUID(str(id))}/memory", body=body)


def _conversation(
    messages: Iterable[Mapping[str, Any]],
    id: UUID | str | None,
    agent_id: str | None,
    tags: Sequence[str] | None,
    priority: str | None,
    governance: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The body of a conversation, under an id made here where none is given: sent twice it is one."""
    given = {
        "agent_id": agent_id,
        "tags": None if tags is None else [*tags],
        "priority": priority,
        "governance": governance,
        "metadata": metadata,
    }
    body: dict[str, Any] = {"messages": [dict(message) for message in messages], "id": str(id or new_id())}
    return body | {name: value for name, value in given.items() if value is not None}
