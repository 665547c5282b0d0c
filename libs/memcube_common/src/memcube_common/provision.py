"""Everything that must exist before a room can start: roles, extensions, schema, streams, partitions. Idempotent."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Mapping
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import nats
from nats.js.errors import NotFoundError

from memcube_common.db.migrate import migrate
from memcube_common.db.refusals import refusals
from memcube_common.ids import is_project_slug, new_id
from memcube_common.security.emails import email_key, normal_email
from memcube_common.security.keys import key_hash, key_prefix, new_key
from memcube_common.streams import streams

ROOMS = ("gateway", "ingestion", "embedding", "scheduling", "marketplace", "lifecycle")

_MAY_BECOME: Mapping[str, tuple[str, ...]] = {
    "gateway": ("memcube_user", "memcube_anon", "memcube_doorkeeper", "memcube_worker"),
    "ingestion": ("memcube_worker", "memcube_relay"),
    "embedding": ("memcube_worker",),
    "scheduling": ("memcube_user", "memcube_worker"),
    "marketplace": ("memcube_user", "memcube_worker"),
    "lifecycle": ("memcube_worker", "memcube_builder"),
}
_OWNED_BY_NARROW = (
    "memcube_search",
    "memcube_dispatch",
    "memcube_feed",
    "memcube_governor",
    "memcube_quota",
)
_GROUPS = (
    "memcube_user",
    "memcube_anon",
    "memcube_doorkeeper",
    "memcube_worker",
    "memcube_relay",
    "memcube_operator",
    "memcube_builder",
    *_OWNED_BY_NARROW,
)
_PROVISIONING = 4713


async def provision(*, admin_dsn: str, nats_url: str, logins: Mapping[str, str], replicas: int = 1) -> None:
    """Make or mend everything a room expects; running it twice, or twice at once, is harmless.

    admin_dsn: a role that may create roles and extensions (not necessarily a superuser).
    logins: the password of each room's login role `memcube_login_<room>`.
    """
    await _provision_postgres(admin_dsn, logins)
    await provision_streams(nats_url=nats_url, replicas=replicas)


async def provision_streams(*, nats_url: str, replicas: int = 1) -> None:
    """Make or mend the streams alone: what a NATS needs that came back without its store."""
    client = await nats.connect(nats_url, connect_timeout=5, max_reconnect_attempts=3)
    try:
        jetstream = client.jetstream(timeout=10)
        for config in streams(replicas=replicas):
            assert config.name is not None
            try:
                await jetstream.stream_info(config.name)
                await jetstream.update_stream(config)
            except NotFoundError:
                await jetstream.add_stream(config)
    finally:
        await asyncio.wait_for(client.close(), timeout=5)


async def ensure_project(*, admin_dsn: str, project: str) -> str | None:
    """Make `project` and its development key; the secret is returned once, when it is made, else None.

    Raises ValueError for a name that is not a project slug.
    """
    if not is_project_slug(project):
        raise ValueError("a project is named by 1-63 characters of a-z, 0-9 and '-', beginning with a letter or digit")
    async with _as_operator(admin_dsn) as connection:
        made = await connection.fetchval(
            "insert into memcube.projects (id) values ($1) on conflict do nothing returning id", project
        )
        return None if made is None else await _add_key(connection, project)


async def new_project_key(*, admin_dsn: str, project: str) -> str:
    """Another development key for a project that exists: the way back for who lost the first."""
    async with _as_operator(admin_dsn) as connection:
        return await _add_key(connection, project)


async def first_owner(*, admin_dsn: str, project: str, email: str, name: str, handle: str, password: str) -> bool:
    """Make the account that owns `project`, with the right to make projects; False where the project has an owner.

    The project is made if it is not there. password: its argon2id hash as a PHC string, never the password.
    Raises Conflict where the e-mail has an account or the handle is taken.
    """
    async with _as_operator(admin_dsn) as connection:
        await connection.execute("insert into memcube.projects (id) values ($1) on conflict do nothing", project)
        await connection.execute("select memcube.lock_members($1)", project)
        owned = await connection.fetchval(
            "select true from memcube.members where project_id = $1 and role = 'OWNER' limit 1", project
        )
        if owned:
            return False
        account = new_id()
        with refusals(conflict="There is an account with this e-mail already."):
            await connection.execute(
                "insert into memcube.accounts (id, email, email_key, name, password, may_create_projects)"
                " values ($1, $2, $3, $4, $5, true)",
                account,
                normal_email(email),
                email_key(email),
                name,
                password,
            )
        with refusals(conflict=f"The handle '{handle}' is taken in this project."):
            await connection.execute(
                "insert into memcube.members (project_id, account_id, handle, role, created_by)"
                " values ($1, $2, $3, 'OWNER', 'operator')",
                project,
                account,
                handle,
            )
        return True


@contextlib.asynccontextmanager
async def _as_operator(admin_dsn: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    """A transaction of the administrator in the operator's role: what he may do at the terminal, and no more."""
    connection = await asyncpg.connect(admin_dsn, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute(
                "set local role memcube_operator; set local app.principal = 'operator'; "
                "set local app.source = 'terminal'"
            )
            yield connection
    finally:
        await connection.close(timeout=5)


async def _add_key(connection: asyncpg.Connection[asyncpg.Record], project: str) -> str:
    key = new_key("secret")
    await connection.execute(
        "insert into memcube.api_keys (project_id, id, name, role, kind, prefix, hash, created_by)"
        " values ($1, $2, 'development', 'SERVICE', 'secret', $3, $4, 'operator')",
        project,
        new_id(),
        key_prefix(key),
        key_hash(key),
    )
    return key


def dsn_as(dsn: str, role: str, password: str) -> str:
    """The same server and database, signed in as `role`."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(role)}:{quote(password, safe='')}@{host}"))


async def _provision_postgres(admin_dsn: str, logins: Mapping[str, str]) -> None:
    connection = await asyncpg.connect(admin_dsn, timeout=10)
    try:
        await connection.execute("select pg_advisory_lock($1)", _PROVISIONING)
        owner_password = secrets.token_urlsafe(24)
        await _ensure_roles(connection, logins, owner_password)
        for extension in ("vector", "btree_gin"):
            available = await connection.fetchval("select true from pg_available_extensions where name = $1", extension)
            if available or extension == "vector":
                await connection.execute(f"create extension if not exists {extension} schema public")
        for schema in ("memcube", "memcube_vectors"):
            await connection.execute(f"create schema if not exists {schema} authorization memcube_owner")
        database = await connection.fetchval("select current_database()")
        await connection.execute(f'revoke all on database "{database}" from public')
        await connection.execute(f'grant connect on database "{database}" to memcube_owner')
        for room in logins:
            await connection.execute(f'grant connect on database "{database}" to memcube_login_{room}')
        await migrate(_for_dbmate(dsn_as(admin_dsn, "memcube_owner", owner_password)))
        await connection.execute("grant select on memcube.schema_migrations to memcube_worker, memcube_operator")
        await connection.execute("select memcube.maintain_partitions(7, 0)")
    finally:
        await connection.close(timeout=5)


async def _ensure_roles(
    connection: asyncpg.Connection[asyncpg.Record], logins: Mapping[str, str], owner_password: str
) -> None:
    existing = {row["rolname"] for row in await connection.fetch("select rolname from pg_roles")}
    async with connection.transaction():

        async def role(name: str, attributes: str) -> None:
            verb = "alter" if name in existing else "create"
            await connection.execute(f"{verb} role {name} {attributes}")

        await role("memcube_owner", f"login noinherit password '{owner_password}'")
        for group in _GROUPS:
            await role(group, "nologin noinherit")
        for room, password in logins.items():
            quoted = password.replace("'", "''")
            await role(f"memcube_login_{room}", f"login noinherit password '{quoted}'")
            for group in _MAY_BECOME[room]:
                await connection.execute(f"grant {group} to memcube_login_{room}")
        for group in _OWNED_BY_NARROW:
            await connection.execute(f"grant {group} to memcube_owner")
        # What the builder owns the owner may still alter, when it alters the table that it is a part of.
        await connection.execute("grant memcube_builder to memcube_owner with inherit true")
        for group in ("memcube_owner", "memcube_operator"):
            await connection.execute(f"grant {group} to current_user")


def _for_dbmate(dsn: str) -> str:
    parts = urlsplit(dsn)
    if "sslmode" in parts.query:
        return dsn
    local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}sslmode={'disable' if local else 'prefer'}"))
