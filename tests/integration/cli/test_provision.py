"""`memcube provision` makes a house on servers of one's own, once."""

from __future__ import annotations

from uuid import uuid4

from typer.testing import CliRunner

from memcube_cli.main import app
from memcube_common.security.keys import is_well_formed
from memcube_common.testing.servers import HouseDatabase


def test_provisioning_twice_makes_the_project_once_and_prints_its_key_once(database: HouseDatabase) -> None:
    environment = {
        "MEMCUBE_POSTGRES_DSN": database.admin_dsn,
        "MEMCUBE_NATS_URL": database.nats_url,
        **{f"MEMCUBE_LOGIN_PASSWORD_{room.upper()}": password for room, password in database.logins.items()},
    }
    command = ["provision", "--project", f"p-{uuid4().hex[:12]}"]

    first = CliRunner().invoke(app, command, env=environment)
    second = CliRunner().invoke(app, command, env=environment)

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert is_well_formed(first.stdout.strip())
    assert second.stdout == ""
    assert "there is a project" in second.stderr
