"""A local folder and a real S3 server keep what they were given, show nothing half, and never hand out what changed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import obstore
import pytest
import pytest_asyncio
from obstore.store import LocalStore, S3Store
from pydantic import SecretStr
from structlog.testing import capture_logs
from tests.eventually import eventually

from memcube_common.errors import TryAgain
from memcube_common.frame import task
from memcube_common.objects import BLOCK, Arriving, ObjectSettings, ObjectStore, new_key, object_path, open_objects
from memcube_common.objects.inflight import InFlight
from memcube_common.testing.s3 import S3Server

BUCKET = "object-store"


@dataclass(frozen=True, slots=True)
class Place:
    """A store, and the same place seen without it."""

    store: ObjectStore
    behind: S3Store | LocalStore
    project: str = field(default_factory=lambda: f"p-{uuid4().hex[:12]}")

    def a_path(self) -> str:
        """Where an object of a fresh memory goes."""
        return object_path(self.project, new_key(uuid4()))

    async def names(self) -> list[str]:
        """What lies there of the test's own project."""
        found = await obstore.list(self.behind, self.project).collect_async()
        return sorted(entry["path"] for entry in found)


def settings(**more: object) -> ObjectSettings:
    """A room's settings, about its objects."""
    given: dict[str, object] = {"postgres_dsn": SecretStr("postgresql://x"), "nats_url": SecretStr("nats://x"), **more}
    return ObjectSettings.model_validate(given)


def bucket_settings(server: S3Server, bucket: str, **more: object) -> ObjectSettings:
    """A room's settings, for a bucket of the test server."""
    return settings(
        s3_bucket=bucket,
        s3_access_key=SecretStr(server.access_key),
        s3_secret_key=SecretStr(server.secret_key),
        s3_endpoint=server.endpoint,
        **more,
    )


@pytest_asyncio.fixture(params=["folder", "bucket"])
async def place(request: pytest.FixtureRequest, s3: S3Server, tmp_path: Path) -> AsyncGenerator[Place]:
    """The same tests for both."""
    if request.param == "folder":
        root = tmp_path / "objects"
        root.mkdir(mode=0o700)
        yield Place(open_objects(settings(objects_dir=root)), LocalStore(prefix=root))
    else:
        await obstore.put_async(s3.store(BUCKET), "makes-the-bucket", b"")
        yield Place(open_objects(bucket_settings(s3, BUCKET)), s3.store(BUCKET))


async def kept(place: Place, path: str, content: bytes) -> bytes:
    """Keep `content` in uneven chunks; returns its block hashes."""
    arriving = Arriving("PARAMETER")
    async with place.store.receive(path, expected=len(content)) as incoming:
        for at in range(0, len(content), 100_003):
            chunk = content[at : at + 100_003]
            arriving.take(chunk)
            await incoming.write(chunk)
        await incoming.keep()
    return arriving.arrived().blocks


async def together(pieces: AsyncIterator[memoryview]) -> bytes:
    """All that comes."""
    return b"".join([piece async for piece in pieces])


async def test_what_was_kept_is_read_whole_and_in_any_range(place: Place) -> None:
    content = os.urandom(4 * BLOCK + 4321)
    path, size = place.a_path(), len(content)
    blocks = await kept(place, path, content)
    assert hashlib.sha256(await together(place.store.stream(path, size=size, blocks=blocks))).digest() == (
        hashlib.sha256(content).digest()
    )
    edges = [0, 1, BLOCK, 4 * BLOCK - 1, 4 * BLOCK + 1, size]
    for start in edges:
        for end in (e for e in edges if e > start):
            got = await together(place.store.stream(path, size=size, blocks=blocks, start=start, end=end))
            assert got == content[start:end], (start, end)
    assert await place.names() == [path]


async def test_what_is_not_kept_leaves_nothing(place: Place) -> None:
    async with place.store.receive(place.a_path(), expected=3 * BLOCK) as incoming:
        await incoming.write(bytes(3 * BLOCK))
    assert await place.names() == []
    with contextlib.suppress(ConnectionError):
        async with place.store.receive(place.a_path(), expected=BLOCK) as incoming:
            await incoming.write(bytes(BLOCK))
            raise ConnectionError
    assert await place.names() == []


async def test_a_cancelled_upload_leaves_nothing_in_the_folder_and_all_or_nothing_in_the_bucket(place: Place) -> None:
    path = place.a_path()
    content = bytes(8 * BLOCK)

    async def upload() -> None:
        await kept(place, path, content)

    task = asyncio.create_task(upload())
    await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
    assert task.cancelled()
    await place.store.delete(path)
    assert await place.names() == []


