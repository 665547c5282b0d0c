"""`memcube insight import` as a process, against a gateway on a real socket: killed, resumed, refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from tests.fakes.scripted_http import Answered, Asked, problem, scripted


class Gateway:
    """Keeps insights by id; after `stall_after` batches it takes one more and never answers."""

    def __init__(self, *, stall_after: int | None = None) -> None:
        self.kept: set[str] = set()
        self.batches = 0
        self.stall_after = stall_after
        self.stalled = asyncio.Event()

    def answer(self, asked: Asked) -> Answered:
        if asked.method == "GET":
            identity = asked.path.rpartition("/")[2]
            if identity not in self.kept:
                return problem(404, "not_found")
            return Answered(200, {"id": identity, "project": "demo", "state": "searchable"})
        insights = asked.json["insights"]
        if any("bad" in insight.get("tags", []) for insight in insights):
            return problem(422, "invalid", errors=[{"field": "insights.0.tags", "message": "is bad"}])
        self.kept |= {insight["id"] for insight in insights}
        self.batches += 1
        if self.stall_after is not None and self.batches > self.stall_after:
            self.stalled.set()
            return Answered(200, "", {"Content-Type": "text/event-stream"}, hold=True)
        receipts = [{"id": insight["id"], "project": "demo", "state": "accepted"} for insight in insights]
        return Answered(202, {"receipts": receipts})


async def start(url: str, home: Path, *arguments: str) -> Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEMCUBE_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "memcube_cli", "insight", "import", *arguments,
        env={**kept, "MEMCUBE_URL": url, "MEMCUBE_KEY": "k", "MEMCUBE_HOME": str(home)},
        stdout=PIPE,
        stderr=PIPE,
        preexec_fn=_hears_interrupts,
    )  # fmt: skip


def _hears_interrupts() -> None:
    """Whoever runs the tests in the background lets them ignore SIGINT, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def write(path: Path, count: int, *, bad: int | None = None) -> Path:
    lines = [{"insight": f"Learned {n}.", "tokens": n} | ({"tags": ["bad"]} if n == bad else {}) for n in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


async def test_a_killed_import_is_finished_by_a_second_run_without_doubles(tmp_path: Path) -> None:
    gateway = Gateway(stall_after=3)
    file = write(tmp_path / "f.jsonl", 300)
    async with scripted(always=gateway.answer) as server:
        first = await start(server.url, tmp_path, str(file), "--batch", "20")
        await gateway.stalled.wait()
        first.send_signal(signal.SIGKILL)
        await first.communicate()
        assert len(gateway.kept) == 80
        gateway.stall_after = None
        second = await start(server.url, tmp_path, str(file), "--batch", "20", "--wait")
        out, _ = await second.communicate()

    assert second.returncode == 0
    assert len(gateway.kept) == 300
    assert "300 of 300 lines loaded" in out.decode()
    assert "all searchable" in out.decode()
    assert "ignored fields: tokens (300)" in out.decode()


async def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    gateway = Gateway(stall_after=1)
    file = write(tmp_path / "f.jsonl", 100)
    async with scripted(always=gateway.answer) as server:
        first = await start(server.url, tmp_path, str(file), "--batch", "20")
        await gateway.stalled.wait()
        first.send_signal(signal.SIGINT)
        _, said = await first.communicate()
        gateway.stall_after = None
        second = await start(server.url, tmp_path, str(file), "--batch", "20")
        out, _ = await second.communicate()

    assert first.returncode == 130
    assert "Run the same command again" in said.decode()
    assert "Traceback" not in said.decode()
    assert second.returncode == 0
    assert len(gateway.kept) == 100
    assert "by an earlier run" in out.decode()


async def test_refused_lines_are_named_and_the_rest_is_loaded(tmp_path: Path) -> None:
    gateway = Gateway()
    file = write(tmp_path / "f.jsonl", 50, bad=30)
    file.write_text(file.read_text() + '{"insight": " "}\nnot json\n')
    async with scripted(always=gateway.answer) as server:
        done = await start(server.url, tmp_path, str(file))
        out, said = await done.communicate()

    assert done.returncode == 1, said.decode()
    assert len(gateway.kept) == 49
    assert out.decode().splitlines()[1:4] == [
        "31\ttags\tis bad",
        "51\tinsight\tmust not be blank",
        "52\tline\tnot valid JSON at column 1",
    ]
    assert "49 of 52 lines loaded" in out.decode()
    assert "\x1b" not in out.decode()


async def test_without_a_stack_a_sentence_says_so(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEMCUBE_")}
    lonely = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "memcube_cli", "query", "x",
        env={**kept, "MEMCUBE_HOME": str(tmp_path)}, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    out, said = await lonely.communicate()
    assert lonely.returncode == 1
    assert out == b""
    assert said.decode() == "MemCube does not run in this checkout. Start it with: make up\n"
