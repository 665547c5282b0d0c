"""The client signs in, renews its session by itself, and signs out."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import pytest_asyncio
from tests.fakes.running_gateway import RunningGateway
from tests.house_people import PASSWORD, Person, an_owner
from tests.rooms import admin

from memcube import MemCubeClient, NotAllowed, NotSignedIn, Patience
from memcube_common.testing.servers import HouseDatabase, HouseProject

PATIENT = Patience(total=5.0)


@pytest_asyncio.fixture
async def owner(database: HouseDatabase, gateway: RunningGateway, project: HouseProject) -> Person:
    """The owner of the test's project."""
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        return await an_owner(database, client, project.slug)


async def test_a_client_signs_in_with_a_password(gateway: RunningGateway, owner: Person, project: HouseProject) -> None:
    async with MemCubeClient(gateway.url, project=project.slug, patience=PATIENT) as client:
        with pytest.raises(NotSignedIn):
            await client.insights.submit("Nobody said this.")
        session = await client.auth.sign_in_with_password(owner.email, PASSWORD)
        await client.insights.submit("The owner said this.")
        members = await client.ask("GET", "members")

    assert session.account.email == owner.email
    assert [member["role"] for member in members["members"]] == ["OWNER"]
    assert session.access_token not in repr(session)
    assert session.refresh_token not in repr(session)


async def test_an_owner_sets_what_is_decided_about_the_project(
    gateway: RunningGateway, owner: Person, project: HouseProject
) -> None:
    async with (
        MemCubeClient(gateway.url, project=project.slug, patience=PATIENT) as client,
        MemCubeClient(gateway.url, project.key, project.slug, patience=PATIENT) as agent,
    ):
        await client.auth.sign_in_with_password(owner.email, PASSWORD)
        was = await client.settings.get()
        await client.settings.set(screening="tag", near_duplicates=0.9)
        now = await client.settings.set(near_duplicates="off")
        with pytest.raises(NotAllowed):
            await agent.settings.set(screening="off")
        seen = await agent.settings.get()

    assert (was.screening, was.near_duplicates) == ("off", None)
    assert (now.screening, now.near_duplicates) == (seen.screening, seen.near_duplicates) == ("tag", None)


async def test_a_wrong_password_is_said(gateway: RunningGateway, owner: Person, project: HouseProject) -> None:
    async with MemCubeClient(gateway.url, project=project.slug, patience=PATIENT) as client:
        with pytest.raises(NotSignedIn, match="password is wrong"):
            await client.auth.sign_in_with_password(owner.email, "wrong horse battery staple")


async def test_a_session_that_runs_out_is_renewed_once_for_all_tasks(
    gateway: RunningGateway, database: HouseDatabase, owner: Person, project: HouseProject
) -> None:
    async with MemCubeClient(gateway.url, project=project.slug, patience=PATIENT) as client:
        session = await client.auth.sign_in_with_password(owner.email, PASSWORD)
        client.auth.resume(session)  # as old as can be

        await asyncio.gather(*(client.insights.submit(f"Insight {number}.") for number in range(8)))

        renewed = client.auth.session
        assert renewed is not None
        assert renewed.refresh_token != session.refresh_token
    async with admin(database) as psql:
        used = await psql.fetchval("select count(*) from memcube.refresh_tokens where used_at is not null")
    assert used == 1


async def test_a_token_the_server_does_not_take_is_renewed_and_the_call_made_again(
    gateway: RunningGateway, owner: Person, project: HouseProject
) -> None:
    async with MemCubeClient(gateway.url, project=project.slug, patience=PATIENT) as client:
        session = await client.auth.sign_in_with_password(owner.email, PASSWORD)
        head, payload, signature = session.access_token.split(".")
        spoilt = f"{head}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
        client.auth.resume(session.model_copy(update={"access_token": spoilt}))

        await client.insights.submit("Said with the next token.")


async def test_signing_out_ends_the_session_and_the_key_is_shown_again(
    gateway: RunningGateway, owner: Person, project: HouseProject
) -> None:
    async with MemCubeClient(gateway.url, project.key, project.slug, patience=PATIENT) as client:
        session = await client.auth.sign_in_with_password(owner.email, PASSWORD)
        await client.auth.sign_out()
        await client.insights.submit("Said with the key.")
        assert client.auth.session is None

        client.auth.resume(session)
        with pytest.raises(NotSignedIn):
            await client.insights.submit("Said by nobody.")
        assert client.auth.session is None
