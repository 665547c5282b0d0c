"""`memcube insight`: put in what was learned, look at it, support it, learn from a conversation."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Annotated, Any, Final, cast
from uuid import UUID

import typer

from memcube import Insight, MemCubeClient, MemCubeError, NotFound, NotSignedIn, NotYet, Unavailable
from memcube_cli.console import bar, complain, say, table
from memcube_cli.house import House, fail, run, the_house
from memcube_cli.imports.lines import Kind
from memcube_cli.imports.progress import Progress, ProgressFile
from memcube_cli.imports.run import Import, Sent, Tally
from memcube_common.ids import is_project_slug

_PATIENCE: Final = 120.0  # seconds one batch is tried again before an import gives up
_MOST_SHOWN: Final = 50  # refused lines shown on a terminal; a pipe gets all
_MOST_PROJECTS: Final = 12  # named in the summary
_WAITERS: Final = 8
_SHORT: Final = 80  # characters of an insight in a list


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Put in what was learned, and look at it.", no_args_is_help=True)
    group.command()(add)
    group.command("import")(import_file)
    group.command("list")(list_insights)
    group.command()(show)
    group.command()(support)
    group.command()(extract)
    app.add_typer(group, name="insight")


def add(
    text: Annotated[str, typer.Argument(help="What was learned; '-' reads it from stdin.")],
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be given more than once.")] = None,
    label: Annotated[str | None, typer.Option(help="A short name.")] = None,
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it is found by meaning.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
) -> None:
    """Submit one insight and print its receipt."""
    run(_add(the_house(), sys.stdin.read() if text == "-" else text, tag or [], label, project, wait, as_json))


async def _add(
    house: House, text: str, tags: list[str], label: str | None, project: str | None, wait: bool, as_json: bool
) -> int:
    chosen = project or house.project
    async with house.client(chosen, await house.key_of(chosen, create=False)) as client:
        receipt = await client.insights.submit(text, tags=tags, label=label)
        if wait:
            receipt = await client.receipts.wait(receipt.id)
    if as_json:
        say(receipt.model_dump_json())
    else:
        say(f"{receipt.id}  {receipt.state}" + (f"  {receipt.reason}" if receipt.reason else ""))
    return 1 if receipt.state in {"failed", "parked"} else 0


def list_insights(
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
    agent: Annotated[str | None, typer.Option(help="Those of one sender.")] = None,
    tag: Annotated[str | None, typer.Option(help="Those that carry this tag.")] = None,
    min_support: Annotated[int | None, typer.Option(min=1, help="Those with so much support or more.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one insight a line as JSON.")] = False,
) -> None:
    """List what was learned, newest first."""
    run(_list(the_house(), project, agent, tag, min_support, limit, as_json))


async def _list(
    house: House,
    project: str | None,
    agent: str | None,
    tag: str | None,
    min_support: int | None,
    limit: int,
    as_json: bool,
) -> int:
    chosen = project or house.project
    found: list[Insight] = []
    async with house.client(chosen, await house.key_of(chosen, create=False)) as client:
        everything = client.insights.all(agent_id=agent, tag=tag, min_support=min_support)
        async with aclosing(everything):
            async for insight in everything:
                found.append(insight)
                if len(found) == limit:
                    break
    if as_json:
        for insight in found:
            say(insight.model_dump_json())
    else:
        rows = [(str(i.id), i.agent_id, i.decision or i.state, str(i.support_count), _short(i.insight)) for i in found]
        table(("insight", "by", "became", "support", "what"), rows, right=("support",))
    return 0


def show(
    insight: Annotated[str, typer.Argument(help="Id of the insight.")],
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
) -> None:
    """Print one insight as JSON, with its support and what became of it."""
    run(_show(the_house(), project, insight, support_it=False))


def support(
    insight: Annotated[str, typer.Argument(help="Id of the insight.")],
    evidence: Annotated[list[str] | None, typer.Option(help="Where it was seen; may be given more than once.")] = None,
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
) -> None:
    """Say that an insight holds; once for each key."""
    run(_show(the_house(), project, insight, support_it=True, evidence=evidence or []))


async def _show(
    house: House, project: str | None, insight: str, *, support_it: bool, evidence: Sequence[str] = ()
) -> int:
    chosen = project or house.project
    try:
        identity = UUID(insight)
    except ValueError:
        fail(f"'{insight}' is not an id.")
    async with house.client(chosen, await house.key_of(chosen, create=False)) as client:
        if support_it:
            found = await client.insights.support(identity, evidence_refs=evidence)
            say(f"{found.id}  {found.decision or found.state}  support {found.support_count}")
        else:
            say((await client.insights.get(identity)).model_dump_json(indent=2))
    return 0


def extract(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help='JSON: a list of {"role", "content"}.')
    ],
    tag: Annotated[list[str] | None, typer.Option(help="A tag of every insight; may be given more than once.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be stored, and store nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when all of it is found by meaning.")] = False,
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
) -> None:
    """Learn from a conversation: by the server's language model where it has one, else each message as it is."""
    try:
        messages: Any = json.loads(file.read_bytes())
    except ValueError:
        fail(f"{file.name} is not JSON.")
    if isinstance(messages, dict):
        messages = cast("dict[str, Any]", messages).get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in cast("list[Any]", messages)):
        fail(f'{file.name} is not a list of messages: [{{"role": "user", "content": "…"}}, …].')
    run(_extract(the_house(), project, cast("list[dict[str, Any]]", messages), tag or [], dry_run, wait))


