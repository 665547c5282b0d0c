"""How outcomes are shown: on the terminal as they come, and together in docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, Outcome, number

_HEAD: Final = """# Performance

Written by `python -m benchmarks` (`make bench`); never edited by hand. `python -m benchmarks NAME` measures one part.

Servers, rooms and the load generator share the same few processors, so absolute figures drift with the machine and
with whatever else it does. Read the **ratio**: the figure beside the raw limit taken in the same run (for a rate the
share of the limit that is reached, for a time the factor that is paid). Budgets are directions for a quiet machine, and
no test fails by time: B1 … B11 are those of the long run, 0.1 those of the first version. What does not drift is gated:
statements, round trips, transactions, WAL bytes, messages and embedder calls per operation, in
`benchmarks/counters.json`, checked by `tests/integration/test_counters.py`.
"""


def kept_outcomes(folder: Path, names: Sequence[str]) -> list[Outcome]:
    """The latest outcome of each benchmark, as far as there is one."""
    found = [folder / f"{name}.json" for name in names]
    return [Outcome.model_validate_json(path.read_bytes()) for path in found if path.is_file()]


def keep(folder: Path, outcome: Outcome) -> None:
    """Keep an outcome until the next of the same benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{outcome.name}.json").write_text(outcome.model_dump_json(indent=1) + "\n")


def shown(outcome: Outcome) -> str:
    """An outcome for the terminal."""
    lines = [f"\n{outcome.name}  ({outcome.seconds:.0f} s; before it: {outcome.load}; seed {outcome.seed})"]
    if outcome.skipped or outcome.failed:
        lines.append(f"  skipped: {outcome.skipped}" if outcome.skipped else f"  FAILED: {outcome.failed}")
    rows = [("", "figure", "raw limit", "ratio", "budget")] + [_cells(figure) for figure in outcome.figures]
    if outcome.figures:
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:4], widths[1:4], strict=True))]  # fmt: skip # noqa: E501
            lines.append("  " + "  ".join([*cells, row[4]]).rstrip())
    return "\n".join([*lines, *(f"  · {note}" for note in outcome.notes)])


def page(outcomes: Sequence[Outcome], machine: str) -> str:
    """docs/performance.md."""
    parts = [_HEAD, f"Machine: {machine}.\n"]
    for outcome in outcomes:
        title, _, rest = outcome.method.strip().partition("\n\n")
        parts.append(f"## {outcome.name}\n\n{title}\n\n{rest}\n")
        scale = "" if outcome.scale == 1 else f" At {outcome.scale:g} of its size: not a figure to compare."
        parts.append(
            f"{outcome.at:%Y-%m-%d %H:%M} UTC, {outcome.seconds:.0f} s. Before it: {outcome.load}. "
            f"Seed {outcome.seed}.{scale}\n"
        )
        if outcome.skipped or outcome.failed:
            parts.append(f"Skipped: {outcome.skipped}\n" if outcome.skipped else f"**Failed**: {outcome.failed}\n")
        if outcome.figures:
            rows = [_cells(figure) for figure in outcome.figures]
            parts.append("\n".join([
                "| | figure | raw limit | ratio | budget |", "|---|---:|---:|---:|---|",
                *(f"| {' | '.join(row)} |" for row in rows),
            ]) + "\n")  # fmt: skip
            limits = dict.fromkeys(figure.limit_of for figure in outcome.figures if figure.limit_of)
            if limits:
                parts.append(f"Raw limits: {'; '.join(limits)}.\n")
        if outcome.notes:
            parts.append("\n".join(f"- {note}" for note in outcome.notes) + "\n")
    return "\n".join(parts)


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    budgets = ", ".join(f"{budget} {'met' if budget.is_met(figure.value) else 'MISSED'}" for budget in figure.budgets)
    return (
        figure.name,
        f"{number(figure.value)} {figure.unit}",
        "" if figure.limit is None else number(figure.limit),
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        budgets,
    )
