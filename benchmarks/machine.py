"""What the machine is, how busy it is, and what each process of the stack costs; Linux tells, others tell less."""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from memcube_cli.stack import Stack

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Resident memory in bytes: `rss` counts shared pages in full for each process, `pss` its share of them."""

    rss: int
    pss: int

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint(self.rss + other.rss, self.pss + other.pss)


def describe() -> str:
    """Processors, memory and versions in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} processors, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def load() -> str:
    """How busy the machine is before a measurement: the load average, and the processors over half a second."""
    before = _processor_times()
    time.sleep(0.5)
    after = _processor_times()
    busy = ""
    if before and after and sum(after) > sum(before):
        passed = [late - early for early, late in zip(before, after, strict=True)]
        busy = f", processors {100 * (1 - (passed[3] + passed[4]) / sum(passed)):.0f} % busy"
    return f"load average {os.getloadavg()[0]:.2f}{busy}"


def processor_seconds(stack: Stack) -> dict[str, float]:
    """Processor time each service has used so far, its children (also those that ended) included."""
    return {name: sum(map(_seconds_of, pids)) for name, pids in service_processes(stack).items()}


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Processor seconds between two readings, by service, largest first."""
    passed = {name: after[name] - before.get(name, 0.0) for name in after}
    return dict(sorted(passed.items(), key=lambda entry: -entry[1]))


def footprints(stack: Stack) -> dict[str, Footprint]:
    """Resident memory of each service, its children included."""
    return {
        name: sum(map(_footprint_of, pids), start=Footprint(0, 0)) for name, pids in service_processes(stack).items()
    }


def service_processes(stack: Stack) -> dict[str, list[int]]:
    """The processes of each service and of the supervisor: the one it started, and the children of that."""
    children = _children()
    roots = {name: record.process.pid for name, record in stack.services.items() if record.process is not None}
    found = {name: [root, *_descendants(root, children)] for name, root in roots.items()}
    if stack.supervisor is not None:
        found["supervisor"] = [stack.supervisor.pid]
    return found


def _descendants(root: int, children: Mapping[int, list[int]]) -> Iterable[int]:
    for child in children.get(root, []):
        yield child
        yield from _descendants(child, children)


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:
            found[int(fields[1])].append(int(entry.name))
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; empty where there is none."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _seconds_of(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def _footprint_of(pid: int) -> Footprint:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return Footprint(0, 0)
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return Footprint(kilobytes.get("Rss", 0) * 1024, kilobytes.get("Pss", 0) * 1024)


def _processor_times() -> list[int]:
    try:
        first = (_PROC / "stat").read_text().splitlines()[0]
    except OSError:
        return []
    return [int(value) for value in first.split()[1:9]]
