"""Provisioning: twice, twice at once, by an administrator who is no superuser, with other passwords."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from nats.js.errors import NotFoundError
from tests.rooms import bus_client, opened

from memcube_common.db.migrate import known_version, shake_hands
from memcube_common.embedded import EmbeddedPostgres
from memcube_common.errors import MemCubeError
from memcube_common.ids import new_id
from memcube_common.provision import ROOMS, ensure_project, new_project_key, provision
from memcube_common.security.keys import is_well_formed, key_hash
from memcube_common.streams import streams
from memcube_common.testing.servers import HouseDatabase, Servers

SHAPE = """
select format('%s %s %s %s', c.relkind, c.relname, pg_get_userbyid(c.relowner), c.relacl) as line
  from pg_class c where c.relnamespace = 'memcube'::regnamespace
 union all
select format('f %s %s %s', p.proname, pg_get_userbyid(p.proowner), p.proacl)
  from pg_proc p where p.pronamespace = 'memcube'::regnamespace
 union all
select format('policy %s %s %s %s', tablename, policyname, roles, qual) from pg_policies where schemaname = 'memcube'
 order by 1
"""
MEMBERSHIPS = """
select format('%s in %s inherit %s set %s admin %s', pg_get_userbyid(member), pg_get_userbyid(roleid),
              inherit_option, set_option, admin_option) as line
  from pg_auth_members where pg_get_userbyid(member) like 'memcube\\_login\\_%' order by 1
"""


def at(dsn: str, database: str, user: str | None = None, password: str = "") -> str:
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    netloc = parts.netloc if user is None else f"{quote(user)}:{quote(password)}@{host}"
    return urlunsplit(parts._replace(netloc=netloc, path=f"/{database}"))


async def run(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close(timeout=5)


async def lines(dsn: str, query: str) -> list[str]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return [row["line"] for row in await connection.fetch(query)]
    finally:
        await connection.close(timeout=5)


@pytest_asyncio.fixture(scope="module")
async def fresh(breakable: tuple[Servers, HouseDatabase]) -> Servers:
    """Servers whose roles a test may give other passwords."""
    return breakable[0]


@pytest_asyncio.fixture
async def empty(fresh: Servers) -> AsyncGenerator[str]:
    """An empty database, as its administrator."""
    name = f"provision_{uuid4().hex[:8]}"
    await run(at(fresh.admin_dsn, "postgres"), f"create database {name}")
    yield at(fresh.admin_dsn, name)
    await run(at(fresh.admin_dsn, "postgres"), f"drop database {name} with (force)")


@pytest_asyncio.fixture(autouse=True)
async def passwords_put_back(breakable: tuple[Servers, HouseDatabase]) -> AsyncGenerator[None]:
    """Roles belong to the whole server: what other tests sign in with is put back."""
    yield
    servers, house = breakable
    await run(
        at(servers.admin_dsn, "postgres"),
        *(f"alter role memcube_login_{room} password '{house.logins[room]}'" for room in ROOMS),
    )


def logins(word: str = "pw") -> dict[str, str]:
    return {room: f"{word}'\"\\ %{room}" for room in ROOMS}


async def test_every_room_can_sign_in_and_work(fresh: Servers, empty: str) -> None:
    passwords = logins()
    await provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=passwords)
    house = HouseDatabase(empty, fresh.nats_url, passwords)
    async with contextlib.AsyncExitStack() as stack:
        for room in ROOMS:
            await shake_hands(await opened(house, room, stack, size=1))
    assert await lines(empty, "select max(version) as line from memcube.schema_migrations") == [known_version()]


async def test_a_second_time_changes_nothing(fresh: Servers, empty: str) -> None:
    await provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=logins())
    before = await lines(empty, SHAPE), await lines(empty, MEMBERSHIPS)
    key = await ensure_project(admin_dsn=empty, project="kept")
    await provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=logins())
    assert (await lines(empty, SHAPE), await lines(empty, MEMBERSHIPS)) == before
    assert key is not None
    assert await ensure_project(admin_dsn=empty, project="kept") is None


async def test_several_at_once_are_as_one(fresh: Servers, empty: str) -> None:
    await asyncio.gather(*(provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=logins()) for _ in range(3)))
    house = HouseDatabase(empty, fresh.nats_url, logins())
    async with contextlib.AsyncExitStack() as stack:
        await shake_hands(await opened(house, "gateway", stack, size=1))


async def test_other_passwords_replace_the_old_ones(fresh: Servers, empty: str) -> None:
    await provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=logins("old"))
    await provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=logins("new"))
    old = HouseDatabase(empty, fresh.nats_url, logins("old"))
    new = HouseDatabase(empty, fresh.nats_url, logins("new"))
    for room in ROOMS:
        await run(new.dsn(room), "select 1")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await run(old.dsn(room), "select 1")


async def test_an_administrator_who_is_no_superuser_can_provision(
    fresh: Servers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What it needs: CREATEROLE, a database of its own, and `vector` in it where the server does not trust it."""
    async with EmbeddedPostgres(tmp_path_factory.mktemp("plain"), name="memcube-plain", durable=False) as server:
        await run(server.dsn("postgres"), "create role plain login createrole createdb password 'plain'")
        mine = at(server.dsn(), "mine", "plain", "plain")
        await run(at(server.dsn(), "postgres", "plain", "plain"), "create database mine")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match='extension "vector"'):
            await provision(admin_dsn=mine, nats_url=fresh.nats_url, logins=logins())
        await run(server.dsn("mine"), "create extension vector schema public")
        await provision(admin_dsn=mine, nats_url=fresh.nats_url, logins=logins())
        await provision(admin_dsn=mine, nats_url=fresh.nats_url, logins=logins("other"))
        assert is_well_formed(await ensure_project(admin_dsn=mine, project="demo") or "")
        house = HouseDatabase(mine, fresh.nats_url, logins("other"))
        async with contextlib.AsyncExitStack() as stack:
            for room in ROOMS:
                await shake_hands(await opened(house, room, stack, size=1))


