"""`memcube nats-keys` makes a pair that the gateway and the server take."""

from __future__ import annotations

from typer.testing import CliRunner

from memcube_cli.main import app
from memcube_common.security.nkeys import AccountKey


def test_it_prints_a_fresh_pair_for_a_env_file() -> None:
    first, second = (CliRunner().invoke(app, ["nats-keys"]) for _ in range(2))
    assert first.exit_code == 0
    told = dict(line.split("=", 1) for line in first.output.splitlines())
    assert AccountKey(told["MEMCUBE_NATS_CALLOUT_SEED"]).issuer == told["MEMCUBE_NATS_CALLOUT_ISSUER"]
    assert len(told) == 2
    assert first.output != second.output
