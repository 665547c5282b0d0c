"""Postgres and NATS for tests: servers of one's own if told, else embedded ones, else containers."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from memcube_common.embedded import CannotStart, EmbeddedNats, EmbeddedPostgres
from memcube_common.provision import ROOMS, dsn_as, ensure_project, provision

POSTGRES_IMAGE: Final = "pgvector/pgvector:pg18"
NATS_IMAGE: Final = "nats:2.15-alpine"


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are: a DSN that may make databases and roles, and a NATS with JetStream.

    `postgres` and `nats` are there where the servers are embedded, for tests that stop or freeze them.
    """

    admin_dsn: str
    nats_url: str
    postgres: EmbeddedPostgres | None = None
    nats: EmbeddedNats | None = None


@dataclass(frozen=True, slots=True)
class HouseDatabase:
    """A provisioned database of one's own on the test server."""

    admin_dsn: str
    nats_url: str
    logins: Mapping[str, str]
    nats: EmbeddedNats | None = None

    def nats_url_of(self, room: str) -> str:
        """Where `room` connects as itself; the operator's address where the server is not ours to know its users."""
        return self.nats_url if self.nats is None else self.nats.url_of(room)

    def dsn(self, room: str) -> str:
        """Where `room` signs in as itself."""
        return dsn_as(self.admin_dsn, f"memcube_login_{room}", self.logins[room])

    async def project(self, slug: str | None = None) -> HouseProject:
        """A fresh project and its key."""
        slug = slug or f"p-{uuid4().hex[:12]}"
        key = await ensure_project(admin_dsn=self.admin_dsn, project=slug)
        assert key is not None, f"{slug} is there already"
        return HouseProject(slug, key)


@dataclass(frozen=True, slots=True)
class HouseProject:
    """A project and the key that opens it."""

    slug: str
    key: str

    @property
    def authorization(self) -> dict[str, str]:
        """The header that opens it."""
        return {"authorization": f"Bearer {self.key}"}


@contextlib.asynccontextmanager
async def open_servers(folder: Path) -> AsyncGenerator[Servers]:
    """The ladder: MEMCUBE_TEST_POSTGRES_DSN and MEMCUBE_TEST_NATS_URL, else embedded in `folder`, else containers."""
    dsn, url = os.environ.get("MEMCUBE_TEST_POSTGRES_DSN"), os.environ.get("MEMCUBE_TEST_NATS_URL")
    async with contextlib.AsyncExitStack() as stack:
        if dsn and url:
            yield Servers(dsn, url)
            return
        name = f"memcube-test-{uuid4().hex[:8]}"
        postgres = EmbeddedPostgres(folder / "postgres", name=name, durable=False)
        nats = EmbeddedNats(folder / "nats", name=name)
        try:
            await stack.enter_async_context(postgres)
            await stack.enter_async_context(nats)
        except CannotStart:
            await stack.aclose()
            yield stack.enter_context(_containers())
            return
        yield Servers(dsn or postgres.dsn(), url or nats.url, postgres, nats)


@contextlib.asynccontextmanager
async def provisioned_template(servers: Servers) -> AsyncGenerator[HouseDatabase]:
    """A provisioned database that others are copied from; roles belong to the whole server."""
    async with _database(servers.admin_dsn, f"memcube_template_{uuid4().hex[:12]}") as dsn:
        house = HouseDatabase(dsn, servers.nats_url, {room: _password(servers, room) for room in ROOMS}, servers.nats)
        await provision(admin_dsn=dsn, nats_url=servers.nats_url, logins=house.logins)
        yield house


@contextlib.asynccontextmanager
async def copy_of(template: HouseDatabase) -> AsyncGenerator[HouseDatabase]:
    """A copy of the template, dropped at the end. Nobody may be connected to the template meanwhile."""
    name = urlsplit(template.admin_dsn).path.lstrip("/")
    async with _database(template.admin_dsn, f"memcube_test_{uuid4().hex[:12]}", template=name) as dsn:
        yield HouseDatabase(dsn, template.nats_url, template.logins, template.nats)


@contextlib.asynccontextmanager
async def _database(admin_dsn: str, name: str, template: str | None = None) -> AsyncGenerator[str]:
    await _run(admin_dsn, f'create database "{name}"' + (f' template "{template}"' if template else ""))
    try:
        yield urlunsplit(urlsplit(admin_dsn)._replace(path=f"/{name}"))
    finally:
        await _run(admin_dsn, f'drop database "{name}" with (force)')


async def _run(admin_dsn: str, sql: str) -> None:
    """Run one statement beside the template, so that the template itself has no visitor."""
    connection = await asyncpg.connect(urlunsplit(urlsplit(admin_dsn)._replace(path="/postgres")), timeout=10)
    try:
        await connection.execute(sql)
    finally:
        await connection.close(timeout=5)


def _password(servers: Servers, room: str) -> str:
    """A login's password: the same for all tests on one server, since roles are shared, and unknown to others."""
    return hashlib.sha256(f"{urlsplit(servers.admin_dsn).netloc}/{room}".encode()).hexdigest()


@contextlib.contextmanager
def _containers() -> Generator[Servers]:
    """Both servers as containers, for platforms that the packaged binaries do not run on."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs
    from testcontainers.postgres import PostgresContainer

    with (
        PostgresContainer(POSTGRES_IMAGE, driver=None) as postgres,
        DockerContainer(NATS_IMAGE).with_command("-js").with_exposed_ports(4222) as nats,
    ):
        wait_for_logs(nats, "Server is ready")
        yield Servers(
            postgres.get_connection_url(),
            f"nats://{nats.get_container_host_ip()}:{nats.get_exposed_port(4222)}",
        )
