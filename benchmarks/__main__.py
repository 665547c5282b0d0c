"""`python -m benchmarks [NAME …]`: measure all in under ten minutes, or what is named."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Final, cast

import uvloop

from benchmarks import (
    accept_http,
    add_one,
    auth,
    book,
    embed,
    idle,
    machine,
    policies,
    quality,
    query,
    query_large,
    recall,
    report,
    schedule,
    searchable,
    store_nats,
)
from benchmarks.figures import Figure, Outcome
from benchmarks.stage import CHECKOUT, KEPT, Options, Stage

BENCHMARKS: Final[Mapping[str, ModuleType]] = {
    "idle": idle,  # first: it wants a stack that has done nothing yet
    "accept_http": accept_http,
    "add_one": add_one,
    "book": book,
    "store_nats": store_nats,
    "embed": embed,
    "searchable": searchable,
    "query": query,
    "query_large": query_large,
    "recall": recall,
    "schedule": schedule,
    "policies": policies,
    "auth": auth,
    "quality": quality,
}
PAGE: Final = CHECKOUT / "docs" / "performance.md"

Run = Callable[[Stage, Options], Awaitable[tuple[list[Figure], list[str]]]]


def main() -> int:
    """Read the arguments and measure; 1 if something could not be measured."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    asked.add_argument("name", nargs="*", help=f"one or more of: {', '.join(BENCHMARKS)}; all if none is named")
    asked.add_argument("--seed", type=int, default=1, help="what the made-up texts are made from")
    asked.add_argument("--scale", type=float, default=1.0, help="size of everything; below 1 to try things out")
    asked.add_argument("--data", type=Path, default=CHECKOUT.parent / "shared" / "eval" / "dev",
                       help="folder with memories.jsonl and questions.jsonl for `quality`")  # fmt: skip
    asked.add_argument("--out", type=Path, help="where `quality` leaves its RESULTS.jsonl")
    asked.add_argument("--home", type=Path, help="folder of the stack; kept afterwards (a fresh one is removed)")
    asked.add_argument("--write", action="store_true", help="write docs/performance.md though only some were named")
    told = asked.parse_args()
    home = None if told.home is None else Path(told.home).absolute()
    names = list(BENCHMARKS) if not told.name else [name for name in BENCHMARKS if name in told.name]
    if unknown := set(told.name) - set(BENCHMARKS):
        asked.error(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    options = Options(seed=told.seed, scale=told.scale, data=told.data, out=told.out)
    whole = not told.name and options.scale == 1
    outcomes = uvloop.run(measure(names, options, home))
    if whole or told.write:
        PAGE.write_text(report.page(report.kept_outcomes(KEPT / "results", list(BENCHMARKS)), machine.describe()))
        print(f"\nwritten: {PAGE.relative_to(CHECKOUT)}")
    return 1 if any(outcome.failed for outcome in outcomes) else 0


async def measure(names: Sequence[str], options: Options, home: Path | None) -> list[Outcome]:
    """Start a stack, measure what is named, one after another, and stop it; a failure does not end the rest."""
    fresh = home is None
    stage = Stage(home or KEPT / f"home-{time.time_ns():x}")
    outcomes: list[Outcome] = []
    print(f"{machine.describe()}; {machine.load()}; seed {options.seed}, scale {options.scale:g}", flush=True)
    try:
        stage.home.parent.mkdir(parents=True, exist_ok=True)
        print(f"the stack came up in {await stage.up():.1f} s", flush=True)
        for name in names:
            outcome = await _measure_one(name, stage, options)
            outcomes.append(outcome)
            if options.scale == 1:
                report.keep(KEPT / "results", outcome)
            print(report.shown(outcome), flush=True)
    finally:
        await stage.down()
        if fresh:
            shutil.rmtree(stage.home, ignore_errors=True)
    print(f"\n{sum(outcome.seconds for outcome in outcomes):.0f} s in all")
    return outcomes


async def _measure_one(name: str, stage: Stage, options: Options) -> Outcome:
    module = BENCHMARKS[name]
    load = await asyncio.to_thread(machine.load)
    began = time.perf_counter()
    figures: list[Figure] = []
    notes: list[str] = []
    failed: str | None = None
    skipped: str | None = None
    try:
        figures, notes = await cast("Run", module.run)(stage, options)
    except quality.Skipped as why:
        skipped = str(why)
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"[:500]
        traceback.print_exc(file=sys.stdout)
    return Outcome(
        name=name,
        method=module.__doc__ or "",
        at=datetime.now(UTC),
        seed=options.seed,
        scale=options.scale,
        load=load,
        seconds=time.perf_counter() - began,
        figures=tuple(figures),
        notes=tuple(notes),
        skipped=skipped,
        failed=failed,
    )


if __name__ == "__main__":
    sys.exit(main())
