"""`memcube provision` refuses to make roles with secrets that are missing, short or unfit, and never repeats one."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from memcube_cli.main import app
from memcube_common.provision import ROOMS

SOUND = {
    "MEMCUBE_POSTGRES_DSN": "postgresql://admin:0123456789abcdef@127.0.0.1:1/memcube",
    "MEMCUBE_NATS_URL": "nats://memcube:0123456789abcdef@127.0.0.1:1",
    **{f"MEMCUBE_LOGIN_PASSWORD_{room.upper()}": f"{room}-0123456789abcdef" for room in ROOMS},
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SOUND:
        monkeypatch.delenv(name, raising=False)


def refusals(environment: dict[str, str]) -> list[str]:
    outcome = CliRunner().invoke(app, ["provision", "--within", "0"], env=environment)
    assert outcome.exit_code == 2, outcome.output
    assert not [value for value in environment.values() if value and value in outcome.output]
    return outcome.stderr.splitlines()


def test_an_empty_environment_is_refused_with_every_name_that_is_missing() -> None:
    assert sorted(refusals({})) == sorted(f"{name}: is not set" for name in SOUND)


@pytest.mark.parametrize("name", sorted(SOUND))
def test_one_secret_that_is_empty_is_enough_to_refuse(name: str) -> None:
    assert refusals({**SOUND, name: ""}) == [f"{name}: is not set"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEMCUBE_LOGIN_PASSWORD_GATEWAY", "fifteen-letters"),
        ("MEMCUBE_LOGIN_PASSWORD_GATEWAY", "would@break/the:address-of-the-database"),
        ("MEMCUBE_POSTGRES_DSN", "postgresql://admin:postgres@127.0.0.1:1/memcube"),
        ("MEMCUBE_NATS_URL", "nats://memcube:memcube@127.0.0.1:1"),
        ("MEMCUBE_NATS_URL", "nats://127.0.0.1:1"),
        ("MEMCUBE_NATS_URL", "nats://token@127.0.0.1:1"),
    ],
)
def test_a_secret_that_is_short_unfit_or_absent_from_an_address_is_refused(name: str, value: str) -> None:
    [refusal] = refusals({**SOUND, name: value})

    assert refusal.startswith(f"{name}: ")
    assert "16 characters" in refusal


def test_servers_that_are_away_end_the_command_with_a_sentence() -> None:
    outcome = CliRunner().invoke(app, ["provision", "--within", "0"], env=SOUND)

    assert outcome.exit_code == 1
    assert outcome.stderr == "A server does not answer (ConnectionRefusedError).\n"
