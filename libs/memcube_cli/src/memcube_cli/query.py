"""`memcube query`: find memories by their words, their meaning, and by what they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, cast

import typer

from memcube import Found, FoundMemory, MemCubeClient
from memcube_cli.console import complain, say, table
from memcube_cli.house import House, run, the_house

FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
Tagged = list[str] | None


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(query)


def _json_object(text: str) -> dict[str, Any]:
    """Raises BadParameter for anything but a JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter("must be a JSON object")
    return cast("dict[str, Any]", value)


def query(
    text: Annotated[str | None, typer.Argument(help="A question or words; without, the newest are listed.")] = None,
    tag: Annotated[Tagged, typer.Option(help="Only memories with this tag; may be given more than once.")] = None,
    any_tag: Annotated[Tagged, typer.Option(help="Only memories with at least one of these.")] = None,
    no_tag: Annotated[Tagged, typer.Option(help="Only memories without this tag.")] = None,
    type_: Annotated[Tagged, typer.Option("--type", help="PLAINTEXT, ACTIVATION or PARAMETER.")] = None,
    priority: Annotated[Tagged, typer.Option(help="HOT, WARM or COLD.")] = None,
    lifecycle: Annotated[Tagged, typer.Option(help="NEW, ACTIVE, STALE (all three if not given), ARCHIVED.")] = None,
    by: Annotated[Tagged, typer.Option(help="Only memories that this handle made.")] = None,
    trust: Annotated[Tagged, typer.Option(help="trusted, untrusted or quarantined.")] = None,
    label: Annotated[str | None, typer.Option(help="The whole label.")] = None,
    label_prefix: Annotated[str | None, typer.Option(help="What the label begins with.")] = None,
    label_contains: Annotated[str | None, typer.Option(help="What stands in the label.")] = None,
    metadata: Annotated[
        dict[str, Any] | None, typer.Option(parser=_json_object, metavar="JSON", help="What the metadata contains.")
    ] = None,
    created_after: Annotated[datetime | None, typer.Option(formats=FORMATS, help="Created later than this.")] = None,
    created_before: Annotated[datetime | None, typer.Option(formats=FORMATS, help="Created earlier than this.")] = None,
    updated_after: Annotated[datetime | None, typer.Option(formats=FORMATS, help="Changed last after this.")] = None,
    updated_before: Annotated[datetime | None, typer.Option(formats=FORMATS, help="Changed last before this.")] = None,
    order: Annotated[
        Literal["created_at", "updated_at", "label"] | None, typer.Option(help="The order of a listing.")
    ] = None,
    reverse: Annotated[
        bool, typer.Option("--reverse", help="The other way round: oldest first, or labels from Z.")
    ] = False,
    min_similarity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least cosine similarity to the question.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 10,
    everything: Annotated[bool, typer.Option("--all", help="All of them, page after page.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Say how many there are.")] = False,
    mode: Annotated[
        Literal["hybrid", "semantic", "keyword"] | None, typer.Option(help="By words and meaning, or one of them.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Find memories: the best first with a text, the newest without."""
    labelled = {"equals": label, "prefix": label_prefix, "contains": label_contains}
    given: dict[str, Any] = {
        "text": text,
        "tags": tag,
        "tags_any": any_tag,
        "tags_none": no_tag,
        "type": type_,
        "priority": priority,
        "lifecycle": lifecycle,
        "created_by": by,
        "trust": trust,
        "metadata": metadata,
        "label": {name: value for name, value in labelled.items() if value is not None},
        "created_after": _with_zone(created_after),
        "created_before": _with_zone(created_before),
        "updated_after": _with_zone(updated_after),
        "updated_before": _with_zone(updated_before),
        "order_by": order,
        "order": ("desc" if order == "label" else "asc") if reverse else None,
        "similarity_threshold": min_similarity,
        "mode": mode,
        "limit": 200 if everything else limit,
        "count": count or None,
    }
    asked = {name: value for name, value in given.items() if value is not None and value not in ([], {})}
    wanted = _Wanted(asked, everything, as_json)
    run(_query(the_house(), wanted, project))


@dataclass(frozen=True, slots=True)
class _Wanted:
    body: dict[str, Any]
    everything: bool
    as_json: bool


async def _query(house: House, wanted: _Wanted, project: str | None) -> None:
    chosen = project or house.project
    async with house.client(chosen, await house.key_of(chosen, create=False)) as client:
        found = await _all(client, wanted.body) if wanted.everything else await client.memories.query(wanted.body)
    if wanted.as_json:
        say(_as_json(found))
        return
    if found.degraded:
        complain(f"searched by {found.mode} only: {found.degraded}")
    if found.total is not None:
        complain(f"{found.total} in all" if found.total_is_exact else f"at least {found.total}")
    if not found:
        complain("nothing found" if found.next_cursor is None else "nothing found so far: --all looks further")
        return
    _show(found)


async def _all(client: MemCubeClient, body: dict[str, Any]) -> Found:
    """Every page as one list."""
    found = await client.memories.query(body)
    cursor = found.next_cursor
    while cursor is not None:
        page = await client.memories.query(body | {"cursor": cursor, "count": False})
        found.extend(page)
        cursor = page.next_cursor
    found.next_cursor = None
    return found


def _show(found: Found) -> None:
    def rest(one: FoundMemory) -> tuple[str, str, str]:
        return one.label, " ".join(one.tags), one.content or ""

    if found.mode == "recent":
        rows = [(f"{one.created_at:%Y-%m-%d %H:%M}", *rest(one)) for one in found]
        table(("created", "label", "tags", "content"), rows)
        return
    table(
        ("score", "meaning", "label", "tags", "content"),
        [(f"{one.score:.2f}", _share(one.similarity), *rest(one)) for one in found],
        right=("score", "meaning"),
    )


def _with_zone(moment: datetime | None) -> datetime | None:
    """What is given without a zone is meant as the clock on the wall says it."""
    return moment if moment is None or moment.tzinfo is not None else moment.astimezone()


def _share(similarity: float | None) -> str:
    return "-" if similarity is None else f"{similarity:.2f}"


def _as_json(found: Found) -> str:
    return json.dumps(
        {
            "memories": [one.model_dump(mode="json") for one in found],
            "mode": found.mode,
            "degraded": found.degraded,
            "took_ms": found.took_ms,
            "next_cursor": found.next_cursor,
            "total": found.total,
            "total_is_exact": found.total_is_exact,
        },
        ensure_ascii=False,
    )
