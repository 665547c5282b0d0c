"""The stack's file: private, atomic, found from anywhere in the checkout, and honest about a dead supervisor."""

import os
import stat
from pathlib import Path

from memcube_cli.stack import ServiceRecord, Stack, StackFile, checkout_name, home_folder, status_of
from memcube_common.embedded.process import ProcessId

WORKSPACE = '[project]\nname = "memcube-workspace"\n'


def ourselves() -> ProcessId:
    process = ProcessId.of(os.getpid())
    assert process is not None
    return process


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    stack = Stack(
        name="memcube-1",
        supervisor=ourselves(),
        key="secret",
        logins={"gateway": "pw"},
        ports={"gateway": 21_000},
        services={"gateway": ServiceRecord(state="ready", process=ourselves(), port=21_000, restarts=2)},
    )
    StackFile(tmp_path / "home").write(stack)
    assert StackFile(tmp_path / "home").read() == stack


def test_the_file_is_readable_by_its_owner_only_and_has_no_leftovers(tmp_path: Path) -> None:
    file = StackFile(tmp_path / "home")
    file.write(Stack(name="memcube-1"))
    file.write(Stack(name="memcube-2"))
    assert [path.name for path in file.home.iterdir()] == ["stack.json"]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.home.stat().st_mode) & 0o066 == 0


def test_an_absent_or_damaged_file_reads_as_none(tmp_path: Path) -> None:
    file = StackFile(tmp_path)
    assert file.read() is None
    file.path.write_text('{"name": ')
    assert file.read() is None


def test_the_home_is_found_from_anywhere_in_the_checkout(tmp_path: Path) -> None:
    inner = tmp_path / "services" / "gateway"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(WORKSPACE)
    (inner / "pyproject.toml").write_text('[project]\nname = "memcube-gateway"\n')
    assert home_folder(None, inner) == tmp_path / ".memcube"


def test_outside_a_checkout_the_home_is_where_we_are(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("this is not toml")
    assert home_folder(None, tmp_path) == tmp_path / ".memcube"


def test_a_configured_home_wins(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(WORKSPACE)
    assert home_folder(tmp_path / "elsewhere", tmp_path) == tmp_path / "elsewhere"


def test_two_checkouts_have_two_names_and_one_keeps_its_own(tmp_path: Path) -> None:
    assert checkout_name(tmp_path / "a") != checkout_name(tmp_path / "b")
    assert checkout_name(tmp_path / "a") == checkout_name(tmp_path / "b" / ".." / "a")


def test_a_later_process_with_the_supervisors_pid_is_not_the_supervisor() -> None:
    assert Stack(name="x", supervisor=ourselves()).is_running
    assert not Stack(name="x", supervisor=ProcessId(os.getpid(), "another birth")).is_running
    assert not Stack(name="x").is_running


async def test_with_a_dead_supervisor_everything_is_stopped() -> None:
    stack = Stack(
        name="x",
        phase="ready",
        supervisor=ProcessId(os.getpid(), "another birth"),
        gateway="http://127.0.0.1:1",
        services={"gateway": ServiceRecord(state="ready", process=ourselves(), port=1)},
    )
    found = await status_of(stack)
    assert found["services"] == {"gateway": "stopped"}
    assert found["gateway"] == "http://127.0.0.1:1"


async def test_a_room_that_does_not_answer_is_starting_and_one_whose_process_is_gone_has_failed() -> None:
    gone = ProcessId(os.getpid(), "another birth")
    stack = Stack(
        name="x",
        phase="ready",
        supervisor=ourselves(),
        services={
            "gateway": ServiceRecord(state="ready", process=ourselves(), port=1),
            "ingestion": ServiceRecord(state="ready", process=gone, port=1),
            "postgres": ServiceRecord(state="ready", process=ourselves(), port=1),
            "nats": ServiceRecord(state="ready"),
        },
    )
    assert (await status_of(stack))["services"] == {
        "gateway": "starting",
        "ingestion": "failed",
        "postgres": "ready",
        "nats": "ready",
    }
