"""Project keys: made and shown once, used, revoked, and found nowhere afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import PASSWORD, Person, a_member, an_owner, invited, signed_in
from tests.rooms import admin

from memcube_common.db import Transaction
from memcube_common.errors import NotFound, NotSignedIn
from memcube_common.security.grants import Grant
from memcube_common.security.keys import new_key
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_gateway.admission import Door
from memcube_gateway.credentials import store
from memcube_gateway.credentials.store import FoundKey
from memcube_gateway.jobs import note
from memcube_gateway.patience import Patience


@pytest_asyncio.fixture
async def client(gateway: RunningGateway) -> AsyncGenerator[httpx.AsyncClient]:
    """Somebody at the gateway, without a credential."""
    gateway.room.desk.by_address.forget_all()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        yield client


@pytest_asyncio.fixture
async def owner(database: HouseDatabase, client: httpx.AsyncClient, project: HouseProject) -> Person:
    """The owner of the test's project."""
    return await an_owner(database, client, project.slug)


@pytest.fixture
def keys(project: HouseProject) -> str:
    """The path of the project's keys."""
    return f"/v1/projects/{project.slug}/keys"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds - 1_000)


@pytest.fixture
def clock() -> Clock:
    """The door's own clock."""
    return Clock()


@pytest.fixture
def door(gateway: RunningGateway, clock: Clock) -> Door:
    """A door of a gateway of its own, beside the one that the requests go to."""
    return Door(gateway.room.db, gateway.room.desk.tokens, clock=clock.monotonic, now=clock.now)


async def comes_in(door: Door, project: str, secret: str) -> bool:
    try:
        await door.admit(project, f"Bearer {secret}", Patience(5), "127.0.0.1")
    except (NotSignedIn, NotFound):
        return False
    return True


async def test_a_key_is_shown_once_and_opens_its_project(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, keys: str
) -> None:
    made = (await client.post(keys, json={"name": "importer"}, headers=owner.authorization)).json()
    listed = (await client.get(keys, headers=owner.authorization)).json()["keys"]
    sent = await client.post(
        f"/v1/projects/{project.slug}/insights",
        json={"insight": "Keys open doors.", "agent_id": "anybody"},
        headers={"authorization": f"Bearer {made['key']}"},
    )

    assert made["key"].startswith("mc_sec_")
    assert made["prefix"] == made["key"][:12]
    assert [(key["name"], key["role"], key["kind"]) for key in listed] == [
        ("importer", "SERVICE", "secret"),
        ("development", "SERVICE", "secret"),
    ]
    assert made["key"] not in str(listed)
    assert sent.status_code == 202


@pytest.mark.parametrize(("role", "status"), [("AGENT", 403), ("MEMBER", 403), ("SERVICE", 202)])
async def test_only_the_privileged_bring_in_what_is_under_legal_hold(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, keys: str, role: str, status: int
) -> None:
    made = (await client.post(keys, json={"name": "holder", "role": role}, headers=owner.authorization)).json()
    authorization = {"authorization": f"Bearer {made['key']}"}
    path = f"/v1/projects/{project.slug}/insights"
    held = {"insight": "Held.", "governance": {"legal_hold": True}}
    for body in (held, {"insights": [{"insight": "Not held."}, held]}):
        assert (await client.post(path, json=body, headers=authorization)).status_code == status
    free = {"insight": "Not held.", "governance": {"legal_hold": False}}
    assert (await client.post(path, json=free, headers=authorization)).status_code == 202


async def test_a_publishable_key_brings_nothing_in(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, keys: str
) -> None:
    made = (await client.post(keys, json={"name": "web", "kind": "publishable"}, headers=owner.authorization)).json()
    authorization = {"authorization": f"Bearer {made['key']}"}
    path = f"/v1/projects/{project.slug}"

    tries = [
        await client.post(f"{path}/insights", json={"insight": "x"}, headers=authorization),
        await client.post(f"{path}/memories/import", json={"memories": []}, headers=authorization),
        await client.get(f"{path}/changes", headers=authorization),
        await client.get(f"{path}/members", headers=authorization),
        await client.get(f"{path}/receipts/{uuid4()}", headers=authorization),
        await client.get(path, headers=authorization),
    ]

    assert made["key"].startswith("mc_pub_")
    assert made["role"] == "PUBLIC"
    assert [answer.status_code for answer in tries] == [403] * 6
    assert (await client.get(f"{path}/memories/{uuid4()}", headers=authorization)).status_code == 404


