"""Signing in, staying signed in, signing out: over HTTP, against the real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from joserfc import jwk, jwt
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import PASSWORD, Person, an_owner, signed_in
from tests.rooms import admin

from memcube_common.security.emails import email_key
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_gateway.credentials import store


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


def bare(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """An answer without what differs each time."""
    differing = {"x-request-id", "date", "ratelimit", "ratelimit-policy"}
    return answer.status_code, answer.content, {k: v for k, v in answer.headers.items() if k not in differing}


async def me(client: httpx.AsyncClient, access: str) -> int:
    return (await client.get("/v1/accounts/me", headers={"authorization": f"Bearer {access}"})).status_code


async def refreshed(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/v1/auth/refresh", json={"refresh_token": token})


async def test_a_session_opens_the_projects_of_its_account(
    client: httpx.AsyncClient, owner: Person, project: HouseProject
) -> None:
    account = (await client.get("/v1/accounts/me", headers=owner.authorization)).json()
    mine = (await client.get("/v1/projects", headers=owner.authorization)).json()
    sent = await client.post(
        f"/v1/projects/{project.slug}/insights", json={"insight": "Ada likes tea."}, headers=owner.authorization
    )

    assert account["email"] == owner.email
    assert [(m["project"], m["role"], m["handle"]) for m in account["memberships"]] == [
        (project.slug, "OWNER", "owner")
    ]
    assert mine["projects"] == account["memberships"]
    assert sent.status_code == 202


async def test_a_foreign_project_and_one_that_does_not_exist_answer_alike(
    client: httpx.AsyncClient, database: HouseDatabase, owner: Person, project: HouseProject
) -> None:
    other = await database.project()

    async def ask(slug: str, authorization: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        return bare(await client.get(f"/v1/projects/{slug}", headers=authorization))

    for credential in (owner.authorization, project.authorization):
        foreign = await ask(other.slug, credential)
        assert foreign[0] == 404
        assert [await ask(absent, credential) for absent in ("no-such-project", "Not A Slug'--")] == [foreign] * 2
        assert (await ask(project.slug, credential))[0] == 200


async def test_an_access_token_can_be_verified_by_whoever_reads_the_published_keys(
    client: httpx.AsyncClient, owner: Person
) -> None:
    keys = jwk.KeySet.import_key_set((await client.get("/.well-known/jwks.json")).json())

    with pytest.warns(match="EdDSA is deprecated"):
        token = jwt.decode(owner.access, keys, algorithms=["EdDSA"])

    assert token.header.keys() == {"alg", "kid", "typ"}
    assert token.claims["iss"] == "memcube"
    assert token.claims["aud"] == "memcube"
    assert token.claims["exp"] - token.claims["iat"] == 3600


async def test_whoever_cannot_sign_in_learns_nothing(
    client: httpx.AsyncClient, gateway: RunningGateway, database: HouseDatabase, owner: Person
) -> None:
    async with admin(database) as psql:
        await psql.execute(
            "update memcube.accounts set disabled_at = now() where email_key = $1", email_key(owner.email)
        )
    before = gateway.room.desk.passwords.verified

    async def attempt(email: str, password: str) -> tuple[int, bytes, dict[str, str]]:
        return bare(await client.post("/v1/auth/token", json={"email": email, "password": password}))

    answers = [
        await attempt(f"nobody-{uuid4().hex}@example.org", PASSWORD),
        await attempt(owner.email, "wrong horse battery staple"),
        await attempt(owner.email, PASSWORD),
    ]

    assert answers[0][0] == 401
    assert answers == [answers[0]] * 3
    assert gateway.room.desk.passwords.verified - before == 3  # the time of each is one hash


async def test_an_email_is_known_in_every_spelling(client: httpx.AsyncClient, owner: Person) -> None:
    await signed_in(client, f"  {owner.email.upper()} ")


async def test_five_failures_a_minute_are_enough(client: httpx.AsyncClient, owner: Person) -> None:
    wrong = {"email": owner.email, "password": "wrong horse battery staple"}
    at_once = await asyncio.gather(*(client.post("/v1/auth/token", json=wrong) for _ in range(8)))
    then = await client.post("/v1/auth/token", json={"email": owner.email, "password": PASSWORD})

    assert sorted(answer.status_code for answer in at_once) == [401] * 5 + [429] * 3
    assert (then.status_code, then.json()["code"]) == (429, "too_many_requests")
    assert 1 <= int(then.headers["retry-after"]) <= 60


async def test_twenty_failures_a_minute_from_one_address_are_enough(client: httpx.AsyncClient) -> None:
    answers = [
        (await client.post("/v1/auth/token", json={"email": f"{uuid4().hex}@example.org", "password": "x" * 12}))
        for _ in range(21)
    ]

    assert [answer.status_code for answer in answers] == [401] * 20 + [429]


async def test_signing_in_well_is_not_counted(client: httpx.AsyncClient, owner: Person) -> None:
    for _ in range(7):
        await signed_in(client, owner.email)


async def test_a_refresh_token_gets_the_next_pair(client: httpx.AsyncClient, owner: Person) -> None:
    first = (await refreshed(client, owner.refresh)).json()
    second = (await refreshed(client, first["refresh_token"])).json()

    assert len({owner.refresh, first["refresh_token"], second["refresh_token"]}) == 3
    assert await me(client, second["access_token"]) == 200


async def test_fifty_racers_get_one_child(client: httpx.AsyncClient, owner: Person) -> None:
    answers = await asyncio.gather(*(refreshed(client, owner.refresh) for _ in range(50)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_a_token_used_again_after_ten_seconds_ends_its_whole_session(
    client: httpx.AsyncClient, gateway: RunningGateway, database: HouseDatabase, owner: Person
) -> None:
    child = (await refreshed(client, owner.refresh)).json()
    other = await signed_in(client, owner.email)
    async with admin(database) as psql:  # eleven seconds pass
        await psql.execute("update memcube.refresh_tokens set used_at = used_at - interval '11 seconds'")

    again = await refreshed(client, owner.refresh)
    gateway.room.door.forget_all()

    assert again.status_code == 401
    assert (await refreshed(client, child["refresh_token"])).status_code == 401
    assert await me(client, child["access_token"]) == 401
    assert await me(client, other.access) == 200  # another session is another family


@pytest.mark.parametrize("what", ["token", "session"])
async def test_what_is_over_is_not_refreshed(
    client: httpx.AsyncClient, database: HouseDatabase, owner: Person, what: str
) -> None:
    async with admin(database) as psql:
        table = {"token": "refresh_tokens", "session": "sessions"}[what]
        await psql.execute(f"update memcube.{table} set expires_at = now() - interval '1 second'")

    assert (await refreshed(client, owner.refresh)).status_code == 401


@pytest.mark.parametrize("token", ["", "mc_ref_", "mc_ref_" + "A" * 64, "x" * 71, "mc_ref_" + "é" * 64])
async def test_what_is_no_refresh_token_is_refused(client: httpx.AsyncClient, token: str) -> None:
    assert (await refreshed(client, token)).status_code in (401, 422)


async def test_signing_out_ends_the_session_everywhere(
    client: httpx.AsyncClient, gateway: RunningGateway, owner: Person, project: HouseProject
) -> None:
    assert await me(client, owner.access) == 200

    assert (await client.post("/v1/auth/logout", headers=owner.authorization)).status_code == 204
    gateway.room.door.forget_all()

    assert await me(client, owner.access) == 401
    there = await client.get(f"/v1/projects/{project.slug}", headers=owner.authorization)
    assert there.status_code == 401
    assert (await refreshed(client, owner.refresh)).status_code == 401


async def test_a_new_password_ends_the_other_sessions(
    client: httpx.AsyncClient, gateway: RunningGateway, owner: Person
) -> None:
    other = await signed_in(client, owner.email)
    change = {"current_password": PASSWORD, "new_password": "another long sentence"}

    wrong = await client.post(
        "/v1/auth/password",
        json={**change, "current_password": "wrong horse battery staple"},
        headers=owner.authorization,
    )
    right = await client.post("/v1/auth/password", json=change, headers=owner.authorization)
    gateway.room.door.forget_all()

    assert (wrong.status_code, right.status_code) == (401, 204)
    assert await me(client, owner.access) == 200
    assert await me(client, other.access) == 401
    old = await client.post("/v1/auth/token", json={"email": owner.email, "password": PASSWORD})
    assert old.status_code == 401
    await signed_in(client, owner.email, "another long sentence")


async def test_a_sign_in_that_meets_a_new_password_does_not_outlive_the_old_one(
    client: httpx.AsyncClient, gateway: RunningGateway, database: HouseDatabase, owner: Person
) -> None:
    async with admin(database) as psql:
        find = "select id, password from memcube.accounts where email_key = $1"
        row = await psql.fetchrow(find, email_key(owner.email))
        assert row is not None
        account, kept = row["id"], row["password"]
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        change = {"current_password": PASSWORD, "new_password": "another long sentence"}
        async with gateway.room.db.transaction(Principal.doorkeeper(account=account)) as tx:
            opened = await store.open_session(
                tx, account=account, session=uuid4(), proved=kept, refresh_hash=email_key(owner.access)
            )
            changing = asyncio.create_task(client.post("/v1/auth/password", json=change, headers=owner.authorization))
            async with asyncio.timeout(10):
                while not changing.done() and not await psql.fetchval(waiting):
                    pass
        changed = await changing
        alive = await psql.fetchval(
            "select count(*) from memcube.sessions where account_id = $1 and ended_at is null", account
        )

    assert opened
    assert (changed.status_code, alive) == (204, 1)  # the session that changed it


@pytest.mark.parametrize("password", ["short", "x" * 11, "x" * 257, "with\x00nul in it"])
async def test_a_password_outside_its_limits_is_refused_and_not_repeated(
    client: httpx.AsyncClient, owner: Person, password: str
) -> None:
    change = {"current_password": PASSWORD, "new_password": password}
    answer = await client.post("/v1/auth/password", json=change, headers=owner.authorization)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "new_password")
    assert password not in answer.text


async def test_a_password_hashed_with_other_parameters_is_hashed_anew_when_it_is_proved(
    client: httpx.AsyncClient, database: HouseDatabase, owner: Person
) -> None:
    async with admin(database) as psql:
        kept: str = await psql.fetchval(
            "select password from memcube.accounts where email_key = $1", email_key(owner.email)
        )

    assert kept.startswith("$argon2id$v=19$m=47104,t=2,p=1$")  # the fixture made it with 1 MiB and one pass


async def test_a_token_of_another_house_opens_nothing(
    client: httpx.AsyncClient, gateway: RunningGateway, owner: Person
) -> None:
    header, payload, signature = owner.access.split(".")
    flipped = signature[:-2] + ("A" if signature[-2] != "A" else "B") + signature[-1]

    assert await me(client, f"{header}.{payload}.{flipped}") == 401
    assert await me(client, "mc_sec_" + "A" * 49) == 401


async def test_a_key_is_no_account(client: httpx.AsyncClient, project: HouseProject) -> None:
    for path in ("/v1/accounts/me", "/v1/projects"):
        assert (await client.get(path, headers=project.authorization)).status_code == 401


async def test_what_is_long_over_is_forgotten_and_what_lasts_is_kept(
    client: httpx.AsyncClient, gateway: RunningGateway, database: HouseDatabase, owner: Person
) -> None:
    from memcube_gateway.jobs import forget_some_sessions

    other = await signed_in(client, owner.email)
    async with admin(database) as psql:
        ended = int(await psql.fetchval("select count(*) from memcube.sessions"))
        await psql.execute("update memcube.sessions set expires_at = now() - interval '2 days'")
    last = await signed_in(client, owner.email)

    assert await forget_some_sessions(gateway.room.db) == ended
    gateway.room.door.forget_all()

    assert [await me(client, person.access) for person in (owner, other, last)] == [401, 401, 200]


async def test_tokens_are_not_kept_by_whoever_passes_them_on(client: httpx.AsyncClient, owner: Person) -> None:
    answer = await client.post("/v1/auth/token", json={"email": owner.email, "password": PASSWORD})

    assert answer.headers["cache-control"] == "no-store"
