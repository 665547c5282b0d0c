"""`memcube query`: find memories by their words and by their meaning."""

import json
from typing import Annotated, Literal

import typer

from memcube import Found
from memcube_cli.console import complain, say, table
from memcube_cli.house import House, run, the_house


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(query)


def query(
    text: Annotated[str, typer.Argument(help="A question or words.")],
    tag: Annotated[
        list[str] | None, typer.Option(help="Only memories with this tag; may be given more than once.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 10,
    mode: Annotated[
        Literal["hybrid", "semantic", "keyword"], typer.Option(help="By words and meaning, or one of them.")
    ] = "hybrid",
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Find memories, best first."""
    run(_query(the_house(), text, tag or [], limit, mode, project, as_json))


async def _query(
    house: House,
    text: str,
    tags: list[str],
    limit: int,
    mode: Literal["hybrid", "semantic", "keyword"],
    project: str | None,
    as_json: bool,
) -> None:
    chosen = project or house.project
    async with house.client(chosen, await house.key_of(chosen, create=False)) as client:
        found = await client.memories.query(text=text, tags=tags, limit=limit, mode=mode)
    if as_json:
        say(_as_json(found))
        return
    if found.degraded:
        complain(f"searched by {found.mode} only: {found.degraded}")
    if not found:
        complain("nothing found")
        return
    table(
        ("score", "meaning", "label", "tags", "content"),
        [
            (f"{one.score:.2f}", _share(one.similarity), one.label, " ".join(one.tags), one.content or "")
            for one in found
        ],
        right=("score", "meaning"),
    )


def _share(similarity: float | None) -> str:
    return "-" if similarity is None else f"{similarity:.2f}"


def _as_json(found: Found) -> str:
    return json.dumps(
        {
            "memories": [one.model_dump(mode="json") for one in found],
            "mode": found.mode,
            "degraded": found.degraded,
            "took_ms": found.took_ms,
        },
        ensure_ascii=False,
    )
