"""Which MemCube a command speaks to: the one that is named, and the checkout's own with all it knows of it."""

import os
from pathlib import Path

import pytest

from memcube_cli.house import the_house
from memcube_cli.stack import Stack, StackFile
from memcube_common.embedded.process import ProcessId

OURS = "http://127.0.0.1:21000"


@pytest.fixture(autouse=True)
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that runs in this checkout, and an environment that names none."""
    for name in [name for name in os.environ if name.startswith("MEMCUBE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MEMCUBE_HOME", str(tmp_path))
    stack = Stack(
        name="memcube-1",
        supervisor=ProcessId.of(os.getpid()),
        gateway=OURS,
        nats="nats://ours",
        postgres="postgresql://ours",
        key="its-own",
    )
    StackFile(tmp_path).write(stack)


def test_who_names_the_checkouts_own_gateway_still_administers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCUBE_URL", f"{OURS}/")
    monkeypatch.setenv("MEMCUBE_KEY", "given")
    house = the_house()
    assert (house.is_local, house.key) == (True, "given")
    assert (house.postgres, house.nats) == ("postgresql://ours", "nats://ours")


def test_of_a_gateway_elsewhere_nothing_of_the_checkouts_own_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCUBE_URL", "http://elsewhere:21000")
    monkeypatch.setenv("MEMCUBE_KEY", "given")
    house = the_house()
    assert (house.is_local, house.postgres, house.nats) == (False, None, None)
