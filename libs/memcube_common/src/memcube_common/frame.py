"""How every room starts, serves and stops: settings → logs → open → ready → SIGTERM → close in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar, cast

import structlog
import uvicorn
import uvloop

from memcube_common.db import Database
from memcube_common.db.migrate import shake_hands
from memcube_common.errors import TryAgain
from memcube_common.settings import RoomSettings
from memcube_common.telemetry.health import Asgi
from memcube_common.telemetry.logs import configure_logs
from memcube_common.wire import BoundedProtocol

_log = structlog.get_logger(__name__)

T = TypeVar("T")


def run_room(name: str, settings: RoomSettings, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a room's main until it returns, on uvloop, with its logs configured."""
    configure_logs(name, level=settings.log_level, form=settings.log_format)
    uvloop.run(main())


async def serve(
    application: Asgi, settings: RoomSettings, *, grace: float = 5.0, stopping: Callable[[], None] = lambda: None
) -> None:
    """Serve HTTP until SIGTERM or SIGINT; open requests get `grace` seconds to finish.

    `stopping` is called when the signal arrives, for streams that would not end by themselves.
    """
    loop = asyncio.get_running_loop()

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Not uvicorn's own: that one raises the signal again afterwards, before the room could close.
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True
            loop.call_soon_threadsafe(stopping)

    server = Server(
        uvicorn.Config(
            cast("Any", application),
            http=BoundedProtocol,
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,  # uvicorn believes anybody on loopback; the gateway believes whom it is told to
            timeout_graceful_shutdown=int(grace),
            timeout_keep_alive=75,
            lifespan="off",
        )
    )
    await server.serve()


async def open_database(settings: RoomSettings, room: str) -> Database:
    """The room's database, as soon as it is there and holds the schema this code knows."""

    async def opening() -> Database:
        return await Database.open(
            settings.postgres_dsn.get_secret_value(),
            room=room,
            size=settings.pool_size,
            statement_timeout=settings.statement_timeout,
            connect_timeout=settings.connect_timeout,
        )

    db = await opened("postgres", opening)
    await opened("schema", lambda: shake_hands(db))
    return db


async def opened(what: str, opening: Callable[[], Awaitable[T]], *, patience: float = 60.0) -> T:
    """The result of `opening`, tried again while what it needs is away, for `patience` seconds."""
    give_up = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await opening()
        except TryAgain as error:
            if asyncio.get_running_loop().time() + error.after > give_up:
                raise
            _log.info("waiting", what=what)
            await asyncio.sleep(error.after)


@contextlib.asynccontextmanager
async def task(coroutine: Coroutine[Any, Any, None], name: str) -> AsyncGenerator[None]:
    """A task that lives as long as the block. If it dies by itself, the process is asked to stop: a room that
    does half its work must not look healthy.
    """

    def ended(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.error("task_died", task=name, error=type(error).__name__, exc_info=error)
            signal.raise_signal(signal.SIGTERM)

    running = asyncio.create_task(coroutine, name=name)
    running.add_done_callback(ended)
    try:
        yield
    finally:
        while not running.done():  # a library may swallow one cancellation
            running.cancel()
            await asyncio.wait({running}, timeout=1.0)
