"""One run of an import: batches by project and kind; a refused batch is halved until the line at fault is found."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from memcube import Unprocessable
from memcube_cli.imports.lines import Item, Kind, Refusal, judge, read_lines
from memcube_cli.imports.progress import Progress, ProgressFile
from memcube_common.contracts.api import MAX_BATCH

MAX_BATCH_BYTES: Final = 1 << 20
MAX_LAG: Final = 5_000  # lines a slow group may hold the remembered place back
SAVE_EVERY: Final = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one item: the id its receipt has, and whether it was there before (None: not known)."""

    receipt: str
    existed: bool | None


class Send(Protocol):
    """Hands items of one project and kind over, together or not at all; the outcome of each in order.

    Raises memcube's Unprocessable where the server refuses the batch.
    """

    async def __call__(self, project: str, kind: Kind, bodies: Sequence[Mapping[str, Any]]) -> list[Sent]: ...


@dataclass
class Tally:
    """What a run did, for the summary."""

    lines: int = 0
    loaded: Counter[str] = field(default_factory=Counter[str])
    existed: int = 0
    repeated: int = 0
    skipped: int = 0
    projects: set[str] = field(default_factory=set[str])
    ignored: Counter[str] = field(default_factory=Counter[str])
    refused: list[Refusal] = field(default_factory=list[Refusal])
    receipts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


class Import:
    """Loads one file. `on_progress` is told the bytes of the file that are dealt with."""

    def __init__(
        self, send: Send, *, project: str, batch: int, remember: ProgressFile, on_progress: Callable[[int], None]
    ) -> None:
        self._send = send
        self._project = project
        self._batch = max(1, min(batch, MAX_BATCH))
        self._remember = remember
        self._on_progress = on_progress
        self._waiting: dict[tuple[str, Kind], list[Item]] = {}
        self._seen: set[tuple[str, Kind, str]] = set()
        self._progress = remember.fresh
        self._before: dict[int, Refusal] = {}
        self._saved_at = 0.0
        self.tally = Tally()

    async def run(self, file: Any, *, start: Progress) -> Tally:
        """Send the lines of `file` (opened in binary); what lies before `start.offset` is judged but not sent again."""
        self._before = {number: Refusal(number, name, reason) for number, name, reason in start.refused}
        self._progress = start.model_copy(update={"refused": []})
        end = 0
        try:
            for line in read_lines(file):
                end = line.end
                self.tally.lines += 1
                found = judge(line, project=self._project)
                match found:
                    case None:
                        self.tally.lines -= 1
                    case Refusal():
                        self.tally.refused.append(found)
                    case Item():
                        await self._take(found, is_sent=line.end <= start.offset)
                if not self._waiting:
                    self._reached(end)
            for group in list(self._waiting):
                await self._flush(group)
            self._reached(end)
        finally:
            if self._progress.offset > 0:
                self._remember.write(self._progress)
        self.tally.refused.sort(key=lambda refusal: refusal.number)
        return self.tally

    async def _take(self, item: Item, *, is_sent: bool) -> None:
        self.tally.ignored.update(item.ignored)
        self.tally.projects.add(item.project)
        if is_sent:
            if item.line.number in self._before:
                self._refuse(self._before[item.line.number])
            else:
                self.tally.skipped += 1
            return
        identity = (item.project, item.kind, item.id)
        if identity in self._seen:
            self.tally.repeated += 1
            return
        self._seen.add(identity)
        group = self._waiting.setdefault((item.project, item.kind), [])
        group.append(item)
        if len(group) >= self._batch or sum(len(one.line.text or b"") for one in group) >= MAX_BATCH_BYTES:
            await self._flush((item.project, item.kind))
        first = next(iter(self._waiting.values()), None)
        if first and item.line.number - first[0].line.number > MAX_LAG:
            await self._flush((first[0].project, first[0].kind))

    async def _flush(self, group: tuple[str, Kind]) -> None:
        items = self._waiting[group]
        await self._deliver(*group, items)
        del self._waiting[group]
        self._reached(min((one[0].line.start for one in self._waiting.values()), default=items[-1].line.end))

    async def _deliver(self, project: str, kind: Kind, items: Sequence[Item]) -> None:
        """Send items; where the server refuses the batch, each half by itself, down to the line that is at fault."""
        try:
            sent = await self._send(project, kind, [item.body for item in items])
        except Unprocessable as error:
            if len(items) > 1:
                middle = len(items) // 2
                await self._deliver(project, kind, items[:middle])
                await self._deliver(project, kind, items[middle:])
                return
            fault = error.errors[0] if error.errors else None
            number = items[0].line.number
            refusal = (
                Refusal(number, _own_field(fault.field), fault.message)
                if fault
                else Refusal(number, "line", error.detail)
            )
            self._refuse(refusal)
            return
        self._count(project, kind, sent)

    def _refuse(self, refusal: Refusal) -> None:
        """The server refuses this line; a later run knows without asking."""
        self.tally.refused.append(refusal)
        self._note(refused=[*self._progress.refused, (refusal.number, refusal.field, refusal.reason)])

    def _count(self, project: str, kind: Kind, sent: Iterable[Sent]) -> None:
        receipts = self.tally.receipts.setdefault(project, [])
        for one in sent:
            receipts.append(one.receipt)
            self.tally.loaded[kind] += 1
            self.tally.existed += one.existed is True
        if receipts:
            self._note(witnesses={**self._progress.witnesses, project: receipts[-1]})

    def _note(self, **changed: Any) -> None:
        self._progress = self._progress.model_copy(update=changed)

    def _reached(self, offset: int) -> None:
        if offset <= self._progress.offset:
            return
        self._note(offset=offset, loaded=self.tally.loaded.total() + self.tally.skipped)
        self._on_progress(offset)
        if time.monotonic() - self._saved_at > SAVE_EVERY:
            self._remember.write(self._progress)
            self._saved_at = time.monotonic()


def _own_field(path: str) -> str:
    """The field inside the line: the server's path without the place in the batch."""
    parts = path.split(".")
    while parts and (parts[0] in {"body", "insights", "memories"} or parts[0].isdigit()) and len(parts) > 1:
        parts.pop(0)
    return ".".join(parts)