async def test_deleting_is_quiet_about_what_is_not_there(place: Place) -> None:
    path = place.a_path()
    await kept(place, path, b"x" * 100)
    await place.store.delete(path)
    await place.store.delete(path)
    await place.store.delete(place.a_path())
    assert await place.names() == []


@pytest.mark.parametrize("fault", ["bit", "short", "long", "gone"])
async def test_what_changed_behind_the_store_is_never_handed_out(place: Place, fault: str) -> None:
    content = os.urandom(BLOCK + 100)
    path = place.a_path()
    blocks = await kept(place, path, content)
    changed = {
        "bit": content[:BLOCK] + bytes([content[BLOCK] ^ 1]) + content[BLOCK + 1 :],
        "short": content[:-1],
        "long": content[: BLOCK - 1] + b"x" + content[BLOCK - 1 :],
    }
    if fault == "gone":
        await place.store.delete(path)
    else:
        await obstore.put_async(place.behind, path, changed[fault], use_multipart=False)
    got = bytearray()

    async def download() -> None:
        async for piece in place.store.stream(path, size=len(content), blocks=blocks):
            got.extend(piece)

    with pytest.raises(TryAgain):
        await download()
    assert bytes(got) == (content[:BLOCK] if fault == "bit" else b"")


async def test_files_are_their_owners_and_drafts_go_with_their_object(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    store = open_objects(settings(objects_dir=root))
    place = Place(store, LocalStore(prefix=tmp_path))
    path = place.a_path()
    await kept(place, path, b"x" * 70_000)
    assert (root / path).stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in (root, *(root / path).parents[:2])} == {0o700}
    (root / f"{path}.part").write_bytes(b"an upload that was killed")
    await store.delete(path)
    assert [file for file in root.rglob("*") if file.is_file()] == []
    assert not (root / path).parent.exists()


async def test_no_link_is_written_through(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "objects", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    place = Place(open_objects(settings(objects_dir=root)), LocalStore(prefix=tmp_path))
    (root / place.project).symlink_to(elsewhere)
    with pytest.raises(TryAgain):
        await kept(place, place.a_path(), b"x")
    assert list(elsewhere.iterdir()) == []


async def test_a_bucket_that_is_away_shut_or_mute_means_try_again_and_soon(s3: S3Server) -> None:
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await quiet.wait()
        writer.close()

    quiet = asyncio.Event()
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    mute = settings(
        s3_bucket=BUCKET,
        s3_access_key=SecretStr("x"),
        s3_secret_key=SecretStr("y"),
        s3_endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        s3_timeout=0.1,
        s3_retry_within=0.1,
    )
    away = settings(
        s3_bucket=BUCKET,
        s3_access_key=SecretStr("x"),
        s3_secret_key=SecretStr("y"),
        s3_endpoint="http://127.0.0.1:9",
        s3_retry_within=0.2,
    )
    shut = bucket_settings(s3, BUCKET, s3_retry_within=0.2).model_copy(update={"s3_secret_key": SecretStr("wrong")})
    for given in (away, shut, mute):
        place = Place(open_objects(given), s3.store(BUCKET))
        path = place.a_path()
        async with asyncio.timeout(5):
            with pytest.raises(TryAgain, match="cannot be used now"):
                await kept(place, path, b"x")
            with pytest.raises(TryAgain):
                await together(place.store.stream(path, size=1, blocks=bytes(32)))
            with pytest.raises(TryAgain):
                await place.store.delete(path)
    quiet.set()
    server.close()


async def test_a_bucket_that_is_not_there_is_not_an_object_that_is_not_there(s3: S3Server) -> None:
    store = open_objects(bucket_settings(s3, "never-made", s3_retry_within=0.2))
    path = object_path("p", new_key(uuid4()))
    with capture_logs() as logs, pytest.raises(TryAgain):
        await store.delete(path)  # else the sweep would forget what lies in the bucket that was meant
    assert [(line["event"], line["code"]) for line in logs] == [("objects_away", "NoSuchBucket")]
    with capture_logs() as logs, pytest.raises(TryAgain):
        await together(store.stream(path, size=1, blocks=bytes(32)))
    assert [line["event"] for line in logs] == ["objects_away"]


async def test_a_store_is_looked_at_without_leaving_anything_there(place: Place) -> None:
    before = await obstore.list(place.behind).collect_async()
    await place.store.look()
    assert await obstore.list(place.behind).collect_async() == before


@pytest.mark.parametrize("wrong", ["bucket", "secret", "address", "folder"])
async def test_a_store_that_is_set_up_wrong_is_found_out_before_anybody_needs_it(
    s3: S3Server, tmp_path: Path, wrong: str
) -> None:
    bucket = bucket_settings(s3, "never-made" if wrong == "bucket" else BUCKET, s3_retry_within=0.2)
    changed: dict[str, dict[str, object]] = {
        "bucket": {},
        "secret": {"s3_secret_key": SecretStr("wrong")},
        "address": {"s3_endpoint": "http://127.0.0.1:9"},
        "folder": {"s3_bucket": None, "objects_dir": tmp_path / "file"},
    }
    (tmp_path / "file").write_bytes(b"")
    store = open_objects(bucket.model_copy(update=changed[wrong]))
    await store.check()

    async def known() -> bool:
        with contextlib.suppress(TryAgain):
            await store.check()
            return False
        return True

    async with task(store.watch(every=0.01), "watch"):
        await eventually(known)


@pytest.mark.parametrize(("code", "works"), [("AccessDenied", True), ("InvalidAccessKeyId", False)])
async def test_keys_that_may_not_list_are_good_enough(code: str, works: bool) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        store = open_objects(
            settings(
                s3_bucket=BUCKET,
                s3_access_key=SecretStr("x"),
                s3_secret_key=SecretStr("y"),
                s3_endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
                s3_retry_within=0.1,
            )
        )
        with contextlib.nullcontext() if works else pytest.raises(TryAgain):
            await store.look()


async def test_a_signed_address_opens_one_object_for_a_while(s3: S3Server) -> None:
    place = Place(open_objects(bucket_settings(s3, BUCKET)), s3.store(BUCKET))
    path, content = place.a_path(), b"<html><script>alert(1)</script></html>" * 30
    await kept(place, path, content)
    url = await place.store.sign(path, expires_in=timedelta(seconds=60))
    assert url is not None
    async with httpx.AsyncClient(trust_env=False) as client:
        opened = await client.get(url)
        assert opened.content == content
        assert opened.headers["content-type"] == "application/octet-stream"  # or a browser runs it in the bucket's name
        assert opened.headers["content-disposition"] == "attachment"
        assert (await client.get(url.replace(path, place.a_path()))).status_code == 403
        assert (await client.get(url.partition("?")[0])).status_code == 403
        assert (await client.put(url, content=b"mine")).status_code == 403


async def test_room_for_payloads_is_given_in_turn_and_not_waited_for_for_ever() -> None:
    room = InFlight(100)
    order: list[str] = []

    async def upload(name: str, size: int, gate: asyncio.Event) -> None:
        async with room.held(size, project=name, within=5):
            order.append(name)
            await gate.wait()

    first, second = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(upload("a", 80, first)), asyncio.create_task(upload("b", 80, second))]
    tasks.append(asyncio.create_task(upload("c", 10, second)))
    await asyncio.sleep(0)
    assert order == ["a"]
    with pytest.raises(TryAgain):
        async with room.held(10, project="d", within=0.01):
            pass
    first.set()
    second.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]
    async with room.held(100, project="d", within=0.01):
        pass


