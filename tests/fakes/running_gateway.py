"""The real gateway inside the test's process, on a free port, so that tests can reach its room."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Any, cast

import uvicorn
from pydantic import SecretStr

from memcube_common.embedded.process import until
from memcube_common.testing.servers import HouseDatabase
from memcube_common.wire import BoundedProtocol
from memcube_gateway.app import build_app
from memcube_gateway.room import Room, open_room
from memcube_gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway that serves: its address and what it holds."""

    url: str
    room: Room


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which belong to the test runner here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def running_gateway(database: HouseDatabase, **settings: Any) -> AsyncGenerator[RunningGateway]:
    """Serve while the block lasts; `settings` replace the defaults."""
    given: dict[str, Any] = {
        "postgres_dsn": SecretStr(database.dsn("gateway")),
        "nats_url": SecretStr(database.nats_url),
        "token_keys": SecretStr(base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()),
        **settings,
    }
    async with open_room(GatewaySettings(**given)) as room:
        config = uvicorn.Config(
            cast("Any", build_app(room)),
            http=BoundedProtocol,
            port=0,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            loop="none",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve())
        try:
            assert await until(lambda: server.started, within=10)
            port = server.servers[0].sockets[0].getsockname()[1]
            yield RunningGateway(f"http://127.0.0.1:{port}", room)
        finally:
            room.changes.close()
            server.should_exit = True
            await serving