async def _extract(
    house: House, project: str | None, messages: list[dict[str, Any]], tags: list[str], dry_run: bool, wait: bool
) -> int:
    chosen = project or house.project
    async with house.client(chosen, await house.key_of(chosen, create=False)) as client:
        if dry_run:
            would = await client.insights.weigh_messages(messages, tags=tags)
            say(would.how.replace("_", " ") + (f": {would.reason}" if would.reason else ""))
            table(("would be", "label", "what"), [(i.decision, i.label, _short(i.insight)) for i in would.insights])
            return 0
        receipt = await client.insights.submit_messages(messages, tags=tags)
        receipt = await client.receipts.wait(receipt.id, until="searchable" if wait else "stored")
    made = receipt.insights or []
    say(
        f"{receipt.id}  {receipt.state}  {len(made)} {_plural('insight', len(made))}"
        + (f"  {why}" if (why := receipt.decided_because or receipt.reason) else "")
    )
    for one in made:
        because = f": {one.decided_because}" if one.decided_because else ""
        say(f"  {one.insight_id}  {one.state}  {one.decision or ''}{because}".rstrip())
    return 1 if receipt.state in {"failed", "parked"} else 0


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "…"


def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="One JSON object a line.")],
    project: Annotated[
        str | None, typer.Option(help="For lines that name no project; the stack's own if not given.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=500, help="Lines sent together.")] = 100,
    wait: Annotated[bool, typer.Option("--wait", help="Return when everything is found by meaning.")] = False,
) -> None:
    """Load a file of insights ("insight") and memories ("content"); run it again to go on after an interruption."""
    if project is not None and not is_project_slug(project):
        fail(f"'{project}' cannot name a project: 1-63 characters of a-z, 0-9 and '-' are needed.")
    run(_import(the_house(), file, project, batch, wait))


async def _import(house: House, file: Path, project: str | None, batch: int, wait: bool) -> int:
    default = project or house.project
    remember = ProgressFile(house.home, file, into=f"{'' if house.is_local else house.gateway}\0{default}")
    began = time.monotonic()
    async with AsyncExitStack() as opened:
        doors = Doors(house, opened)
        start = remember.fresh if wait else await doors.still_true(remember.read(), remember.fresh)
        with bar(counts=False) as progress, file.open("rb") as lines:
            task = progress.add_task(f"loading {file.name}", total=max(1, remember.fresh.size), completed=start.offset)
            loading = Import(
                doors.send,
                project=default,
                batch=batch,
                remember=remember,
                on_progress=lambda offset: progress.update(task, completed=offset),
            )
            try:
                tally = await loading.run(lines, start=start)
            except asyncio.CancelledError:
                _interrupted(loading.tally)
                raise
            except (Unavailable, NotSignedIn) as error:
                progress.stop()
                complain(f"{error}. Stopped; what was loaded stays. Run the same command again to go on.")
                return 1
        seconds = time.monotonic() - began
        lost = await doors.wait_for(tally) if wait else []
    _report(tally, seconds, lost, waited=wait)
    return 1 if tally.refused or lost else 0


class Doors:
    """A client for each project a file names, opened when it is first needed."""

    def __init__(self, house: House, opened: AsyncExitStack) -> None:
        self._house = house
        self._opened = opened
        self._clients: dict[str, MemCubeClient] = {}

    async def of(self, project: str) -> MemCubeClient:
        """The client of `project`, which is made where it does not exist."""
        if project not in self._clients:
            key = await self._house.key_of(project, create=True)
            client = self._house.client(project, key, patience=_PATIENCE)
            self._clients[project] = await self._opened.enter_async_context(client)
        return self._clients[project]

    async def send(self, project: str, kind: Kind, bodies: Sequence[Mapping[str, Any]]) -> list[Sent]:
        """Hand a batch over; see `imports.run.Send`."""
        client = await self.of(project)
        if kind == "insight":
            return [Sent(str(receipt.id), None) for receipt in await client.insights.submit_many(bodies)]
        results = await client.memories.import_many(bodies)
        return [Sent(str(result.memory_id), result.status == "exists") for result in results]

    async def still_true(self, kept: Progress, fresh: Progress) -> Progress:
        """`kept`, if what it says was loaded is still there; else `fresh`, and everything is sent again."""
        for project, receipt in kept.witnesses.items():
            try:
                await (await self.of(project)).receipts.get(receipt)
            except NotFound:
                return fresh
        return kept

    async def wait_for(self, tally: Tally) -> list[tuple[str, str]]:
        """Wait until all that was loaded is searchable; the receipts and reasons of what will never be."""
        everything = [(project, receipt) for project, receipts in tally.receipts.items() for receipt in receipts]
        waiting = iter(everything)
        lost: list[tuple[str, str]] = []
        with bar(counts=True) as progress:
            task = progress.add_task("made searchable", total=len(everything))

            async def work() -> None:
                for project, receipt in waiting:
                    reason = await _settled(await self.of(project), receipt)
                    if reason is not None:
                        lost.append((receipt, reason))
                    progress.advance(task)

            await asyncio.gather(*(work() for _ in range(_WAITERS)))
        return lost


async def _settled(client: MemCubeClient, receipt: str) -> str | None:
    """Wait for one receipt for as long as it takes; why it will never be searchable, else None."""
    while True:
        try:
            got = await client.receipts.wait(receipt, timeout=60)
        except NotYet:
            continue
        except Unavailable:
            continue
        except MemCubeError as error:
            return error.code
        return None if got.state == "searchable" else f"{got.state}: {got.reason}"


def _interrupted(tally: Tally) -> None:
    loaded = tally.loaded.total() + tally.skipped
    complain(f"Interrupted with {loaded:,} lines loaded. Run the same command again to go on.")


def _report(tally: Tally, seconds: float, lost: list[tuple[str, str]], *, waited: bool) -> None:
    if tally.refused:
        say("refused:")
        shown = tally.refused[:_MOST_SHOWN] if sys.stdout.isatty() else tally.refused
        table(("line", "field", "reason"), [(r.number, r.field, r.reason) for r in shown], right=("line",))
        if len(shown) < len(tally.refused):
            say(f"… and {len(tally.refused) - len(shown):,} more; a pipe gets all of them")
    if lost:
        say("not searchable by meaning:")
        table(("receipt", "reason"), lost)
    if tally.ignored:
        names = ", ".join(f"{name} ({count:,})" for name, count in sorted(tally.ignored.items()))
        say(f"ignored fields: {names}")
    done = tally.loaded.total() + tally.skipped + tally.repeated
    parts = [f"{count:,} {_plural(kind, count)}" for kind, count in sorted(tally.loaded.items())]
    parts += [f"{tally.existed:,} of them there before"] if tally.existed else []
    parts += [f"{tally.skipped:,} by an earlier run"] if tally.skipped else []
    parts += [f"{tally.repeated:,} repeated in the file"] if tally.repeated else []
    where = f"{len(tally.projects)} {_plural('project', len(tally.projects))}: "
    names = sorted(tally.projects)
    shown_names = ", ".join(names[:_MOST_PROJECTS]) + (", …" if len(names) > _MOST_PROJECTS else "")
    rate = f", {tally.loaded.total() / seconds:,.0f} a second" if seconds > 1 and tally.loaded.total() else ""
    detail = f" ({'; '.join(parts)})" if parts else ""
    say(
        f"{done:,} of {tally.lines:,} lines loaded into {where}{shown_names}{detail}, "
        f"{len(tally.refused):,} refused, in {seconds:.1f} s{rate}"
        + ("; all searchable" if waited and not lost else "")
    )


def _plural(word: str, count: int) -> str:
    if count == 1:
        return word
    return "memories" if word == "memory" else f"{word}s"