async def test_one_project_never_takes_all_the_room_and_those_of_it_that_wait_hold_nobody_up() -> None:
    room = InFlight(100)
    async with room.held(50, project="slow", within=0), room.held(25, project="slow", within=0):
        more = asyncio.create_task(held(room, 10, "slow"))
        await asyncio.sleep(0)
        async with room.held(25, project="other", within=0):
            assert not more.done()
    await more


async def test_who_leaves_as_room_comes_free_takes_none_of_it_along() -> None:
    room = InFlight(100)
    async with room.held(100, project="p", within=0):
        leaving = asyncio.create_task(held(room, 60, "p"))
        staying = asyncio.create_task(held(room, 60, "p"))
        await asyncio.sleep(0)
        leaving.cancel()
    await asyncio.wait({leaving, staying})
    assert leaving.cancelled()
    await staying
    async with room.held(100, project="p", within=0):
        pass


async def held(room: InFlight, size: int, project: str) -> None:
    """Be let in, and leave."""
    async with room.held(size, project=project, within=5):
        pass


async def test_readers_who_stop_reading_leave_room_for_other_projects(tmp_path: Path) -> None:
    store = open_objects(settings(objects_dir=tmp_path, objects_memory=64 * BLOCK, objects_wait=0))
    content = bytes(5 * BLOCK)
    place = Place(store, LocalStore(prefix=tmp_path))
    path = place.a_path()
    blocks = await kept(place, path, content)
    other = object_path("another", new_key(uuid4()))
    await kept(place, other, content)
    slow = [store.stream(path, size=len(content), blocks=blocks) for _ in range(13)]
    for one in slow[:12]:
        await anext(one)
    with pytest.raises(TryAgain, match="under way"):
        await anext(slow[12])
    assert await together(store.stream(other, size=len(content), blocks=blocks)) == content
    for one in slow:
        await one.aclose()
    assert await together(store.stream(path, size=len(content), blocks=blocks)) == content