async def test_nobody_but_the_rooms_may_connect(fresh: Servers, empty: str) -> None:
    await provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=logins())
    stranger = f"stranger_{uuid4().hex[:8]}"
    await run(empty, f"create role {stranger} login password 'x'")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(at(empty, urlsplit(empty).path.lstrip("/"), stranger, "x"), "select 1")
    finally:
        await run(empty, f"drop role {stranger}")


async def test_the_streams_are_there_as_declared(fresh: Servers, empty: str) -> None:
    async with bus_client(fresh.nats_url) as client:
        jetstream = client.jetstream()
        for config in streams():
            assert config.name is not None
            with contextlib.suppress(NotFoundError):
                await jetstream.delete_stream(config.name)
        for _ in range(2):
            await provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=logins())
            for config in streams():
                assert config.name is not None
                found = (await jetstream.stream_info(config.name)).config
                for field in (
                    "subjects",
                    "retention",
                    "storage",
                    "discard",
                    "max_age",
                    "duplicate_window",
                    "max_bytes",
                ):
                    wanted = getattr(config, field)
                    if wanted is not None:
                        assert getattr(found, field) == wanted, (config.name, field)


async def test_a_key_is_shown_once_and_kept_as_a_hash(fresh: Servers, empty: str) -> None:
    await provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=logins())
    first = await ensure_project(admin_dsn=empty, project="demo")
    second = await new_project_key(admin_dsn=empty, project="demo")
    assert first is not None
    assert first != second
    kept = await lines(empty, "select hash as line from memcube.api_keys order by created_at, id")
    assert set(kept) == {key_hash(first), key_hash(second)}
    everything = await lines(empty, "select row_to_json(k)::text as line from memcube.api_keys k")
    assert not any(key in line for key in (first, second) for line in everything)


@pytest.mark.parametrize("name", ["", "A", "a'b", "a" * 64, "-a", "a\n", "a.b"])
async def test_a_project_with_a_hostile_name_is_not_made(fresh: Servers, name: str) -> None:
    with pytest.raises(ValueError, match="project is named"):
        await ensure_project(admin_dsn=fresh.admin_dsn, project=name)


async def test_projects_made_at_once_are_made_once(breakable: tuple[Servers, HouseDatabase]) -> None:
    name = f"p-{new_id().hex[-12:]}"
    keys = await asyncio.gather(*(ensure_project(admin_dsn=breakable[1].admin_dsn, project=name) for _ in range(5)))
    assert len([key for key in keys if key is not None]) == 1


async def test_a_schema_that_is_behind_is_not_worked_on(fresh: Servers, empty: str) -> None:
    await provision(admin_dsn=empty, nats_url=fresh.nats_url, logins=logins())
    await run(
        empty,
        "update memcube.schema_migrations set version = '20200101000000'"
        " where version = (select max(version) from memcube.schema_migrations)",
    )
    house = HouseDatabase(empty, fresh.nats_url, logins())
    async with contextlib.AsyncExitStack() as stack:
        db = await opened(house, "gateway", stack, size=1)
        with pytest.raises(MemCubeError, match="run the migrations"):
            await shake_hands(db)
