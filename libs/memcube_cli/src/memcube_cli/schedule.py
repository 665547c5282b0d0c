"""`memcube schedule`: have memories chosen for an agent inside a budget, and see why."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import typer

from memcube import Schedule, ScheduleCandidate
from memcube_cli.console import complain, say, table
from memcube_cli.house import House, run, the_house

Tagged = list[str] | None
PARTS: Final = ("relevance", "tags", "recency", "frequency", "priority", "task", "feedback", "trust")


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(schedule)


def schedule(
    text: Annotated[str | None, typer.Argument(help="What the agent is about to do, or is asked.")] = None,
    agent: Annotated[str, typer.Option(help="The agent that will read them.")] = "memcube-cli",
    task: Annotated[str | None, typer.Option(help="The task; memories linked to it count for more.")] = None,
    tag: Annotated[Tagged, typer.Option(help="A tag they should carry; may be given more than once.")] = None,
    budget: Annotated[int, typer.Option(min=1, max=200_000, help="Most tokens (o200k) of the prompt.")] = 4_000,
    limit: Annotated[int | None, typer.Option(min=1, max=200, help="Most memories, whatever the budget.")] = None,
    prefer_hot: Annotated[bool, typer.Option("--prefer-hot", help="Let priority count twice.")] = False,
    insights: Annotated[bool, typer.Option("--insights", help="Weigh insights that are no memories yet.")] = False,
    format_: Annotated[
        Literal["memcube", "xml", "markdown", "json"] | None,
        typer.Option("--format", help="Print the prompt itself, written like this."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Everything that was weighed, and what became of it.")] = (
        False
    ),
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Choose memories for an agent: pinned ones first, then the best, never more tokens than the budget."""
    given: dict[str, Any] = {
        "agent_id": agent,
        "task_id": task,
        "text": text,
        "need_tags": tag,
        "token_budget": budget,
        "limit": limit,
        "prefer_hot": prefer_hot or None,
        "include_insights": insights or None,
        "format": format_,
        "explain": explain or None,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    run(_schedule(the_house(), asked, project, as_json=as_json))


async def _schedule(house: House, asked: dict[str, Any], project: str | None, *, as_json: bool) -> None:
    chosen = project or house.project
    async with house.client(chosen, await house.key_of(chosen, create=False)) as client:
        answer = await client.memories.schedule(asked)
    if as_json:
        say(answer.model_dump_json())
        return
    if answer.degraded:
        complain(f"chosen with less than asked: {answer.degraded}")
    if "explain" in asked:
        _explained(answer)
    elif "format" in asked:
        sys.stdout.write(answer.prompt + "\n")
        sys.stdout.flush()
    else:
        _listed(answer)
    complain(
        f"{len(answer.memories)} of {answer.considered} memories, "
        f"{answer.tokens_used:,} of {answer.token_budget:,} tokens; schedule {answer.id}"
    )


def _listed(answer: Schedule) -> None:
    table(
        ("score", "tokens", "why", "label", "tags", "content"),
        [
            (
                f"{one.score:.2f}",
                one.tokens,
                one.reason,
                one.label,
                " ".join(one.tags),
                one.content or one.kv_hint or "",
            )
            for one in answer.memories
        ],
        right=("score", "tokens"),
    )


def _unnamed(one: ScheduleCandidate, labels: Mapping[UUID, str]) -> str:
    """A memory that was left, by its id, and whose words it repeats, if that is why."""
    said = None if one.redundant_with is None else labels.get(one.redundant_with)
    return str(one.id) if said is None else f"{one.id} (like: {said})"


def _explained(answer: Schedule) -> None:
    labels = {one.id: one.label for one in answer.memories}
    table(
        ("score", "tokens", "why", *PARTS, "memory"),
        [
            (
                f"{one.score:.2f}",
                one.tokens,
                one.reason,
                *(f"{one.parts.get(part, 0.0):.2f}" for part in PARTS),
                labels.get(one.id) or _unnamed(one, labels),
            )
            for one in answer.candidates or ()
        ],
        right=("score", "tokens", *PARTS),
    )
