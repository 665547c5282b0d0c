"""Servers of one's own for the tests that stop, kill and freeze them."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from tests.rooms import own_house

from memcube_common.testing.servers import HouseDatabase, Servers


@pytest_asyncio.fixture(scope="session")
async def breakable(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[tuple[Servers, HouseDatabase]]:
    """Embedded servers and a provisioned database that a test may take down, if it puts them up again."""
    async with own_house(tmp_path_factory.mktemp("breakable")) as house:
        yield house
