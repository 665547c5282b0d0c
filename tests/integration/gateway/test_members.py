"""Members, invitations and roles: who may bring whom in, and that nobody rises by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import PASSWORD, Person, a_member, an_owner, invited, signed_in
from tests.rooms import admin

from memcube_common.db import Statement
from memcube_common.errors import MemCubeError, NotAllowed
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject

ROLES = ("OWNER", "ADMIN", "MEMBER", "AGENT", "VIEWER")


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
def members(project: HouseProject) -> str:
    """The path of the project's members."""
    return f"/v1/projects/{project.slug}/members"


async def roles(client: httpx.AsyncClient, who: Person, members: str) -> dict[str, str]:
    answer = (await client.get(members, headers=who.authorization)).json()
    return {member["handle"]: member["role"] for member in answer["members"]}


async def test_an_invitation_brings_a_new_account_in(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str
) -> None:
    ada = await a_member(client, owner, project.slug, handle="ada", role="MEMBER")

    assert await roles(client, ada, members) == {"owner": "OWNER", "ada": "MEMBER"}
    everybody = (await client.get(members, headers=ada.authorization)).json()
    assert set(everybody["members"][0]) == {"handle", "role", "joined_at", "invited_by"}  # no e-mail, no account
    assert everybody["invitations"] == []


async def test_an_invitation_is_good_for_one(client: httpx.AsyncClient, owner: Person, project: HouseProject) -> None:
    token = await invited(client, owner, project.slug, handle="ada", role="MEMBER")
    bodies = [
        {"email": f"{uuid4().hex}@example.org", "name": "Ada", "password": PASSWORD, "invitation": token}
        for _ in range(6)
    ]

    answers = await asyncio.gather(*(client.post("/v1/accounts", json=body) for body in bodies))

    assert sorted(answer.status_code for answer in answers) == [201] + [404] * 5


async def test_an_account_that_is_there_joins_by_its_password_and_keeps_it(
    client: httpx.AsyncClient, database: HouseDatabase, owner: Person, project: HouseProject
) -> None:
    other = await database.project()
    host = await an_owner(database, client, other.slug, handle="host")
    token = await invited(client, host, other.slug, handle="guest", role="VIEWER")
    body = {"email": owner.email, "name": "Somebody else", "password": "not the password", "invitation": token}

    wrong = await client.post("/v1/accounts", json=body)
    right = await client.post("/v1/accounts", json={**body, "password": PASSWORD})

    assert (wrong.status_code, right.status_code) == (401, 200)
    assert {m["project"]: m["role"] for m in right.json()["memberships"]} == {
        project.slug: "OWNER",
        other.slug: "VIEWER",
    }
    assert right.json()["name"] == "owner"
    await signed_in(client, owner.email)