async def test_a_key_reaches_at_most_as_far_as_its_maker(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, keys: str
) -> None:
    boss = await a_member(client, owner, project.slug, handle="boss", role="ADMIN")
    root = (await client.post(keys, json={"name": "root", "role": "OWNER"}, headers=owner.authorization)).json()

    made = {
        role: (
            await client.post(keys, json={"name": f"k-{role}", "role": role}, headers=boss.authorization)
        ).status_code
        for role in ("OWNER", "ADMIN", "SERVICE", "MEMBER", "AGENT", "VIEWER")
    }
    revoked = await client.delete(f"{keys}/{root['id']}", headers=boss.authorization)

    assert made == {"OWNER": 403, "ADMIN": 201, "SERVICE": 201, "MEMBER": 201, "AGENT": 201, "VIEWER": 201}
    assert revoked.status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "role": "PUBLIC"},
        {"name": "x", "role": "ROOT"},
        {"name": "x", "kind": "publishable", "role": "OWNER"},
        {"name": "a b"},
        {"name": "room"},
        {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "x", "project_id": "another"},
    ],
)
async def test_a_key_that_cannot_be_is_refused(
    client: httpx.AsyncClient, owner: Person, keys: str, body: dict[str, str]
) -> None:
    assert (await client.post(keys, json=body, headers=owner.authorization)).status_code == 422


async def test_a_revoked_key_is_dead_within_five_seconds_at_every_gateway(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, keys: str, door: Door, clock: Clock
) -> None:
    made = (await client.post(keys, json={"name": "short"}, headers=owner.authorization)).json()
    assert await comes_in(door, project.slug, made["key"])

    assert (await client.delete(f"{keys}/{made['id']}", headers=owner.authorization)).status_code == 204
    clock.seconds += 3.5

    assert not await comes_in(door, project.slug, made["key"])
    assert (await client.delete(f"{keys}/{made['id']}", headers=owner.authorization)).status_code == 204
    assert (await client.delete(f"{keys}/{uuid4()}", headers=owner.authorization)).status_code == 404


async def test_a_key_ends_by_itself_when_it_was_said_to(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, keys: str, door: Door, clock: Clock
) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    made = (await client.post(keys, json={"name": "brief", "expires_at": soon}, headers=owner.authorization)).json()
    assert await comes_in(door, project.slug, made["key"])

    clock.seconds += 61

    assert not await comes_in(door, project.slug, made["key"])


async def test_a_member_who_is_removed_or_signed_out_is_out_within_five_seconds_at_every_gateway(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, door: Door, clock: Clock
) -> None:
    ada = await a_member(client, owner, project.slug, handle="ada", role="MEMBER")
    bo = await a_member(client, owner, project.slug, handle="bo", role="MEMBER")
    assert [await comes_in(door, project.slug, who.access) for who in (ada, bo)] == [True, True]

    await client.delete(f"/v1/projects/{project.slug}/members/ada", headers=owner.authorization)
    await client.post("/v1/auth/logout", headers=bo.authorization)
    clock.seconds += 3.5

    assert [await comes_in(door, project.slug, who.access) for who in (ada, bo)] == [False, False]


async def test_the_bus_lets_in_under_the_names_that_a_credential_may_use(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, keys: str, door: Door, clock: Clock
) -> None:
    ada = await a_member(client, owner, project.slug, handle="ada", role="AGENT")
    slug = project.slug
    public = (await client.post(keys, json={"name": "web", "kind": "publishable"}, headers=owner.authorization)).json()

    assert await door.authenticate(slug, "ada", ada.access) is not None
    assert await door.authenticate(slug, "bo", ada.access) is None
    assert await door.authenticate(slug, "anybody", project.key) is not None
    assert await door.authenticate(slug, "anybody", owner.access) is not None
    assert await door.authenticate(slug, "web", public["key"]) is None
    assert await door.authenticate(slug, "a.b", project.key) is None
    assert await door.authenticate("another", "anybody", project.key) is None
    assert await door.authenticate(slug, "anybody", new_key()) is None
    assert await door.authenticate(slug, "anybody", "") is None


async def test_what_the_bus_granted_ends_with_the_credential_also_at_another_gateway(
    client: httpx.AsyncClient, gateway: RunningGateway, owner: Person, project: HouseProject, keys: str, clock: Clock
) -> None:
    ada = await a_member(client, owner, project.slug, handle="ada", role="AGENT")
    made = (await client.post(keys, json={"name": "bot", "role": "AGENT"}, headers=owner.authorization)).json()
    first, second = (
        Door(gateway.room.db, gateway.room.desk.tokens, clock=clock.monotonic, now=clock.now) for _ in range(2)
    )
    grants = [
        grant
        for agent, secret in (("ada", ada.access), ("bot", made["key"]), ("any", project.key))
        if (grant := await first.authenticate(project.slug, agent, secret)) is not None
    ]
    assert await second.still_valid(grants) == set(grants)
    assert len(grants) == 3

    await client.delete(f"{keys}/{made['id']}", headers=owner.authorization)
    await client.patch(f"/v1/projects/{project.slug}/members/ada", json={"role": "VIEWER"}, headers=owner.authorization)
    clock.seconds += 3.5
    stranger = Grant("another", "any", "SERVICE", grants[2].credential, None)

    assert await second.still_valid([*grants, stranger]) == {grants[2]}


