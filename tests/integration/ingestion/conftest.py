"""An ingestion room over the module's database, and an agent on the bus."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import asyncpg
import pytest_asyncio
from nats.aio.client import Client
from tests.rooms import admin, bus_client, ingestion_room

from memcube_common.db.pool import Row
from memcube_common.testing.servers import HouseDatabase
from memcube_ingestion.room import Room


@pytest_asyncio.fixture(scope="module")
async def room(database: HouseDatabase) -> AsyncGenerator[Room]:
    """The room, without its loops: a test starts what it wants to see at work."""
    async with ingestion_room(database) as room:
        yield room


@pytest_asyncio.fixture(scope="module")
async def agent(database: HouseDatabase) -> AsyncGenerator[Client]:
    """Somebody who publishes."""
    async with bus_client(database.nats_url) as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def psql(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection[Row]]:
    """Somebody who looks at everything."""
    async with admin(database) as connection:
        yield connection
