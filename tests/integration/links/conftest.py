"""People of one project at the gateway, each with a key of their own name and role, and memories under governance."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import asyncpg
import httpx
import pytest_asyncio
from tests.fakes.house_work import HouseWork, memory
from tests.fakes.running_gateway import RunningGateway
from tests.rooms import admin

from memcube_common.contracts.fields import Governance
from memcube_common.db.pool import Row
from memcube_common.ids import new_id
from memcube_common.security.keys import key_hash, new_key
from memcube_common.testing.servers import HouseDatabase, HouseProject

ROLES = {"root": "SERVICE", "ada": "AGENT", "bo": "AGENT", "mo": "MEMBER", "vi": "VIEWER"}

People = dict[str, httpx.AsyncClient]
Keep = Callable[..., Awaitable[UUID]]


@pytest_asyncio.fixture(scope="module")
async def psql(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[Row]]:
    """The module's database as its administrator sees it."""
    async with admin(database) as connection:
        yield connection


@pytest_asyncio.fixture
async def people(
    psql: asyncpg.Connection[Row], gateway: RunningGateway, project: HouseProject
) -> AsyncGenerator[People]:
    """One HTTP client a person, inside the test's project."""
    async with contextlib.AsyncExitStack() as stack:
        clients: People = {}
        for name, role in ROLES.items():
            key = new_key()
            await psql.execute(
                "insert into memcube.api_keys (project_id, id, name, role, hash, prefix)"
                " values ($1, $2, $3, $4, $5, 'x')",
                project.slug, new_id(), name, role, key_hash(key),
            )  # fmt: skip
            clients[name] = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=f"{gateway.url}/v1/projects/{project.slug}/",
                    headers={"authorization": f"Bearer {key}"},
                    timeout=15,
                )
            )
        yield clients


@pytest_asyncio.fixture
async def keep(house_work: HouseWork, project: HouseProject) -> Keep:
    """Keep a memory of 'ada' with this text under this governance; its id."""

    async def keep(text: str = "some text", by: str = "ada", **governance: object) -> UUID:
        stated = Governance.model_validate(governance).model_dump_json()
        one = replace(memory(text), governance=stated, created_by=by)
        await house_work.keep(project.slug, [one])
        return one.id

    return keep
