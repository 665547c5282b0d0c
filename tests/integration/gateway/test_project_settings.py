"""What a project decides about what is written into it: who may set it, from when it holds, what remembers it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest
import pytest_asyncio
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import Person, a_member, an_owner
from tests.rooms import admin

from memcube_common.projects.domain import ProjectSettings
from memcube_common.projects.store import read_settings, set_settings
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_gateway.admission import Caller
from memcube_gateway.decisions import Decisions
from memcube_gateway.patience import Patience


@pytest_asyncio.fixture
async def client(gateway: RunningGateway, project: HouseProject) -> AsyncGenerator[httpx.AsyncClient]:
    """Somebody at the gateway, without a credential."""
    gateway.room.desk.by_address.forget_all()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        yield client


@pytest_asyncio.fixture
async def owner(database: HouseDatabase, client: httpx.AsyncClient, project: HouseProject) -> Person:
    """The owner of the test's project."""
    return await an_owner(database, client, project.slug)


async def test_owners_and_admins_set_them_and_members_read_them(
    client: httpx.AsyncClient, owner: Person, project: HouseProject
) -> None:
    path = f"/v1/projects/{project.slug}"
    admin = await a_member(client, owner, project.slug, handle="adam", role="ADMIN")
    member = await a_member(client, owner, project.slug, handle="mia", role="MEMBER")
    fresh = (await client.get(path, headers=member.authorization)).json()

    first = await client.patch(path, json={"screening": "redact"}, headers=owner.authorization)
    second = await client.patch(path, json={"near_duplicates": 0.95}, headers=admin.authorization)
    nothing = await client.patch(path, json={}, headers=admin.authorization)
    told = (await client.get(path, headers=member.authorization)).json()

    assert (fresh["screening"], fresh["near_duplicates"]) == ("off", None)
    assert [answer.status_code for answer in (first, second, nothing)] == [200, 200, 200]
    assert second.json() == nothing.json() == told
    assert (told["screening"], told["near_duplicates"]) == ("redact", 0.95)


async def test_who_set_what_stands_in_the_projects_events(
    client: httpx.AsyncClient, owner: Person, project: HouseProject
) -> None:
    path = f"/v1/projects/{project.slug}"
    for changes in ({"screening": "tag", "near_duplicates": 0.9}, {"screening": "tag"}, {"near_duplicates": None}):
        assert (await client.patch(path, json=changes, headers=owner.authorization)).status_code == 200

    events = (await client.get(f"{path}/events", headers=owner.authorization)).json()["events"]

    assert [(one["actor"], one["subject"], one["details"]) for one in events if one["kind"] == "project.set"] == [
        ("owner", project.slug, {"near_duplicates": {"was": 0.9, "now": None}}),
        (
            "owner",
            project.slug,
            {"screening": {"was": "off", "now": "tag"}, "near_duplicates": {"was": None, "now": 0.9}},
        ),
    ]
    assert all(one["source"].startswith("session:") for one in events if one["kind"] == "project.set")


async def test_no_key_and_no_member_sets_them(client: httpx.AsyncClient, owner: Person, project: HouseProject) -> None:
    path = f"/v1/projects/{project.slug}"
    member = await a_member(client, owner, project.slug, handle="mia", role="MEMBER")
    for authorization in (project.authorization, member.authorization):
        refused = await client.patch(path, json={"screening": "tag"}, headers=authorization)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert (await client.get(path, headers=member.authorization)).json()["screening"] == "off"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"screening": "maybe"}, "screening"),
        ({"screening": None}, "screening"),
        ({"near_duplicates": 0.79}, "near_duplicates"),
        ({"near_duplicates": 1.1}, "near_duplicates"),
        ({"language": "french"}, "language"),
    ],
)
async def test_what_cannot_be_set_is_named(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, changes: dict[str, object], field: str
) -> None:
    refused = await client.patch(f"/v1/projects/{project.slug}", json=changes, headers=owner.authorization)

    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_the_database_itself_refuses_keys_members_and_other_columns(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject
) -> None:
    for role in ("SERVICE", "OWNER", "MEMBER"):  # without an account: keys
        async with gateway.room.db.transaction(Principal.user(project.slug, "key", role)) as tx:
            assert await set_settings(tx, project=project.slug, screening="tag") is None
            assert await read_settings(tx, project=project.slug) == ProjectSettings()
    async with admin(database) as connection:
        columns = await connection.fetch(
            "select column_name from information_schema.column_privileges where table_schema = 'memcube'"
            " and table_name = 'projects' and grantee = 'memcube_user' and privilege_type = 'UPDATE'"
        )
    assert {row["column_name"] for row in columns} == {"screening", "near_duplicates"}


async def test_they_are_remembered_for_three_seconds_and_read_anew_once_set(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject
) -> None:
    seconds = 100.0
    decisions = Decisions(gateway.room.db, clock=lambda: seconds, most=1)
    caller = Caller(Principal.user(project.slug, "key", "SERVICE"), "key:x", None)

    async def now() -> ProjectSettings:
        return await decisions.of(caller, Patience(5))

    async def set_to(screening: str) -> None:
        async with admin(database) as connection:
            await connection.execute(
                "update memcube.projects set screening = $2 where id = $1", project.slug, screening
            )

    assert await now() == ProjectSettings()
    await set_to("tag")
    assert await now() == ProjectSettings()  # remembered
    seconds += 3.1
    assert await now() == ProjectSettings("tag")
    await set_to("redact")
    decisions.forget(project.slug)
    assert await now() == ProjectSettings("redact")