async def test_somebody_signed_in_joins_by_an_invitation(
    client: httpx.AsyncClient, database: HouseDatabase, owner: Person
) -> None:
    other = await database.project()
    host = await an_owner(database, client, other.slug, handle="host")
    body = {"invitation": await invited(client, host, other.slug, handle="guest", role="AGENT")}

    joined = await client.post("/v1/accounts/me/memberships", json=body, headers=owner.authorization)
    again = await client.post("/v1/accounts/me/memberships", json=body, headers=owner.authorization)
    more = {"invitation": await invited(client, host, other.slug, handle="guest2", role="AGENT")}
    twice = await client.post("/v1/accounts/me/memberships", json=more, headers=owner.authorization)

    assert (joined.status_code, joined.json()["role"]) == (201, "AGENT")
    assert again.status_code == 404
    assert (twice.status_code, twice.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("how", ["withdrawn", "over", "never"])
async def test_an_invitation_that_is_not_open_brings_nobody_in(
    client: httpx.AsyncClient, database: HouseDatabase, owner: Person, project: HouseProject, members: str, how: str
) -> None:
    token = await invited(client, owner, project.slug, handle="ada", role="MEMBER")
    if how == "withdrawn":
        assert (await client.delete(f"{members}/ada", headers=owner.authorization)).status_code == 204
    elif how == "over":
        async with admin(database) as psql:
            await psql.execute("update memcube.invitations set expires_at = now() where project_id = $1", project.slug)
    else:
        token = token[:-1] + ("A" if token[-1] != "A" else "B")

    answer = await client.post(
        "/v1/accounts",
        json={"email": f"{uuid4().hex}@example.org", "name": "Ada", "password": PASSWORD, "invitation": token},
    )

    assert answer.status_code == 404


async def test_a_newer_invitation_takes_the_place_of_the_older(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str
) -> None:
    first = await invited(client, owner, project.slug, handle="ada", role="MEMBER")
    await invited(client, owner, project.slug, handle="ada", role="VIEWER")

    body = {"email": f"{uuid4().hex}@example.org", "name": "Ada", "password": PASSWORD, "invitation": first}
    shown = (await client.get(members, headers=owner.authorization)).json()["invitations"]

    assert (await client.post("/v1/accounts", json=body)).status_code == 404
    assert [(open_["handle"], open_["role"]) for open_ in shown] == [("ada", "VIEWER")]


async def test_a_handle_names_one_principal(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str
) -> None:
    await a_member(client, owner, project.slug, handle="ada", role="MEMBER")
    keys = f"/v1/projects/{project.slug}/keys"

    as_member = await client.post(members, json={"handle": "ada"}, headers=owner.authorization)
    as_key = await client.post(keys, json={"name": "ada"}, headers=owner.authorization)
    as_keys_name = await client.post(members, json={"handle": "development"}, headers=owner.authorization)
    as_ours = await client.post(members, json={"handle": "operator"}, headers=owner.authorization)

    assert [answer.status_code for answer in (as_member, as_key, as_keys_name, as_ours)] == [409, 409, 409, 422]


async def test_an_owner_gives_every_role_and_an_admin_those_below(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str
) -> None:
    boss = await a_member(client, owner, project.slug, handle="boss", role="ADMIN")
    await a_member(client, owner, project.slug, handle="ada", role="MEMBER")

    async def give(who: Person, handle: str, role: str) -> int:
        answer = await client.patch(f"{members}/{handle}", json={"role": role}, headers=who.authorization)
        return answer.status_code

    assert [await give(owner, "ada", role) for role in (*ROLES, "MEMBER")] == [200] * 6
    assert {role: await give(boss, "ada", role) for role in ROLES} == {
        "OWNER": 403, "ADMIN": 403, "MEMBER": 200, "AGENT": 200, "VIEWER": 200
    }  # fmt: skip
    assert [await give(boss, handle, "OWNER") for handle in ("boss", "owner", "nobody")] == [403, 403, 404]
    assert [await give(boss, "owner", "VIEWER"), await give(boss, "boss", "VIEWER")] == [403, 403]
    assert {
        role: (
            await client.post(members, json={"handle": f"new-{role}", "role": role}, headers=boss.authorization)
        ).status_code
        for role in ROLES
    } == {"OWNER": 403, "ADMIN": 403, "MEMBER": 201, "AGENT": 201, "VIEWER": 201}
    assert (await client.delete(f"{members}/owner", headers=boss.authorization)).status_code == 403


@pytest.mark.parametrize("role", ["MEMBER", "AGENT", "VIEWER"])
async def test_whoever_is_below_admin_manages_nobody(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str, role: str
) -> None:
    ada = await a_member(client, owner, project.slug, handle="ada", role=role)
    await a_member(client, owner, project.slug, handle="bo", role="VIEWER")

    tries = [
        await client.patch(f"{members}/ada", json={"role": "ADMIN"}, headers=ada.authorization),
        await client.patch(f"{members}/bo", json={"role": "MEMBER"}, headers=ada.authorization),
        await client.post(members, json={"handle": "cy"}, headers=ada.authorization),
        await client.delete(f"{members}/bo", headers=ada.authorization),
        await client.get(f"/v1/projects/{project.slug}/keys", headers=ada.authorization),
        await client.post(f"/v1/projects/{project.slug}/keys", json={"name": "x"}, headers=ada.authorization),
        await client.get(f"/v1/projects/{project.slug}/events", headers=ada.authorization),
    ]

    assert [answer.status_code for answer in tries] == [403] * 7


async def test_a_key_manages_nobody_whatever_its_role(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str
) -> None:
    keys = f"/v1/projects/{project.slug}/keys"
    made = (await client.post(keys, json={"name": "root", "role": "OWNER"}, headers=owner.authorization)).json()

    for key in (project.key, made["key"]):
        authorization = {"authorization": f"Bearer {key}"}
        tries = [
            await client.patch(f"{members}/owner", json={"role": "VIEWER"}, headers=authorization),
            await client.post(members, json={"handle": "cy", "role": "OWNER"}, headers=authorization),
            await client.delete(f"{members}/owner", headers=authorization),
            await client.post(keys, json={"name": "x"}, headers=authorization),
            await client.delete(f"{keys}/{made['id']}", headers=authorization),
        ]
        assert [answer.status_code for answer in tries] == [403] * 5


async def test_the_database_itself_refuses_whoever_gets_past_the_gateway(
    client: httpx.AsyncClient, gateway: RunningGateway, owner: Person, project: HouseProject
) -> None:
    await a_member(client, owner, project.slug, handle="ada", role="MEMBER")
    slug = project.slug
    account = uuid4()
    promote = Statement("p", "Rise.", f"update members set role = 'OWNER' where project_id = '{slug}' returning 1")
    invite = Statement(
        "i",
        "Invite.",
        "insert into invitations (project_id, id, hash, role, handle, created_by, expires_at) values"
        f" ('{slug}', gen_random_uuid(), repeat('a', 64), 'OWNER', 'cy', 'boss', now())",
    )
    make = Statement(
        "k",
        "Key.",
        "insert into api_keys (project_id, id, name, role, kind, prefix, hash, created_by) values"
        f" ('{slug}', gen_random_uuid(), 'cy', 'OWNER', 'secret', 'x', repeat('b', 64), 'boss')",
    )
    read = Statement("h", "Hashes.", f"select hash from api_keys where project_id = '{slug}'")
    bring_in = Statement(
        "m",
        "Join.",
        "insert into members (project_id, account_id, handle, role, created_by)"
        f" values ('{slug}', '{account}', 'cy', 'OWNER', 'cy')",
    )
    forge = Statement("e", "Forget.", f"delete from project_events where project_id = '{slug}'")

    async def outcome(principal: Principal, statement: Statement) -> object:
        try:
            async with gateway.room.db.transaction(principal) as tx:
                return list(await tx.fetch(statement))
        except MemCubeError as error:
            return type(error)
        except asyncpg.InsufficientPrivilegeError:  # a room's own lack is no answer but a fault
            return NotAllowed

    admin_ = Principal.user(slug, "boss", "ADMIN", account=account)
    by_key = Principal.user(slug, "boss", "OWNER")
    member = Principal.user(slug, "ada", "MEMBER", account=account)
    assert await outcome(admin_, promote) is NotAllowed
    assert [await outcome(who, promote) for who in (by_key, member)] == [[], []]
    for who in (admin_, by_key, member):
        assert [await outcome(who, statement) for statement in (invite, make, read, forge)] == [NotAllowed] * 4
    keeper = Principal.doorkeeper(account=account, project=slug)
    assert [await outcome(keeper, statement) for statement in (bring_in, forge)] == [NotAllowed] * 2
    other = Principal.user("another", "boss", "OWNER", account=account)
    assert await outcome(other, promote) == []


async def test_everybody_may_leave_but_the_last_owner(
    client: httpx.AsyncClient, gateway: RunningGateway, owner: Person, project: HouseProject, members: str
) -> None:
    ada = await a_member(client, owner, project.slug, handle="ada", role="VIEWER")

    left = await client.delete(f"{members}/ada", headers=ada.authorization)
    gateway.room.door.forget_all()
    there = await client.get(members, headers=ada.authorization)
    last = await client.delete(f"{members}/owner", headers=owner.authorization)
    down = await client.patch(f"{members}/owner", json={"role": "ADMIN"}, headers=owner.authorization)

    assert (left.status_code, there.status_code) == (204, 404)
    assert [(answer.status_code, answer.json()["code"]) for answer in (last, down)] == [(409, "conflict")] * 2


@pytest.mark.parametrize("how", ["remove", "demote"])
async def test_two_owners_who_remove_each_other_leave_one(
    client: httpx.AsyncClient, database: HouseDatabase, owner: Person, project: HouseProject, how: str
) -> None:
    await a_member(client, owner, project.slug, handle="second", role="OWNER")
    async with admin(database) as one, admin(database) as two, admin(database) as watch:

        async def away(connection: asyncpg.Connection[asyncpg.Record], handle: str) -> None:
            sql = {
                "remove": "delete from memcube.members where project_id = $1 and handle = $2",
                "demote": "update memcube.members set role = 'VIEWER' where project_id = $1 and handle = $2",
            }[how]
            await connection.execute(sql, project.slug, handle)

        first, second = one.transaction(), two.transaction()
        await first.start()
        await second.start()
        await away(one, "owner")
        racing = asyncio.create_task(away(two, "second"))
        waiting = "select wait_event from pg_stat_activity where pid = $1"
        async with asyncio.timeout(10):
            while await watch.fetchval(waiting, two.get_server_pid()) != "advisory":
                assert not racing.done()
        await first.commit()
        with pytest.raises(asyncpg.RestrictViolationError):
            await racing
        await second.rollback()

        left = await watch.fetchval(
            "select count(*) from memcube.members where project_id = $1 and role = 'OWNER'", project.slug
        )
    assert left == 1


async def test_who_was_put_down_does_not_get_up_again_while_the_role_is_remembered(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str
) -> None:
    second = await a_member(client, owner, project.slug, handle="second", role="OWNER")
    keys = f"/v1/projects/{project.slug}/keys"

    async def rise() -> list[int]:
        answers = [
            await client.patch(f"{members}/second", json={"role": "OWNER"}, headers=second.authorization),
            await client.post(members, json={"handle": "back", "role": "OWNER"}, headers=second.authorization),
            await client.post(keys, json={"name": "back", "role": "OWNER"}, headers=second.authorization),
            await client.delete(f"{members}/owner", headers=second.authorization),
        ]
        return [answer.status_code for answer in answers]

    await roles(client, second, members)  # remembered from here on
    await client.patch(f"{members}/second", json={"role": "VIEWER"}, headers=owner.authorization)
    assert await rise() == [403] * 4
    await client.patch(f"{members}/second", json={"role": "OWNER"}, headers=owner.authorization)
    assert (await client.get(keys, headers=second.authorization)).status_code == 200
    await client.delete(f"{members}/second", headers=owner.authorization)
    assert await rise() == [404] * 4
    assert await roles(client, owner, members) == {"owner": "OWNER"}


@pytest.mark.parametrize("how", ["removed", "put down"])
async def test_nobody_joins_by_the_word_of_who_has_no_say_any_more(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str, how: str
) -> None:
    admin = await a_member(client, owner, project.slug, handle="admin", role="ADMIN")
    invited = await client.post(members, json={"handle": "friend", "role": "AGENT"}, headers=admin.authorization)
    assert invited.status_code == 201
    if how == "removed":
        gone = await client.delete(f"{members}/admin", headers=owner.authorization)
    else:
        gone = await client.patch(f"{members}/admin", json={"role": "MEMBER"}, headers=owner.authorization)
    assert gone.status_code in {200, 204}
    joined = await client.post(
        "/v1/accounts",
        json={
            "email": f"friend-{how.split()[0]}@example.org",
            "name": "friend",
            "password": "a long enough pass phrase",
            "invitation": invited.json()["token"],
        },
    )
    assert joined.status_code >= 400
    assert "friend" not in await roles(client, owner, members)


async def test_who_signed_out_manages_nobody_while_the_session_is_remembered(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str
) -> None:
    thief = await signed_in(client, owner.email)
    await roles(client, thief, members)
    await client.post("/v1/auth/logout", headers=thief.authorization)

    invited_by_thief = await client.post(members, json={"handle": "back"}, headers=thief.authorization)
    assert invited_by_thief.status_code == 401


async def test_a_role_that_is_lost_while_a_request_waits_is_lost_for_that_request(
    client: httpx.AsyncClient, database: HouseDatabase, owner: Person, project: HouseProject, members: str
) -> None:
    second = await a_member(client, owner, project.slug, handle="second", role="OWNER")
    up = {"role": "OWNER"}
    async with admin(database) as psql, admin(database) as watch:
        async with psql.transaction():
            await psql.execute("select memcube.lock_members($1)", project.slug)
            rising = asyncio.create_task(client.patch(f"{members}/second", json=up, headers=second.authorization))
            waiting = (
                "select count(*) from pg_stat_activity where wait_event = 'advisory' and datname = current_database()"
            )
            async with asyncio.timeout(10):
                while not await watch.fetchval(waiting):
                    assert not rising.done()
            await psql.execute(
                "update memcube.members set role = 'VIEWER' where project_id = $1 and handle = 'second'", project.slug
            )
        answer = await rising

    assert answer.status_code == 403
    assert await roles(client, owner, members) == {"owner": "OWNER", "second": "VIEWER"}


async def test_a_project_can_be_deleted_with_its_owners(
    client: httpx.AsyncClient, database: HouseDatabase, owner: Person, project: HouseProject
) -> None:
    await invited(client, owner, project.slug, handle="ada", role="MEMBER")
    async with admin(database) as psql:
        await psql.execute("delete from memcube.projects where id = $1", project.slug)
        left = await psql.fetchval("select count(*) from memcube.members where project_id = $1", project.slug)

    assert left == 0


async def test_only_accounts_that_may_make_projects(
    client: httpx.AsyncClient, owner: Person, project: HouseProject
) -> None:
    ada = await a_member(client, owner, project.slug, handle="ada", role="ADMIN")
    slug = f"p-{uuid4().hex[:12]}"

    async def make(who: Person, name: str, **more: str) -> int:
        body = {"id": name, **more}
        return (await client.post("/v1/projects", json=body, headers=who.authorization)).status_code

    assert [await make(ada, slug), await make(ada, project.slug)] == [403, 403]  # which of them exists is not told
    assert [await make(owner, slug, language="german"), await make(owner, slug)] == [201, 409]
    assert await make(owner, f"{slug}-2", language="klingon") == 422
    assert await roles(client, owner, f"/v1/projects/{slug}/members") == {"owner": "OWNER"}


async def test_what_happened_to_a_project_is_written_down(
    client: httpx.AsyncClient, owner: Person, project: HouseProject, members: str
) -> None:
    ada = await a_member(client, owner, project.slug, handle="ada", role="MEMBER")
    await client.patch(f"{members}/ada", json={"role": "AGENT"}, headers=owner.authorization)
    await client.delete(f"{members}/ada", headers=ada.authorization)
    path = f"/v1/projects/{project.slug}/events"

    events = (await client.get(path, headers=owner.authorization)).json()["events"]
    older = (await client.get(f"{path}?limit=2&before={events[1]['id']}", headers=owner.authorization)).json()["events"]

    assert [(event["kind"], event["actor"], event["subject"]) for event in events][:4] == [
        ("member.removed", "ada", "ada"),
        ("member.changed", "owner", "ada"),
        ("member.joined", "ada", "ada"),
        ("invitation.made", "owner", "ada"),
    ]
    assert {event["kind"] for event in events} >= {"project.created", "key.made"}
    assert events[1]["details"] == {"role": "AGENT", "was": "MEMBER"}
    assert events[1]["source"].startswith("session:")
    assert events[1]["source"].endswith(" 127.0.0.1")
    assert older == events[2:4]
    assert UUID(events[0]["id"])


async def test_a_role_counts_at_once_for_the_next_request_that_is_looked_up(
    client: httpx.AsyncClient, gateway: RunningGateway, owner: Person, project: HouseProject, members: str
) -> None:
    ada = await a_member(client, owner, project.slug, handle="ada", role="MEMBER")
    path = f"/v1/projects/{project.slug}/insights"

    async def submit(**fields: str) -> int:
        answer = await client.post(path, json={"insight": "Tea is hot.", **fields}, headers=ada.authorization)
        return answer.status_code

    assert [await submit(), await submit(agent_id="ada"), await submit(agent_id="owner")] == [202, 202, 403]
    imported = await client.post(
        f"/v1/projects/{project.slug}/memories/import",
        json={"memories": [{"id": "1", "content": "x"}]},
        headers=ada.authorization,
    )
    assert imported.status_code == 403
    await client.patch(f"{members}/ada", json={"role": "VIEWER"}, headers=owner.authorization)
    gateway.room.door.forget_all()
    assert await submit() == 403
