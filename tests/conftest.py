"""What every test may ask for: servers, a database of its own, a project with its key, a running gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest
import pytest_asyncio
from tests.fakes.embedding_room import FakeEmbeddingRoom
from tests.fakes.house_work import HouseWork
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.workers import WholeModules, keep_together
from xdist.remote import Producer
from xdist.scheduler import Scheduling

from memcube_common.testing.s3 import S3Server, s3_server
from memcube_common.testing.servers import (
    HouseDatabase,
    HouseProject,
    Servers,
    copy_of,
    open_servers,
    provisioned_template,
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """With `-n`: modules stay whole, and those that share dear servers stay together."""
    return WholeModules(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell the scheduler of the workers who shares what."""
    if hasattr(config, "workerinput"):
        keep_together(items)


@pytest_asyncio.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Servers]:
    """Postgres and NATS, started once for all tests that ask."""
    async with open_servers(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


@pytest_asyncio.fixture(scope="session")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[S3Server]:
    """A real S3 server, started once for all tests that ask."""
    async with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest_asyncio.fixture(scope="session")
async def template(servers: Servers) -> AsyncGenerator[HouseDatabase]:
    """The provisioned database that others are copied from."""
    async with provisioned_template(servers) as template:
        yield template


@pytest_asyncio.fixture(scope="module")
async def database(template: HouseDatabase) -> AsyncGenerator[HouseDatabase]:
    """A provisioned database of the module's own."""
    async with copy_of(template) as database:
        yield database


@pytest.fixture
def admin_dsn(database: HouseDatabase) -> str:
    """The module's database as its administrator."""
    return database.admin_dsn


@pytest_asyncio.fixture
async def project(database: HouseDatabase) -> HouseProject:
    """A fresh project and its key."""
    return await database.project()


@pytest_asyncio.fixture(scope="module")
async def gateway(database: HouseDatabase) -> AsyncGenerator[RunningGateway]:
    """The gateway on a free port, over the module's database."""
    async with running_gateway(database) as gateway:
        yield gateway


@pytest_asyncio.fixture
async def http(gateway: RunningGateway, project: HouseProject) -> AsyncGenerator[httpx.AsyncClient]:
    """An HTTP client at the gateway, inside the test's project."""
    async with httpx.AsyncClient(
        base_url=f"{gateway.url}/v1/projects/{project.slug}/", headers=project.authorization, timeout=15
    ) as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def embedding_room(database: HouseDatabase) -> AsyncGenerator[FakeEmbeddingRoom]:
    """Somebody who answers the gateway's asks for vectors."""
    async with FakeEmbeddingRoom.open(database.nats_url) as room:
        yield room


@pytest_asyncio.fixture(scope="module")
async def house_work(database: HouseDatabase) -> AsyncGenerator[HouseWork]:
    """The hands of the other rooms."""
    async with HouseWork.open(database) as work:
        yield work
