"""`memcube embeddings`: from one embedding model to another, while the house is open."""

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from memcube_cli.console import bar, complain, one_line, say, table
from memcube_cli.house import House, fail, run, the_house
from memcube_common.db import Database, Transaction
from memcube_common.errors import TryAgain
from memcube_common.memories import generations
from memcube_common.memories.generations import FoundOut, Migration, Model, Progress, Step
from memcube_common.security.principal import Principal

LOOK_SECONDS: Final = 0.3
TAKEN_UP_WITHIN: Final = 30.0
"""Seconds after which it is said that no embedding room has opened the target."""
SETTLED: Final = 21.0
"""Seconds after a change of models until no search of the other one is under way."""
_TARGET: Final = re.compile(r"(local|openai:[!-~]{1,200})\Z")
_TOLD: Final = {
    "backfilling": "memories are being embedded by the new model; searches use the old one",
    "ready": "every memory has both vectors; searches use the old model",
    "cut_over": "searches use the new model; the old vectors are kept up to date",
    "rolled_back": "searches use the old model again; the new vectors are kept up to date",
    "finished": "done",
    "cancelled": "cancelled",
}

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Change the embedding model while the house is open.", no_args_is_help=True)
    group.command("migrate")(migrate)
    group.command("status")(status)
    group.command("cut-over")(cut_over)
    group.command("roll-back")(roll_back)
    group.command("finish")(finish)
    group.command("cancel")(cancel)
    app.add_typer(group, name="embeddings")


def migrate(
    to: Annotated[str, typer.Option(help="`local`, or `openai:NAME[:DIMENSIONS]` at the room's OpenAI endpoint.")],
    yes: Yes = False,
) -> None:
    """Embed every memory by another model too, then compare both. Searches go on using the old one.

    Ctrl-C leaves it running; the same command looks at it again.
    """
    if not _TARGET.match(to):
        fail("A model is `local` or `openai:NAME[:DIMENSIONS]`.", 2)
    run(migrate_to(the_house(), to, yes=yes))


def status() -> None:
    """Say which model is in force, how far a migration is, and what comparing the models found."""
    run(show_status(the_house()))


def cut_over() -> None:
    """Let searches use the new model, at once. The old vectors are kept up to date until `finish`."""
    run(take_step(the_house(), "cut-over", "Searches use the new model. Back: memcube embeddings roll-back"))


def roll_back() -> None:
    """Let searches use the old model again, at once, with all that was written meanwhile."""
    run(take_step(the_house(), "roll-back", "Searches use the old model again."))


def finish(yes: Yes = False) -> None:
    """End a migration after the cut-over: the old vectors are removed, and there is no way back."""
    run(_end(the_house(), "finish", "Remove the old vectors? There is no way back.", yes=yes))


def cancel(yes: Yes = False) -> None:
    """End a migration before the cut-over: the new vectors are removed."""
    run(_end(the_house(), "cancel", "Remove the new vectors and stay with the old model?", yes=yes))


async def migrate_to(house: House, to: str, *, yes: bool) -> int:
    """Begin a migration, or look at the one that is under way, until both models are compared."""
    async with house.database() as database:
        current, migration, _ = await _look(database)
        if migration is None or not migration.is_open:
            if current is not None and not yes:
                typer.confirm(f"Embed every memory by {to} beside {current.name} ({current.dimensions})?", abort=True)
            async with database.transaction(Principal.operator()) as tx:
                refused = await generations.start(tx, target=to)
            if refused is not None:
                fail(f"This cannot be: {refused}.")
        elif migration.target != to:
            fail(f"A migration to {migration.target} is under way: finish or cancel it first.")
        ended = await _watch(database)
        if ended.state == "cancelled":
            fail(f"This cannot be: {ended.problem or 'it was cancelled'}.")
        await _compared(database, ended)
        await _report(database)
        say()
        say("Nothing has changed for searches yet. Next: memcube embeddings cut-over")
    return 0


async def _watch(database: Database) -> Migration:
    """Show how memories are handed over until all are; returns the migration as it is then."""
    began, told = time.monotonic(), ""
    with bar(counts=True) as shown:
        task = shown.add_task("memories", total=None)
        while True:
            _, migration, progress = await _look(database)
            assert migration is not None
            assert progress is not None
            if migration.state != "backfilling":
                shown.update(task, total=progress.todo, completed=progress.todo)
                return migration
            shown.update(task, total=progress.todo or None, completed=progress.through)
            trouble = migration.problem or ""
            if migration.to_generation is None and not trouble and time.monotonic() - began > TAKEN_UP_WITHIN:
                trouble = "no embedding room has opened the new model yet: is one running?"
            if trouble and trouble != told:
                complain(one_line(trouble))
            told = trouble
            await asyncio.sleep(LOOK_SECONDS)


