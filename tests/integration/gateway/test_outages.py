"""Postgres frozen or gone: callers hear 503 with Retry-After within two seconds, and all is well afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from tests.fakes.running_gateway import RunningGateway
from tests.rooms import admin
from tests.starved import starved

from memcube_common.embedded import EmbeddedPostgres
from memcube_common.testing.servers import HouseDatabase, Servers


@pytest.fixture
def postgres(servers: Servers) -> EmbeddedPostgres:
    """The embedded server, which a test may stop; another's server is left alone."""
    if servers.postgres is None:
        pytest.skip("the server is not ours to stop")
    return servers.postgres


@contextlib.contextmanager
def frozen(postgres: EmbeddedPostgres) -> Generator[None]:
    """The server and all its sessions stand still while the block lasts."""
    process = postgres.process
    assert process is not None
    family = [process.pid, *_children(process.pid)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in family:
            os.kill(pid, signal.SIGCONT)


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
    return found


async def refused_in_time(http: httpx.AsyncClient) -> None:
    """Every route, several at once: 503 with Retry-After, within two seconds."""

    async def one(method: str, path: str, body: object | None) -> None:
        started = time.monotonic() - starved()
        answer = await http.request(method, path, json=body)
        took = time.monotonic() - starved() - started
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), path
        assert int(answer.headers["retry-after"]) >= 1
        assert took < 2.0, f"{path} took {took:.2f} s"

    await asyncio.gather(
        *(
            one(method, path, body)
            for method, path, body in (
                ("POST", "insights", {"insight": "a"}),
                ("POST", "memories/query", {"text": "a", "mode": "keyword"}),
                ("POST", "memories/query", {"text": "a"}),
                ("POST", "memories/query", {}),
                ("POST", "memories/import", {"memories": [{"id": "1", "content": "a"}]}),
                ("GET", f"memories/{uuid4()}", None),
                ("GET", f"receipts/{uuid4()}", None),
                ("GET", f"receipts/{uuid4()}?wait=stored&timeout=10", None),
                ("GET", "changes", None),
            )
            for _ in range(3)
        )
    )


async def well_again(http: httpx.AsyncClient, within: float) -> None:
    end = time.monotonic() + within
    while (await http.post("insights", json={"insight": "after"})).status_code != 202:
        assert time.monotonic() < end, f"not well again within {within} s"


async def test_a_frozen_postgres_is_answered_for_in_time(
    http: httpx.AsyncClient, postgres: EmbeddedPostgres, gateway: RunningGateway
) -> None:
    assert (await http.post("insights", json={"insight": "before"})).status_code == 202
    with frozen(postgres):
        await refused_in_time(http)
        gateway.room.door.forget_all()
        await refused_in_time(http)
        async with asyncio.timeout(3):
            assert (await http.get(f"{gateway.url}/readyz")).status_code == 503
            assert (await http.get(f"{gateway.url}/livez")).status_code == 200
    await well_again(http, 5)


async def test_a_postgres_that_is_gone_is_answered_for_in_time_and_nothing_acknowledged_is_lost(
    http: httpx.AsyncClient, postgres: EmbeddedPostgres
) -> None:
    before = (await http.post("insights", json={"insight": "before"})).json()
    port = postgres.port
    await postgres.stop()
    try:
        await refused_in_time(http)
    finally:
        await postgres.start()
    assert postgres.port == port
    await well_again(http, 5)

    assert (await http.get(f"receipts/{before['id']}")).json() == before


async def test_sixty_with_one_key_before_a_locked_table_are_all_answered_for_in_time(
    http: httpx.AsyncClient, database: HouseDatabase
) -> None:
    key = {"idempotency-key": uuid4().hex}

    async def one() -> tuple[int, float]:
        started = time.monotonic() - starved()
        answer = await http.post("insights", json={"insight": "a"}, headers=key)
        return answer.status_code, time.monotonic() - starved() - started

    async with admin(database) as connection, connection.transaction():
        await connection.execute("lock table memcube.idempotency_keys in access exclusive mode")
        answers = await asyncio.gather(*(one() for _ in range(60)))
    assert {status for status, _ in answers} == {503}
    assert max(took for _, took in answers) < 2.5

    again = [await http.post("insights", json={"insight": "a"}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in again] == [202, 202]
    assert again[0].content == again[1].content
