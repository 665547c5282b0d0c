"""People with accounts: made as the operator makes the first of them, invited and signed in as everybody else."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import httpx

from memcube_common.ids import new_id
from memcube_common.provision import first_owner
from memcube_common.security.keys import key_hash, new_key
from memcube_common.security.passwords import Passwords
from memcube_common.testing.servers import HouseDatabase

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in."""

    email: str
    password: str
    access: str
    refresh: str

    @property
    def authorization(self) -> dict[str, str]:
        """The header that says who they are."""
        return {"authorization": f"Bearer {self.access}"}


async def an_owner(
    database: HouseDatabase, client: httpx.AsyncClient, project: str, *, handle: str = "owner"
) -> Person:
    """The first owner of a project, as `memcube init` makes them, signed in."""
    email = f"{handle}-{uuid4().hex[:12]}@example.org"
    passwords = Passwords(memory_kib=1024, passes=1)
    try:
        made = await first_owner(
            admin_dsn=database.admin_dsn,
            project=project,
            email=email,
            name=handle,
            handle=handle,
            password=await passwords.hash(PASSWORD),
        )
    finally:
        passwords.close()
    assert made
    return await signed_in(client, email)


async def signed_in(client: httpx.AsyncClient, email: str, password: str = PASSWORD) -> Person:
    """A new session."""
    answer = await client.post("/v1/auth/token", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    return Person(email, password, said["access_token"], said["refresh_token"])


async def invited(client: httpx.AsyncClient, by: Person, project: str, *, handle: str, role: str) -> str:
    """The token of an invitation."""
    answer = await client.post(
        f"/v1/projects/{project}/members", json={"handle": handle, "role": role}, headers=by.authorization
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


async def a_member(client: httpx.AsyncClient, by: Person, project: str, *, handle: str, role: str) -> Person:
    """Somebody new in a project, by an invitation, signed in."""
    email = f"{handle}-{uuid4().hex[:12]}@example.org"
    token = await invited(client, by, project, handle=handle, role=role)
    answer = await client.post(
        "/v1/accounts", json={"email": email, "name": handle, "password": PASSWORD, "invitation": token}
    )
    assert answer.status_code == 201, answer.text
    return await signed_in(client, email)


async def a_key(database: HouseDatabase, project: str, name: str, role: str) -> str:
    """A key of a role, as the operator would make it: a secret one, for PUBLIC a publishable one."""
    kind = "publishable" if role == "PUBLIC" else "secret"
    secret = new_key(kind)
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        await connection.execute(
            "insert into memcube.api_keys (project_id, id, name, role, kind, hash, prefix)"
            " values ($1, $2, $3, $4, $5, $6, 'x')",
            project, new_id(), name, role, kind, key_hash(secret),
        )  # fmt: skip
    finally:
        await connection.close()
    return secret