async def _compared(database: Database, migration: Migration) -> None:
    """Wait until the models are compared, a minute at most."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline and migration.is_open:
        _, _, progress = await _look(database)
        if progress is None or progress.comparing == 0:
            return
        await asyncio.sleep(LOOK_SECONDS)


async def show_status(house: House) -> int:
    """Print which model is in force, and how far the latest migration is."""
    async with house.database() as database:
        await _report(database)
    return 0


async def take_step(house: House, step: Step, done: str) -> int:
    """Take the migration a step on, or end the command with the reason why that cannot be."""
    async with house.database() as database, database.transaction(Principal.operator()) as tx:
        refused = await generations.steer(tx, step=step)
    if refused is not None:
        fail(f"This cannot be: {refused}.")
    say(done)
    return 0


async def _end(house: House, step: Step, question: str, *, yes: bool) -> int:
    if not yes:
        typer.confirm(question, abort=True)
    async with house.database() as database:
        _, migration, _ = await _look(database)
        if migration is not None and migration.is_open and migration.switched_at is not None:
            since = (datetime.now(UTC) - migration.switched_at).total_seconds()
            if since < SETTLED:
                complain("waiting for searches that began before the models were changed")
                await asyncio.sleep(min(SETTLED, SETTLED - since))
        async with database.transaction(Principal.operator()) as tx:
            refused = await generations.steer(tx, step=step)
        if refused is not None:
            fail(f"This cannot be: {refused}.")
        await _swept(database)
    say("Done. Name the model that is in force in the settings of the embedding room, too.")
    return 0


async def _swept(database: Database) -> None:
    """Show how vectors are removed, project by project, until all are."""
    with bar(counts=True) as shown:
        task = shown.add_task("projects", total=None)
        most = 0
        while True:
            _, migration, progress = await _look(database)
            if migration is None or migration.swept_at is not None or progress is None:
                return
            most = max(most, progress.sweeping)
            shown.update(task, total=most, completed=most - progress.sweeping)
            await asyncio.sleep(LOOK_SECONDS)


async def _look(database: Database) -> tuple[Model | None, Migration | None, Progress | None]:
    """What is in force, and how far the latest migration is by now; an answer that does not come is waited for."""
    while True:
        try:
            async with database.transaction(Principal.operator()) as tx:
                await generations.steer(tx, step="look")
                return await _read(tx)
        except TryAgain as error:
            complain(error.detail)
            await asyncio.sleep(error.after)


async def _read(tx: Transaction) -> tuple[Model | None, Migration | None, Progress | None]:
    current, migration = await generations.current_model(tx), await generations.latest_migration(tx)
    progress = None if migration is None else await generations.read_progress(tx, migration=migration.id)
    return current, migration, progress


async def _report(database: Database) -> None:
    current, migration, progress = await _look(database)
    say(f"in force: {'no model yet' if current is None else f'{current.name} ({current.dimensions} dimensions)'}")
    if migration is None or progress is None:
        return
    say(f"migration to {migration.target}: {migration.state}, {_TOLD[migration.state]}")
    if migration.problem is not None:
        say(f"in its way: {one_line(migration.problem)}")
    if not migration.is_open:
        say("vectors that nobody needs: " + ("removed" if migration.swept_at else "being removed"))
        return
    say(
        f"memories: {progress.through:,} of {progress.todo:,} that were there before, {progress.waiting:,} waiting; "
        f"{progress.made:,} vectors made, {progress.refused:,} texts refused"
    )
    async with database.transaction(Principal.operator()) as tx:
        found_out = await generations.read_found_out(tx, migration=migration.id)
    _refusals(found_out)
    _comparison(found_out)


def _refusals(found_out: Sequence[FoundOut]) -> None:
    for one in found_out:
        for reason, refused in one.refusals.items():
            some = " ".join(map(str, refused["ids"]))
            say(f"refused in {one.project}: {refused['count']:,} ({one_line(reason)}), found by words only: {some}")


def _comparison(found_out: Sequence[FoundOut]) -> None:
    """The report: what the newest memories' labels find by either model, and how long each took."""
    samples = [sample for one in found_out for sample in one.samples]
    if not samples:
        return
    shared = [sample["overlap"] for sample in samples]
    say()
    say(f"{len(samples):,} searches, for the labels of the newest memories, by either model alone:")
    say(f"  overlap@10: {sum(shared) / len(shared):.3f} of the answers are the same")
    quarters = Counter(min(3, int(overlap * 4)) for overlap in shared)
    say("  " + ", ".join(f"{quarters[n]} searches share {n * 25}-{n * 25 + 25} %" for n in (3, 2, 1, 0) if quarters[n]))
    rows: list[tuple[str, str, str]] = []
    for name, column in (("old", "old_ms"), ("new", "new_ms")):
        took = sorted(sample[column] for sample in samples)
        rows.append((name, f"{percentile(took, 0.5):.1f}", f"{percentile(took, 0.95):.1f}"))
    say("  vector and search, in milliseconds:")
    table(("model", "p50", "p95"), rows, right=("p50", "p95"))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the sorted `values` that so large a share of them does not exceed (nearest rank)."""
    return values[max(0, math.ceil(share * len(values)) - 1)]
