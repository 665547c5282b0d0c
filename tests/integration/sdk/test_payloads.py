"""The client and the command carry payloads in pieces, go on where a connection broke, and check what they got."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
import typer
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.fakes.scripted_http import Answered, Asked, scripted

from memcube import Conflict, MemCubeClient, NotFound, Patience
from memcube.errors import Invalid, TooLarge, Unavailable, UnexpectedAnswer, VersionMismatch
from memcube.payloads import pieces_of
from memcube_cli.house import House
from memcube_cli.memory import get_file, put_file
from memcube_common.testing.servers import HouseDatabase, HouseProject

QUICK = Patience(total=2.0, first_pause=0.001, longest_pause=0.005)


@pytest_asyncio.fixture(scope="module")
async def gateway(database: HouseDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[RunningGateway]:
    async with running_gateway(database, objects_dir=tmp_path_factory.mktemp("objects")) as gateway:
        yield gateway


@pytest_asyncio.fixture
async def client(gateway: RunningGateway, project: HouseProject) -> AsyncGenerator[MemCubeClient]:
    async with MemCubeClient(gateway.url, project.key, project.slug, patience=QUICK) as client:
        yield client


def inside(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


async def test_bytes_and_files_go_up_and_come_down(client: MemCubeClient, tmp_path: Path) -> None:
    payload = os.urandom(700_001)
    file = tmp_path / 'lora "7".bin'
    file.write_bytes(payload)
    memory = await client.memories.upload(file, type="PARAMETER", tags=["lora"], metadata={"rank": 8})
    assert (memory.label, memory.tags, memory.metadata, memory.size_bytes) == (
        "lora 7.bin",
        ["lora"],
        {"rank": 8},
        700_001,
    )
    assert await client.memories.download(memory.id) == payload
    assert await client.memories.payloads.download_to(memory.id, tmp_path / "back.bin") == 700_001
    assert (tmp_path / "back.bin").read_bytes() == payload
    with pytest.raises(Conflict):
        await client.memories.upload(b"x", type="PARAMETER", id=memory.id)

    changed = await client.memories.payloads.replace(memory.id, b"smaller", version=1)
    assert (changed.version, await client.memories.download(memory.id)) == (2, b"smaller")
    assert await client.memories.download(memory.id, version=1) == payload
    with pytest.raises(VersionMismatch):
        await client.memories.payloads.replace(memory.id, b"late", version=1)
    link = await client.memories.payloads.link(memory.id, expires_in=5)
    async with httpx.AsyncClient() as stranger:
        assert (await stranger.get(link.url)).content == b"smaller"


async def test_what_cannot_be_is_said_before_it_is_sent_and_leaves_no_file(
    client: MemCubeClient, tmp_path: Path
) -> None:
    with pytest.raises(TooLarge):
        await client.memories.upload(bytes(256 * 1024 + 1), type="ACTIVATION")
    with pytest.raises(NotFound):
        await client.memories.payloads.download_to(uuid4(), tmp_path / "none.bin")
    assert inside(tmp_path) == []


async def test_a_file_is_sent_as_long_as_it_was_announced(client: MemCubeClient, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Invalid, match="regular file"):
        await client.memories.upload(tmp_path / "pipe", type="PARAMETER")
    file = tmp_path / "lora.bin"
    file.write_bytes(b"a" * 600_000)
    growing = pieces_of(file, 600_000)
    got = await anext(growing)
    with file.open("ab") as more:
        more.write(b"b" * 600_000)
    assert got + b"".join([piece async for piece in growing]) == b"a" * 600_000
    shrinking = pieces_of(file, 1_200_000)
    await anext(shrinking)
    file.write_bytes(b"a")
    with pytest.raises(Invalid, match="cut short"):
        assert [piece async for piece in shrinking]


async def test_an_upload_that_is_tried_again_is_one_memory() -> None:
    def made(asked: Asked) -> Answered:
        return Answered(503, {"code": "unavailable"}, {"Retry-After": "0"})

    async with (
        scripted(Answered(hang_up=True), always=made) as server,
        MemCubeClient(server.url, "k", patience=Patience(total=0.05, first_pause=0.001, longest_pause=0.005)) as client,
    ):
        with pytest.raises(Unavailable):
            await client.memories.upload(b"x" * 300_000, type="PARAMETER")
    assert len(server.asked) > 1
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1
    assert len({asked.body.partition(b'"id": "')[2][:36] for asked in server.asked}) == 1
    assert all(b"x" * 300_000 in asked.body for asked in server.asked)


class Broken:
    """A server of one payload that hangs up after `each` bytes, and then may have another payload."""

    def __init__(self, payload: bytes, each: int, *, tag: str, later: str | None = None) -> None:
        self.payload, self.each, self.tags = payload, each, [tag, later or tag]
        self.ranges: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        ranged = head.partition("\r\nrange: bytes=")[2].partition("-")[0]
        start = int(ranged) if ranged else 0
        tag = self.tags[min(len(self.ranges), 1)]
        if ranged and f"if-range: {tag}" not in head:
            start = 0
        self.ranges.append(ranged)
        rest = self.payload[start:]
        status = "206 Partial Content" if start else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\netag: {tag}\r\ncontent-length: {len(rest)}\r\n\r\n".encode())
        writer.write(rest[: self.each])
        await writer.drain()
        writer.close()


async def test_a_download_goes_on_where_it_broke_and_is_checked_as_a_whole() -> None:
    payload = os.urandom(900_000)
    right = f'"{hashlib.sha256(payload).hexdigest()}"'
    for tag, later, error in (
        (right, None, None),
        ('"0000"', None, UnexpectedAnswer),
        (right, '"1"', UnexpectedAnswer),
    ):
        broken = Broken(payload, 300_000, tag=tag, later=later)
        server = await asyncio.start_server(broken.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, MemCubeClient(url, "k", patience=QUICK) as client:
            if error is None:
                assert await client.memories.download(uuid4()) == payload
                assert broken.ranges == ["", "300000", "600000"]
            else:
                with pytest.raises(error):
                    await client.memories.download(uuid4())


async def test_the_command_puts_a_file_and_gets_it_again(
    gateway: RunningGateway, project: HouseProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path, gateway.url, project.slug, project.key, None, None, is_local=False)
    file, back = tmp_path / "kv.bin", tmp_path / "back.bin"
    file.write_bytes(os.urandom(100_000))
    assert await put_file(house, file, "activation", tags=["kv"]) == 0
    out = capsys.readouterr().out.splitlines()[-1]
    id, said = out.split()[0], out.split()[-1]
    assert await get_file(house, id=UUID(id), output=back) == 0
    assert back.read_bytes() == file.read_bytes()
    assert len(said) == 64
    assert await put_file(house, back, "activation", into=UUID(id)) == 0
    assert "version 2" in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        await put_file(house, file, "plaintext")
    with pytest.raises(typer.Exit):
        await put_file(house, file, "lora")
    with pytest.raises(typer.Exit):
        await get_file(house, id=UUID(id), output=tmp_path / "nowhere" / "back.bin")
    assert "back.bin cannot be written: No such file or directory." in " ".join(capsys.readouterr().err.split())
