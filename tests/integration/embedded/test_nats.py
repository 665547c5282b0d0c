"""The embedded NATS: it starts, refuses strangers, keeps what it acknowledged through kill -9, leaves nothing."""

# nats-py carries no complete types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import asyncio
import contextlib
import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from memcube_common.embedded import CannotStart, EmbeddedNats
from memcube_common.embedded.loopback import greeting, is_free
from memcube_common.embedded.nats import server_name
from memcube_common.embedded.process import ProcessId


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedNats]:
    async with EmbeddedNats(tmp_path_factory.mktemp("nats"), name="memcube-test") as server:
        yield server


def running(server: EmbeddedNats) -> ProcessId:
    process = server.process
    assert process is not None
    return process


async def connected(url: str) -> Client:
    return await nats.connect(url, allow_reconnect=False, connect_timeout=5)


async def test_it_greets_with_its_name(server: EmbeddedNats) -> None:
    line = await greeting(server.port)
    assert line is not None
    assert server_name(line) == "memcube-test"


def test_only_an_info_line_has_a_name() -> None:
    assert server_name(b'+OK {"server_name": "x"}\r\n') is None
    assert server_name(b"INFO not json\r\n") is None
    assert server_name(b"INFO []\r\n") is None
    assert server_name(b"") is None


async def test_a_wrong_password_is_refused(server: EmbeddedNats) -> None:
    # Spoken by hand: nats-py leaves its socket behind when a server refuses it.
    assert await answer_to(server, "memcube", "wrong") == b"-ERR 'Authorization Violation'\r\n"
    password = urlsplit(server.url).password
    assert password is not None
    assert await answer_to(server, "memcube", password) == b"PONG\r\n"


async def answer_to(server: EmbeddedNats, user: str, password: str) -> bytes:
    """The first line the server says to a client that signs in and pings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        await reader.readline()
        signing_in = json.dumps({"user": user, "pass": password, "verbose": False})
        writer.write(f"CONNECT {signing_in}\r\nPING\r\n".encode())
        return await asyncio.wait_for(reader.readline(), 5)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_its_configuration_is_readable_by_its_owner_only(server: EmbeddedNats, tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path / "nats", name="memcube-private"):
        files = {path.name: path for path in (tmp_path / "nats").iterdir() if path.is_file()}
        assert {"nats.conf", "user.password", "gateway.password", "system.password", "callout.seed"} < set(files)
        private = [path for name, path in files.items() if not name.endswith((".pid", ".log"))]
        assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
        configuration = files["nats.conf"].read_text()
        secrets = [path.read_text() for path in private if path.suffix in (".password", ".seed")]
        assert [secret for secret in secrets if secret in configuration] == []
        assert len(set(secrets)) == len(secrets)


async def test_an_acknowledged_message_survives_kill_9_on_the_same_port(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path / "nats", name="memcube-crash") as server:
        url = server.url
        client = await connected(url)
        await client.jetstream().add_stream(name="KEPT", subjects=["kept.>"])
        acknowledged = await client.jetstream().publish("kept.one", b"7")
        await client.close()  # nats-py leaves its socket behind when the server goes first
        os.kill(running(server).pid, signal.SIGKILL)
        assert await server.ended() == -signal.SIGKILL
        await server.start()
        assert server.url == url
        client = await connected(url)
        message = await client.jetstream().get_msg("KEPT", seq=acknowledged.seq)
        await client.close()
        assert message.data == b"7"


async def test_stopping_leaves_no_process_and_free_ports(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats", name="memcube-stop")
    await server.start()
    process = running(server)
    await server.stop()
    await server.stop()
    assert not process.is_alive()
    assert is_free(server.port)
    assert is_free(server.monitor_port)


async def test_a_stray_server_of_the_same_folder_is_replaced(tmp_path: Path) -> None:
    stray = EmbeddedNats(tmp_path / "nats", name="memcube-stray")
    await stray.start()
    left = running(stray)
    async with EmbeddedNats(tmp_path / "nats", name="memcube-stray") as server:
        assert not left.is_alive()
        assert running(server).is_alive()
    await stray.stop()


async def test_a_pid_that_is_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path / "nats", name="memcube-reused") as server:
        await server.stop()
        (tmp_path / "nats" / "nats.pid").write_text(str(os.getpid()))
        await server.start()  # had it taken our pid for its own server, this test would be over
        assert running(server).is_alive()


async def test_two_run_at_once_with_names_and_ports_of_their_own(server: EmbeddedNats, tmp_path: Path) -> None:
    second = EmbeddedNats(tmp_path / "nats", name="memcube-second", port=server.port, monitor_port=server.monitor_port)
    async with second:
        assert {second.port, second.monitor_port}.isdisjoint({server.port, server.monitor_port})
        line = await greeting(second.port)
        assert line is not None
        assert server_name(line) == "memcube-second"


async def test_a_server_that_cannot_start_says_what_its_log_says(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "jetstream").write_text("not a folder")
    with pytest.raises(CannotStart, match="not a directory"):
        await EmbeddedNats(tmp_path / "nats", name="memcube-broken").start()
