"""What commands print: aligned and calm on a terminal, plain tab-separated lines in a pipe."""

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

_WIDEST: Final = 36  # columns of any column but the last, which takes what is left
_NARROWEST: Final = 20  # columns the last one gets, as long as the others can give way
_LEAST: Final = 8


def console() -> Console:
    """Stdout: colours and width only where it is a terminal."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def complain(sentence: str) -> None:
    """One sentence on stderr."""
    Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(sentence)


def say(sentence: str = "") -> None:
    """One line on stdout, out at once."""
    console().print(sentence)
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print rows under their columns; the last column takes the width that is left. `right` names number columns."""
    out = console()
    if not out.is_terminal:
        for row in rows:
            sys.stdout.write("\t".join(one_line(str(cell)) for cell in row) + "\n")
        sys.stdout.flush()
        return
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    widths = [
        min(_WIDEST, max(cell_len(column), *(cell_len(row[place]) for row in cells), 0))
        for place, column in enumerate(columns)
    ]
    left = out.width - 2 * (len(columns) - 1)
    while sum(widths[:-1]) > left - min(widths[-1], _NARROWEST) and max(widths[:-1]) > _LEAST:
        widths[widths.index(max(widths[:-1]))] -= 1  # the widest gives way first
    widths[-1] = max(_LEAST, left - sum(widths[:-1]))
    for row, style in [(list(columns), "dim"), *((row, "") for row in cells)]:
        line = [
            _fitted(cell, width, to_the_right=column in right)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        out.print(Text("  ".join(line).rstrip(), style=style), no_wrap=True, crop=False)


def _fitted(cell: str, width: int, *, to_the_right: bool) -> str:
    """`cell` in exactly `width` columns of a terminal, where some characters take two."""
    if cell_len(cell) > width:
        return set_cell_size(cell, width - 1) + "…"
    room = " " * (width - cell_len(cell))
    return room + cell if to_the_right else cell + room


def one_line(text: str) -> str:
    """`text` on one line, without the control characters a terminal would obey."""
    return " ".join("".join(" " if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"} else c for c in text).split())


def cut(text: str, width: int) -> str:
    """`text` on one line of at most `width` characters."""
    line = one_line(text)
    return line if len(line) <= width else line[: width - 1] + "…"


def bar(*, counts: bool) -> Progress:
    """A progress bar on stderr, silent where that is no terminal; `counts` shows '3/20' instead of '15%'."""
    out = Console(stderr=True, highlight=False)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn() if counts else TaskProgressColumn(),
        TimeElapsedColumn(),
        console=out,
        disable=not out.is_terminal,
    )
