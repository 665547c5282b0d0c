"""The gateway dies by SIGKILL while 50 MiB are on their way: nothing of them is left, and the next go through."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from tests.eventually import eventually
from tests.faults.conftest import Say
from tests.rooms import admin, opened

from memcube_common.embedded.loopback import free_port, http_status
from memcube_common.embedded.process import spawn, stop
from memcube_common.objects import BLOCK, PAYLOAD_MAX, ObjectSettings, open_objects
from memcube_common.testing.s3 import S3Server
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_lifecycle.sweep import Sweep, SweepMeters, sweep_objects

SIZE = PAYLOAD_MAX["PARAMETER"]
PEAK = 1.6  # times the payload that the gateway may grow by while it takes one
SHARE = 3  # payloads of one project that have room on their way into a bucket

BUCKET = "kills"
HEAD = (
    b'--xyz\r\nContent-Disposition: form-data; name="memory"\r\n\r\n{"type":"PARAMETER","label":"lora"}\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="payload"\r\n\r\n'
)
END = b"\r\n--xyz--\r\n"


@dataclass
class Between:
    """Stands between the gateway and the S3 server, and can hold what goes by; use it as an async context manager.

    hold_after: bytes of a request after which nothing more of it is passed on. hold_answers: requests are passed on,
    answers are not. held: set once something is.
    """

    server: str
    hold_after: int | None = None
    hold_answers: bool = False
    held: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    @property
    def endpoint(self) -> str:
        """Where the gateway is told that the server is."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Between:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        parts = urlsplit(self.server)
        up_reader, up_writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            done, pending = await asyncio.wait(
                {
                    asyncio.create_task(self._forth(reader, up_writer)),
                    asyncio.create_task(self._back(up_reader, writer)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
            for one in pending:
                one.cancel()
            await asyncio.gather(*done, *pending, return_exceptions=True)
        except asyncio.CancelledError:
            pass
        finally:
            for end in (writer, up_writer):
                end.transport.abort()

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(65_536):
            passed += len(data)
            if self.hold_after is not None and passed > self.hold_after:
                self.held.set()
                continue
            writer.write(data)
            await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.hold_answers:
                self.held.set()
                continue
            writer.write(data)
            await writer.drain()


@dataclass(frozen=True, slots=True)
class Process:
    """A gateway in a process of its own."""

    url: str
    pid: int

    def memory(self, name: str) -> int:
        """Bytes, by the name that the kernel gives them (VmRSS, VmHWM)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) * 1024

    def forget_peak(self) -> None:
        """From now on VmHWM is the peak from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextlib.asynccontextmanager
async def gateway_process(
    database: HouseDatabase, folder: Path, settings: Mapping[str, str]
) -> AsyncGenerator[Process]:
    """Run the gateway as it is run in earnest, until the block ends or somebody kills it."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MEMCUBE_", "S3_"))}
    process = spawn(
        [sys.executable, "-m", "memcube_gateway"],
        environment={
            **inherited,
            "MEMCUBE_POSTGRES_DSN": database.dsn("gateway"),
            "MEMCUBE_NATS_URL": database.nats_url_of("gateway"),
            "MEMCUBE_TOKEN_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode(),
            "MEMCUBE_HTTP_PORT": str(port),
            **settings,
        },
        log=folder / "gateway.log",
        death_signal=signal.SIGKILL,
        folder=folder,
    )
    try:

        async def ready() -> bool:
            assert process.poll() is None, (folder / "gateway.log").read_text()
            return await http_status(port, "/readyz") == 200

        await eventually(ready, within=30)
        yield Process(f"http://127.0.0.1:{port}", process.pid)
    finally:
        await stop(process, gently=signal.SIGTERM, within=10)


@pytest_asyncio.fixture
async def s3_settings(s3: S3Server) -> ObjectSettings:
    """Where the objects are, as the sweep is told."""
    await s3.make_bucket(BUCKET)
    return ObjectSettings(
        postgres_dsn=SecretStr("postgresql://x"),
        nats_url=SecretStr("nats://x"),
        s3_bucket=BUCKET,
        s3_access_key=SecretStr(s3.access_key),
        s3_secret_key=SecretStr(s3.secret_key),
        s3_endpoint=s3.endpoint,
    )


def form(payload: bytes) -> tuple[dict[str, str], list[bytes]]:
    """An upload: its headers and its pieces."""
    pieces = [HEAD, *(payload[at : at + 65_536] for at in range(0, len(payload), 65_536)), END]
    length = str(sum(map(len, pieces)))
    return {"content-type": "multipart/form-data; boundary=xyz", "content-length": length}, pieces


async def upload(
    gateway: Process,
    project: HouseProject,
    payload: bytes,
    *,
    until: int | None = None,
    then: asyncio.Event | None = None,
) -> int:
    """Upload `payload`, or begin to, stop after so many pieces and wait; returns the status, 0 where there was none."""
    headers, pieces = form(payload)

    async def sent() -> AsyncIterator[bytes]:
        for piece in pieces[:until]:
            yield piece
        if until is not None:
            await (then or asyncio.Event()).wait()
            for piece in pieces[until:]:
                yield piece

    async with httpx.AsyncClient(headers=project.authorization, timeout=60, trust_env=False) as client:
        try:
            answer = await client.post(
                f"{gateway.url}/v1/projects/{project.slug}/memories", content=sent(), headers=headers
            )
        except httpx.TransportError:
            return 0
    return answer.status_code


async def rows(database: HouseDatabase, project: HouseProject) -> dict[str, int]:
    """How many rows a project has in every table that knows of projects; those of which it has none are left out."""
    async with admin(database) as connection:
        tables = await connection.fetch(
            "select c.oid::regclass::text as name from pg_class c join pg_attribute a on a.attrelid = c.oid"
            " where c.relnamespace = 'memcube'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition"
            " and a.attname = 'project_id' and not a.attisdropped"
        )
        counts = {
            table["name"].removeprefix("memcube."): await connection.fetchval(
                f"select count(*) from {table['name']} where project_id = $1", project.slug
            )
            for table in tables
        }
    assert {"memories", "memory_payloads", "memory_versions", "memory_events", "objects", "changes"} <= counts.keys()
    return {table: count for table, count in counts.items() if count}


async def in_bucket(s3: S3Server, project: HouseProject) -> list[str]:
    """The objects of a project."""
    return [key for key in await s3.keys_in(BUCKET) if key.startswith(f"{project.slug}/")]


@contextlib.asynccontextmanager
async def held_up(database: HouseDatabase, project: HouseProject) -> AsyncGenerator[Callable[[], Awaitable[bool]]]:
    """No object of the project can become kept inside the block; yields what says whether one waits for that."""
    async with admin(database) as holding, admin(database) as looking:

        async def waits() -> bool:
            return await looking.fetchval("select exists (select from pg_locks where not granted)")

        async with holding.transaction():
            assert await holding.fetch("select from memcube.objects where project_id = $1 for update", project.slug)
            yield waits


async def swept(database: HouseDatabase, settings: ObjectSettings) -> None:
    """A sweep that takes nobody for still bringing anything, as an hour later."""
    async with contextlib.AsyncExitStack() as stack:
        db = await opened(database, "lifecycle", stack)
        await sweep_objects(Sweep(db, open_objects(settings), SweepMeters.fresh(CollectorRegistry()), 0.0))


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("while it arrives", 0),
        ("in the middle of the PUT", 0),
        ("before the PUT is answered", 1),
        ("before the memory is committed", 1),
    ],
)
async def test_a_gateway_killed_in_an_upload_to_s3_leaves_nothing_and_the_next_goes_through(
    database: HouseDatabase,
    project: HouseProject,
    s3: S3Server,
    s3_settings: ObjectSettings,
    tmp_path: Path,
    say: Say,
    moment: str,
    left: int,
) -> None:
    payload = os.urandom(SIZE)
    before = await rows(database, project)
    async with Between(s3.endpoint) as between:
        settings = {**s3.settings(BUCKET), "MEMCUBE_S3_ENDPOINT": between.endpoint}
        async with gateway_process(database, tmp_path, settings) as gateway:
            goes_on = asyncio.Event()
            uploading = asyncio.create_task(upload(gateway, project, payload, until=400, then=goes_on))
            await eventually(lambda: _announced(database, project), within=30)
            async with contextlib.AsyncExitStack() as stack:
                if moment == "before the memory is committed":
                    waits = await stack.enter_async_context(held_up(database, project))
                    goes_on.set()
                    await eventually(waits, within=60)
                elif moment != "while it arrives":
                    between.hold_after = SIZE // 2 if moment == "in the middle of the PUT" else None
                    between.hold_answers = moment == "before the PUT is answered"
                    goes_on.set()
                    await eventually(between.held.is_set, within=60)
                os.kill(gateway.pid, signal.SIGKILL)
                assert await uploading == 0
    assert await rows(database, project) == before | {"objects": 1}
    objects = await in_bucket(s3, project)
    say(f"killed {moment}: {len(objects)} objects in the bucket and 1 row before the sweep")
    assert len(objects) == left
    await swept(database, s3_settings)
    assert (await rows(database, project), await in_bucket(s3, project)) == (before, [])

    async with gateway_process(database, tmp_path, s3.settings(BUCKET)) as gateway:
        assert await upload(gateway, project, payload) == 201
        await swept(database, s3_settings)
        assert await downloaded(gateway, project, await _newest(database, project)) == hashlib.sha256(payload).digest()
    assert len(await in_bucket(s3, project)) == 1


async def test_a_gateway_killed_in_an_upload_to_a_folder_leaves_nothing(
    database: HouseDatabase, project: HouseProject, tmp_path: Path
) -> None:
    objects = tmp_path / "objects"
    before = await rows(database, project)
    async with gateway_process(database, tmp_path, {"MEMCUBE_OBJECTS_DIR": str(objects)}) as gateway:
        uploading = asyncio.create_task(upload(gateway, project, os.urandom(SIZE), until=400))
        await eventually(lambda: [file for file in objects.rglob("*.part") if file.stat().st_size > BLOCK], within=30)
        os.kill(gateway.pid, signal.SIGKILL)
        assert await uploading == 0
    assert [file for file in objects.rglob("*") if file.is_file()] != []
    settings = ObjectSettings(
        postgres_dsn=SecretStr("postgresql://x"), nats_url=SecretStr("nats://x"), objects_dir=objects
    )
    await swept(database, settings)
    assert await rows(database, project) == before
    assert [file for file in objects.rglob("*") if file.is_file()] == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's high-water mark is read from /proc")
@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("place", ["bucket", "folder"])
async def test_an_upload_and_a_download_never_hold_a_payload_twice(
    database: HouseDatabase, project: HouseProject, s3: S3Server, tmp_path: Path, say: Say, place: str, at_once: int
) -> None:
    payload = os.urandom(SIZE)
    settings = {"MEMCUBE_OBJECTS_WAIT": "60"}
    settings |= s3.settings(BUCKET) if place == "bucket" else {"MEMCUBE_OBJECTS_DIR": str(tmp_path / "objects")}
    async with gateway_process(database, tmp_path, settings) as gateway:
        assert await upload(gateway, project, payload[: 2 * BLOCK]) == 201  # what is loaded once, is loaded
        idle = gateway.memory("VmRSS")
        gateway.forget_peak()
        began = time.monotonic()
        uploads = [upload(gateway, project, payload) for _ in range(at_once)]
        assert await asyncio.gather(*uploads) == [201] * at_once
        took, grown = time.monotonic() - began, gateway.memory("VmHWM") - idle
        say(f"{place}: {at_once} x 50 MiB up in {took:.2f} s, {grown / BLOCK:.0f} MiB above {idle / BLOCK:.0f} MiB")
        gateway.forget_peak()
        before = gateway.memory("VmRSS")
        memory_id = await _newest(database, project)
        began = time.monotonic()
        digests = await asyncio.gather(*(downloaded(gateway, project, memory_id) for _ in range(at_once)))
        took, fetched = time.monotonic() - began, gateway.memory("VmHWM") - before
        say(f"{place}: {at_once} x 50 MiB down in {took:.2f} s, {fetched / BLOCK:.0f} MiB above {before / BLOCK:.0f}")
    assert set(digests) == {hashlib.sha256(payload).digest()}
    assert grown < (min(at_once, SHARE) * SIZE * PEAK if place == "bucket" else SIZE / 2)
    assert fetched < SIZE * (1 + at_once) / 3


async def downloaded(gateway: Process, project: HouseProject, memory_id: str) -> bytes:
    """The SHA-256 of what a download brings."""
    digest = hashlib.sha256()
    async with (
        httpx.AsyncClient(headers=project.authorization, timeout=60, trust_env=False) as client,
        client.stream("GET", f"{gateway.url}/v1/projects/{project.slug}/memories/{memory_id}/payload") as answer,
    ):
        async for piece in answer.aiter_bytes():
            digest.update(piece)
    return digest.digest()


async def _announced(database: HouseDatabase, project: HouseProject) -> bool:
    return "objects" in await rows(database, project)


async def _newest(database: HouseDatabase, project: HouseProject) -> str:
    async with admin(database) as connection:
        found = await connection.fetchval(
            "select id from memcube.memories where project_id = $1 order by id desc limit 1", project.slug
        )
    return str(found)
