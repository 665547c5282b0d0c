"""What the whole stack holds in memory while nothing happens, and how long it takes to come up.

First `up`: in an empty folder after installation (initdb, schema, model prepared); warm `up`: the second time in the
same folder, from the command's start to its return with everything ready. Then ten idle seconds, then the resident
memory of every process by /proc: PSS shares the common pages among those who map them and can be added up; RSS counts
them in full for each, so a sum of RSS is larger than what is really resident.
Raw limit of `up`: what the machine needs to start one Python with nothing but the gateway's imports.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from benchmarks import machine
from benchmarks.figures import Figure, most
from benchmarks.machine import Footprint
from benchmarks.stage import Options, Stage

MIB = 2**20
_QUIET_SECONDS = 10.0


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure start and rest; see the module."""
    began = time.perf_counter()
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", "import memcube_gateway.app"], check=True)
    one_start = time.perf_counter() - began
    await stage.down()
    warm = await stage.up()
    await asyncio.sleep(_QUIET_SECONDS)
    found = machine.footprints(stage.stack)
    before = machine.processor_seconds(stage.stack)
    await asyncio.sleep(_QUIET_SECONDS)
    used = machine.spent(before, machine.processor_seconds(stage.stack))
    whole = sum(found.values(), start=Footprint(0, 0))
    assert stage.first_up is not None
    of = "one Python that imports the gateway"
    figures = [
        Figure(
            name="whole stack, PSS", value=whole.pss / MIB, unit="MiB",
            budgets=(most("0.1", 1.2 * 1024), most("B10", 1024)),
        ),
        Figure(name="whole stack, sum of RSS", value=whole.rss / MIB, unit="MiB"),
        *(
            Figure(
                name=f"{name}, RSS (PSS {footprint.pss / MIB:.0f})", value=footprint.rss / MIB, unit="MiB",
                budgets=() if name in {"postgres", "nats", "supervisor"}
                else (most("B10", 400 if name == "embedding" else 120),),
            )
            for name, footprint in sorted(found.items(), key=lambda entry: -entry[1].rss)
        ),
        Figure(
            name="first up after installation", value=stage.first_up, unit="s", limit=one_start, limit_of=of,
            budgets=(most("B10", 10),),
        ),
        Figure(name="warm up", value=warm, unit="s", limit=one_start, limit_of=of, budgets=(most("B10", 6),)),
        Figure(
            name="processor time at rest", value=100 * sum(used.values()) / _QUIET_SECONDS, unit="% of one processor"
        ),
    ]  # fmt: skip
    return figures, ["at rest: " + ", ".join(f"{n} {1000 * s / _QUIET_SECONDS:.1f} ms/s" for n, s in used.items())]
