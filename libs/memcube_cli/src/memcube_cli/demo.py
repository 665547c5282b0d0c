"""`memcube demo`: a few insights on their whole way, from an agent to an answer."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal
from uuid import UUID

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from memcube import Change, MemCubeClient, NotFound, NotYet, Receipt, Reset
from memcube.bus import AgentConnection
from memcube_cli.console import console, cut, say, table
from memcube_cli.house import House, fail, run, the_house
from memcube_cli.imports.lines import Item, Refusal, judge, read_lines
from memcube_cli.watch import line_of
from memcube_common.ids import derive

AGENT: Final = "demo-agent"
TAG: Final = "demo"
SETTLE_SECONDS: Final = 60.0
EVENTS_SECONDS: Final = 20.0
_WANTED: Final = ("memory.v1.created", "memory.v1.embedded")
_SHOWN_EVENTS: Final = 6


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask, the label of the memory that answers it, and what they have in common."""

    text: str
    finds: str
    by: Literal["words", "meaning"]


QUESTIONS: Final = (
    Question("What does E4173 mean?", "payment error E4173", "words"),
    Question("Why do people give up before they have paid?", "slow checkout loses carts", "meaning"),
    Question("Whom do I call when the website is down at night?", "outages after midnight", "meaning"),
)


@dataclass(slots=True)
class Journey:
    """One insight under way. Times are seconds since it was handed over."""

    item: Item
    via: Literal["HTTP", "NATS"]
    began: float = 0.0
    state: str = "…"
    took: float | None = None
    receipt: Receipt | None = None

    @property
    def label(self) -> str:
        """Its short name."""
        return str(self.item.body.get("label", ""))


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command()(demo)


def demo(
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The insights; examples/insights.jsonl if not given."),
    ] = None,
) -> None:
    """Publish a few insights, follow each until it is found by meaning, and ask three questions. Safe to run twice."""
    house = the_house()
    run(_demo(house, _items(file or _examples(house), house.project)))


async def _demo(house: House, items: Sequence[Item]) -> int:
    if house.nats is None:
        fail("The demo publishes over NATS too: set MEMCUBE_NATS_URL.")
    journeys = [Journey(item, "NATS" if place % 2 else "HTTP") for place, item in enumerate(items)]
    async with (
        house.client() as client,
        AgentConnection(house.nats, project=house.project, agent=AGENT) as agent,
    ):
        known = await _known(client, journeys)
        after = 0 if known else await client.position()
        hearing = asyncio.create_task(_hear(client, after, [journey.item for journey in journeys]))
        try:
            say(f"Publishing {len(items)} insights to '{house.project}' at {house.gateway}, half of them over NATS.")
            if known:
                say(f"{known} of them are there from an earlier run; sending them again changes nothing.")
            say()
            await _publish(client, agent, journeys)
            missing = [f"'{j.label}' is {j.state}, not searchable" for j in journeys if j.state != "searchable"]
            missing += await _ask(client)
            missing += _tell_changes(await hearing, journeys)
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
    say()
    for sentence in missing:
        say(f"missing: {sentence}")
    if not missing:
        say("Everything arrived, was found and was announced.")
    return 1 if missing else 0


async def _known(client: MemCubeClient, journeys: Sequence[Journey]) -> int:
    """How many of the insights are there already."""

    async def one(journey: Journey) -> int:
        try:
            await client.receipts.get(journey.item.id)
        except NotFound:
            return 0
        return 1

    return sum(await asyncio.gather(*(one(journey) for journey in journeys)))


async def _publish(client: MemCubeClient, agent: AgentConnection, journeys: Sequence[Journey]) -> None:
    """Send every insight and follow its receipt; shows all of them live on a terminal, one line each in a pipe."""
    out = console()

    async def travel(journey: Journey) -> None:
        journey.began = time.monotonic()
        if journey.via == "NATS":
            await agent.publish_insight(journey.item.body)
        else:
            await client.insights.submit(journey.item.body, agent_id=AGENT)
        journey.state = "accepted"
        try:
            journey.receipt = await client.receipts.wait(journey.item.id, until="stored", timeout=SETTLE_SECONDS)
            journey.state = journey.receipt.state
            journey.receipt = await client.receipts.wait(journey.item.id, timeout=SETTLE_SECONDS)
            journey.state = journey.receipt.state
        except (NotYet, NotFound) as error:
            journey.state = error.receipt.state if isinstance(error, NotYet) else "unknown"
        journey.took = time.monotonic() - journey.began
        if not out.is_terminal:
            say("\t".join((journey.via, journey.state, f"{journey.took * 1000:.0f} ms", journey.label)))

    if not out.is_terminal:
        await asyncio.gather(*(travel(journey) for journey in journeys))
        return
    with Live(_picture(journeys, out.width), console=out, refresh_per_second=12) as live:
        under_way = {asyncio.create_task(travel(journey)) for journey in journeys}
        try:
            while under_way:
                done, _ = await asyncio.wait(under_way, timeout=0.08)
                live.update(_picture(journeys, out.width))
                under_way -= done
                for task in done:
                    task.result()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


