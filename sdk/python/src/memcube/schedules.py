"""Schedules: have memories chosen for an agent inside its budget, and look at what was chosen before."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from memcube.outcomes import FeedbackAnswer, Outcome, Recommendations
from memcube.scheduled import Replay, Schedule, ScheduleRecord, ScheduleRecords
from memcube.transport import Transport

Format = Literal["memcube", "xml", "markdown", "json"]


class ScheduleOptions(TypedDict, total=False):
    """For whom, for what and within which budget memories are chosen; what is not given is not asked.

    agent_id: who will read them; over NATS the agent that is connected. task_id: memories linked to it count for more.
    text: what the agent is about to do, ≤ 8,000 characters. need_tags: tags a memory should carry. embedding: a vector
    in place of one made of `text`. token_budget: most o200k tokens of the whole rendering, 4,000 if not given.
    prefer_hot: let priority count twice. include_insights: also weigh insights that are no memories yet. format: how
    `prompt` is written. explain: also tell what was left out, and why. as_of: the reader's now. limit: most memories.
    """

    agent_id: str
    task_id: str | None
    text: str | None
    need_tags: Sequence[str] | None
    embedding: Sequence[float] | None
    token_budget: int | None
    prefer_hot: bool | None
    include_insights: bool | None
    format: Format | None
    explain: bool | None
    as_of: datetime | str | None
    limit: int | None


def schedule_body(request: Mapping[str, Any] | None, options: ScheduleOptions) -> dict[str, Any]:
    """The body of a request for a schedule; what is given as an option wins."""
    return {**(request or {}), **{name: value for name, value in options.items() if value is not None}}


class Schedules:
    """`client.schedules`: what was chosen for whom. Yours; an OWNER, ADMIN or SERVICE key sees everybody's."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def make(self, body: Mapping[str, Any]) -> Schedule:
        """What `client.memories.schedule` does."""
        return await self._transport.ask(Schedule, "POST", "memories/schedule", body=body, keyed=False)

    async def list(
        self,
        *,
        agent_id: str | None = None,
        task_id: str | None = None,
        before: datetime | str | None = None,
        after: datetime | str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ScheduleRecords:
        """A page of recorded schedules, newest first: for one agent, for one task, made between two moments.

        `before` a moment with `limit=1`, for an agent: what it was told last before then. Raises Invalid.
        """
        given = {
            "agent_id": agent_id,
            "task_id": task_id,
            "before": _moment(before),
            "after": _moment(after),
            "limit": str(limit),
            "cursor": cursor,
        }
        params = {name: value for name, value in given.items() if value is not None}
        return await self._transport.ask(ScheduleRecords, "GET", "schedules", params=params)

    async def all(self, *, agent_id: str | None = None, task_id: str | None = None) -> AsyncGenerator[ScheduleRecord]:
        """Every recorded schedule, page after page, newest first."""
        cursor: str | None = None
        while True:
            page = await self.list(agent_id=agent_id, task_id=task_id, cursor=cursor)
            for record in page.schedules:
                yield record
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def get(self, id: UUID | str) -> ScheduleRecord:
        """What was asked and weighed, with the reason of each candidate. Raises NotFound."""
        return await self._transport.ask(ScheduleRecord, "GET", f"schedules/{UUID(str(id))}")

    async def replay(self, id: UUID | str) -> Replay:
        """The same choice from what was recorded, with the texts of then. Raises NotFound."""
        return await self._transport.ask(Replay, "POST", f"schedules/{UUID(str(id))}/replay")

    async def feedback(self, id: UUID | str, outcomes: Mapping[UUID | str, Outcome]) -> int:
        """Say what came of memories that were chosen in a schedule; the last word on each counts.

        Returns how many outcomes are known of the schedule. Raises NotFound, Invalid for memories that were not chosen.
        """
        said = [{"memory_id": str(memory), "outcome": outcome} for memory, outcome in outcomes.items()]
        answer = await self._transport.ask(
            FeedbackAnswer, "POST", f"schedules/{UUID(str(id))}/feedback", body={"outcomes": said}
        )
        return answer.taken

    async def recommendations(self, agent_id: str, *, limit: int | None = None) -> Recommendations:
        """What agents with similar use found helpful and this one was not given lately, as computed last."""
        params = {} if limit is None else {"limit": str(limit)}
        return await self._transport.ask(Recommendations, "GET", f"agents/{agent_id}/recommendations", params=params)


def _moment(moment: datetime | str | None) -> str | None:
    return moment.isoformat() if isinstance(moment, datetime) else moment
