"""`memcube init`, `memcube member` and `memcube key`: from an empty house to a key that works."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from uuid import uuid4

import httpx
from tests.fakes.running_gateway import RunningGateway

from memcube_common.testing.servers import HouseDatabase


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it said."""

    exit_code: int
    stdout: str
    stderr: str


async def memcube(*words: str, env: dict[str, str]) -> Said:
    """The command as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "memcube_cli", *words, env={**os.environ, **env}, stdout=PIPE, stderr=PIPE
    )
    stdout, stderr = await process.communicate()
    return Said(process.returncode or 0, stdout.decode(), stderr.decode())


async def test_the_first_owner_is_made_once_and_brings_others_in(
    database: HouseDatabase, gateway: RunningGateway
) -> None:
    project, email = f"p-{uuid4().hex[:12]}", f"{uuid4().hex}@example.org"
    env = {"MEMCUBE_POSTGRES_DSN": database.admin_dsn, "MEMCUBE_URL": gateway.url, "MEMCUBE_PROJECT": project}

    made = await memcube("init", "--email", email, "--project", project, env=env)
    again = await memcube("init", "--email", f"x{email}", "--project", project, env=env)
    password = made.stdout.strip()
    env |= {"MEMCUBE_EMAIL": email, "MEMCUBE_PASSWORD": password}
    invited = await memcube("member", "invite", "ada", "VIEWER", env=env)
    members = await memcube("member", "list", env=env)
    key = await memcube("key", "create", "importer", env=env)
    keys = await memcube("key", "list", env=env)
    identity = keys.stdout.split("\t")[0]

    assert (made.exit_code, again.exit_code) == (0, 1), made.stderr
    assert len(password) == 24
    assert password not in again.stdout + again.stderr
    assert "has an owner already" in again.stderr
    assert invited.stdout.startswith("mc_inv_"), invited.stderr
    assert [line.split("\t")[:2] for line in members.stdout.splitlines()] == [["owner", "OWNER"], ["ada", "VIEWER"]]
    assert key.stdout.startswith("mc_sec_"), key.stderr
    assert key.stdout.strip() not in keys.stdout
    authorization = {"authorization": f"Bearer {key.stdout.strip()}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=authorization) as http:
        path = f"/v1/projects/{project}"
        assert (await http.get(path)).status_code == 200
        revoked = await memcube("key", "revoke", identity, env=env)
        gateway.room.door.forget_all()
        assert revoked.exit_code == 0, revoked.stderr
        assert (await http.get(path)).status_code == 401
    withdrawn = await memcube("member", "remove", "ada", env=env)
    last = await memcube("member", "remove", "owner", env=env)
    assert (withdrawn.exit_code, last.exit_code) == (0, 1)
    assert "at least one owner" in last.stderr


async def test_init_says_what_is_wrong(database: HouseDatabase) -> None:
    env = {"MEMCUBE_POSTGRES_DSN": database.admin_dsn}
    for words in (("nobody",), ("a@example.org", "--handle", "a b"), ("a@example.org", "--project", "A B")):
        answer = await memcube("init", "--email", *words, env=env)
        assert answer.exit_code == 2
        assert answer.stdout == ""