def _picture(journeys: Sequence[Journey], width: int) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("via", "receipt", "after", "insight"):
        grid.add_column(name, justify="right" if name == "after" else "left", no_wrap=True)
    styles = {"searchable": "green", "stored": "yellow", "accepted": "yellow", "failed": "red", "parked": "red"}
    for journey in journeys:
        took = f"{'' if journey.took is None else f'{journey.took * 1000:.0f} ms':>8}"
        state = Text(f"{journey.state:<10}", style=styles.get(journey.state, "dim"))
        grid.add_row(journey.via, state, took, Text(cut(str(journey.item.body["insight"]), max(20, width - 30))))
    return grid


async def _ask(client: MemCubeClient) -> list[str]:
    """Ask the questions; what was not found as it should be."""
    missing: list[str] = []
    for question in QUESTIONS:
        found = await client.memories.query(text=question.text, tags=[TAG], limit=3)
        say()
        say(f"? {question.text}  (by {question.by})")
        table(
            ("score", "", "label", "content"),
            [
                (f"{one.score:.3f}", "<-" if one.label == question.finds else "", one.label, one.content or "")
                for one in found
            ],
            right=("score",),
        )
        if question.finds not in [one.label for one in found]:
            missing.append(f"'{question.finds}' was not found by {question.by}")
        if found.degraded:
            missing.append(f"the search was {found.mode} only: {found.degraded}")
    return missing


@dataclass(slots=True)
class Heard:
    """The change events that arrived for the demo's memories. `was_reset`: some were too old to be replayed."""

    changes: list[Change]
    was_reset: bool = False

    def count(self) -> Mapping[str, int]:
        """How many of each type."""
        return Counter(change.type for change in self.changes)


async def _hear(client: MemCubeClient, after: int, items: Sequence[Item]) -> Heard:
    """Collect the changes of the demo's memories until each was created and embedded, or time is over."""
    heard = Heard([])
    memory_ids = {derive(UUID(item.id), "memory") for item in items}
    wanted = {(memory_id, type) for memory_id in memory_ids for type in _WANTED}
    give_up = asyncio.get_running_loop().time() + SETTLE_SECONDS + EVENTS_SECONDS
    try:
        async with asyncio.timeout_at(give_up), aclosing(client.changes(after=after, event="memory.*")) as changes:
            async for change in changes:
                if isinstance(change, Reset):
                    heard.was_reset = True
                    continue
                if change.memory_id not in memory_ids:
                    continue
                heard.changes.append(change)
                wanted.discard((change.memory_id, change.type))
                if not wanted:
                    break
    except TimeoutError:
        pass
    return heard


def _tell_changes(heard: Heard, journeys: Sequence[Journey]) -> list[str]:
    """Print the change events that arrived; which are missing."""
    say()
    counts = heard.count()
    say("Change events: " + (", ".join(f"{count} {type}" for type, count in sorted(counts.items())) or "none"))
    for change in heard.changes[-_SHOWN_EVENTS:]:
        say(line_of(change))
    if heard.was_reset:
        say("(the oldest are not kept any more)")
        return []
    return [
        f"{len(journeys) - counts.get(type, 0)} events {type}"
        for type in _WANTED
        if counts.get(type, 0) < len(journeys)
    ]


def _items(file: Path, project: str) -> list[Item]:
    """The insights of the file, each under the id its content gives it."""
    items: list[Item] = []
    with file.open("rb") as lines:
        for line in read_lines(lines):
            match judge(line, project=project):
                case Item() as item if item.kind == "insight" and item.project == project:
                    items.append(item)
                case Refusal() as refusal:
                    fail(f"{file.name}, line {refusal.number}: {refusal.field}: {refusal.reason}")
                case _:
                    pass
    return items


def _examples(house: House) -> Path:
    """`examples/insights.jsonl` of the checkout the stack belongs to, or of the one we are in."""
    folders = (house.home.parent, Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents)
    files = (folder / "examples" / "insights.jsonl" for folder in folders)
    file = next((file for file in files if file.is_file()), None)
    return file or fail("examples/insights.jsonl is not here; name a file with --file.")
