"""The supervisor over real servers and stand-in rooms: ready, restarted, stopped in order, given up plainly."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from memcube_cli.room_process import RoomPlan
from memcube_cli.stack import Stack, StackFile, checkout_name, status_of
from memcube_cli.supervisor import Plan, Supervisor
from memcube_common.embedded.loopback import is_free
from memcube_common.embedded.process import ProcessId, until

ROOM = """
import http.server, os, pathlib, signal, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if sys.argv[1] == "gateway":
            self.wfile.write(b'{"checks": {"nats": "ok", "objects": "TryAgain"}}')

    def log_message(self, *words):
        pass

def stop(*_):
    with open(sys.argv[2], "a") as order:
        order.write(sys.argv[1] + "\\n")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
http.server.HTTPServer(("127.0.0.1", int(os.environ["MEMCUBE_HTTP_PORT"])), Ready).serve_forever()
"""


class Prepared:
    """Remembers what the servers were prepared with."""

    def __init__(self) -> None:
        self.logins: dict[str, str] = {}
        self.streams = 0

    async def provision(self, *, admin_dsn: str, nats_url: str, logins: Mapping[str, str]) -> None:
        self.logins = dict(logins)

    async def provision_streams(self, *, nats_url: str) -> None:
        self.streams += 1

    async def ensure_project(self, *, admin_dsn: str, project: str) -> str | None:
        return "key-of-" + project

    async def new_project_key(self, *, admin_dsn: str, project: str) -> str:
        return "another-key"


class Running:
    """A supervisor running in this loop, and what it said."""

    def __init__(self, home: Path, rooms: tuple[RoomPlan, ...]) -> None:
        self.said: list[str] = []
        self.prepared = Prepared()
        plan = Plan(
            rooms=rooms,
            provision=self.prepared.provision,
            provision_streams=self.prepared.provision_streams,
            ensure_project=self.prepared.ensure_project,
            new_project_key=self.prepared.new_project_key,
            environment=os.environ,
            ready_within=30,
            first_pause=0.01,
        )
        self.supervisor = Supervisor(home, plan, say=self.said.append)
        self.ready = asyncio.Event()
        self.task = asyncio.create_task(self.supervisor.run(on_ready=lambda _: self.ready.set()))

    async def until_ready(self) -> Stack:
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait({ready, self.task}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        assert ready.done(), self.said
        return self.supervisor.stack

    async def stopped(self) -> int:
        self.supervisor.ask_to_stop()
        return await asyncio.wait_for(self.task, 60)


def rooms(order: Path, *names: str) -> tuple[RoomPlan, ...]:
    return tuple(RoomPlan(name, (sys.executable, "-c", ROOM, name, str(order))) for name in names)


async def test_everything_is_ready_then_stopped_in_order_and_nothing_is_left(tmp_path: Path) -> None:
    home, order = tmp_path / "home", tmp_path / "order"
    running = Running(home, rooms(order, "ingestion", "gateway", "embedding"))
    stack = await running.until_ready()
    assert stack.name == checkout_name(home)
    assert stack.key == "key-of-demo"
    assert running.prepared.logins == stack.logins
    without = [said for said in running.said if "goes on without" in said]
    assert without == [f"gateway goes on without objects for now: {home / 'logs' / 'gateway.log'} says why"]
    assert (await status_of(stack))["services"] == dict.fromkeys(
        ("postgres", "nats", "ingestion", "gateway", "embedding"), "ready"
    )
    processes = [record.process for record in stack.services.values()]
    assert await running.stopped() == 0
    assert order.read_text().split()[0] == "gateway"
    assert not any(process is not None and process.is_alive() for process in processes)
    kept = StackFile(home).read()
    assert kept is not None
    assert (kept.phase, kept.key) == ("stopped", "key-of-demo")
    assert {record.state for record in kept.services.values()} == {"stopped"}


async def test_a_killed_room_and_a_killed_server_are_started_again_and_counted(tmp_path: Path) -> None:
    running = Running(tmp_path / "home", rooms(tmp_path / "order", "gateway"))
    stack = await running.until_ready()
    try:
        for name in ("gateway", "nats", "postgres"):
            before = stack.services[name].process
            assert before is not None
            os.kill(before.pid, signal.SIGKILL)

            def is_back(name: str = name, before: ProcessId = before) -> bool:
                record = running.supervisor.stack.services[name]
                return record.state == "ready" and record.process != before and record.restarts == 1

            assert await until(is_back, within=30), running.said
            assert running.supervisor.stack.services[name].port == stack.services[name].port
        assert running.prepared.streams == 1  # after NATS came back, and after nothing else
    finally:
        assert await running.stopped() == 0


async def test_a_room_that_never_becomes_ready_ends_the_start_with_its_last_words(tmp_path: Path) -> None:
    broken = RoomPlan("gateway", (sys.executable, "-c", "raise SystemExit('no such table')"))
    running = Running(tmp_path / "home", (broken,))
    assert await asyncio.wait_for(running.task, 60) == 1
    assert any("gateway ended 5 times" in said and "no such table" in said for said in running.said)
    kept = StackFile(tmp_path / "home").read()
    assert kept is not None
    assert kept.phase == "failed"


async def test_a_second_start_keeps_ports_and_secrets(tmp_path: Path) -> None:
    first = Running(tmp_path / "home", rooms(tmp_path / "order", "gateway"))
    before = await first.until_ready()
    await first.stopped()
    second = Running(tmp_path / "home", rooms(tmp_path / "order", "gateway"))
    after = await second.until_ready()
    await second.stopped()
    assert (after.ports, after.logins, after.postgres, after.nats) == (
        before.ports,
        before.logins,
        before.postgres,
        before.nats,
    )
    assert all(is_free(port) for port in after.ports.values())