async def test_a_stream_ends_when_its_key_is_revoked(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, keys: str
) -> None:
    made = (await client.post(keys, json={"name": "ear"}, headers=owner.authorization)).json()
    path = f"/v1/projects/{project.slug}/changes"

    async def to_the_end(pieces: AsyncIterator[bytes]) -> None:
        async with asyncio.timeout(10):
            async for _ in pieces:
                pass

    async with client.stream("GET", path, headers={"authorization": f"Bearer {made['key']}"}) as stream:
        pieces = stream.aiter_raw()
        assert b"hello" in await anext(pieces)
        await client.delete(f"{keys}/{made['id']}", headers=owner.authorization)
        revoked = asyncio.get_running_loop().time()
        with contextlib.suppress(httpx.RemoteProtocolError):  # half an answer, as a stream that is cut is
            await to_the_end(pieces)
    assert asyncio.get_running_loop().time() - revoked <= 5.0


async def test_when_a_key_was_last_used_is_noted_once_a_minute(
    client: httpx.AsyncClient, gateway: RunningGateway, owner: Person, project: HouseProject, keys: str, door: Door
) -> None:
    async def last_used() -> str | None:
        return (await client.get(keys, headers=owner.authorization)).json()["keys"][0]["last_used_at"]

    assert await last_used() is None
    for _ in range(3):
        assert await comes_in(door, project.slug, project.key)
    used = door.take_used_keys()
    await note(gateway.room.db, used)
    first = await last_used()
    await note(gateway.room.db, {hashed: at + timedelta(seconds=30) for hashed, at in used.items()})
    same = await last_used()
    await note(gateway.room.db, {hashed: at + timedelta(seconds=60) for hashed, at in used.items()})

    assert len(used) == 1
    assert first is not None
    assert same == first
    assert await last_used() != first
    assert door.take_used_keys() == {}


async def test_nothing_that_was_shown_once_is_found_in_the_database_or_the_logs(
    client: httpx.AsyncClient,
    database: HouseDatabase,
    owner: Person,
    project: HouseProject,
    keys: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = [owner.access, owner.refresh, PASSWORD]
    for kind in ("secret", "publishable"):
        for number in range(5):
            headers = {**owner.authorization, "idempotency-key": f"{kind}-{number}"}
            body = {"name": f"{kind}-{number}", "kind": kind}
            secrets.append((await client.post(keys, json=body, headers=headers)).json()["key"])
    secrets.append(await invited(client, owner, project.slug, handle="ada", role="MEMBER"))
    again = await signed_in(client, owner.email)
    refreshed = (await client.post("/v1/auth/refresh", json={"refresh_token": again.refresh})).json()
    secrets += [again.access, again.refresh, refreshed["refresh_token"], refreshed["access_token"]]
    await client.post("/v1/auth/token", json={"email": owner.email, "password": PASSWORD + "?"})

    async with admin(database) as psql:
        tables = await psql.fetch(
            "select c.oid::regclass::text as name from pg_class c"
            " where c.relnamespace = 'memcube'::regnamespace and c.relkind = 'r'"
        )
        dump = "\n".join(
            [
                row["line"]
                for table in tables
                for row in await psql.fetch(f"select t::text as line from {table['name']} t")
            ]
        )
    logged = caplog.text + "".join(capfd.readouterr())

    assert "key.made" in dump
    assert "$argon2id$" in dump
    for secret in secrets:
        assert secret not in dump
        assert secret not in logged
        assert secret[7:] not in dump  # without what it begins with
    assert owner.email not in logged


async def test_many_who_come_at_once_with_one_credential_are_looked_up_once(
    gateway: RunningGateway, project: HouseProject, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    find_key = store.find_key

    async def counted(tx: Transaction, *, hashed: str) -> FoundKey | None:
        nonlocal looked
        looked += 1
        return await find_key(tx, hashed=hashed)

    monkeypatch.setattr("memcube_gateway.credentials.store.find_key", counted)
    assert all(await asyncio.gather(*(comes_in(door, project.slug, project.key) for _ in range(50))))
    unknown = new_key()
    assert not any(await asyncio.gather(*(comes_in(door, project.slug, unknown) for _ in range(50))))

    assert looked == 2
