"""The three questions an operator asks every room: alive? ready? how much? (/livez, /readyz, /metrics)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Check = Callable[[], Awaitable[None]]
"""A check returns when what it looks at works, and raises when it does not."""

CHECK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """A room's checks by name, e.g. {"postgres": …}; `informing` ones are told but not needed to be ready."""

    checks: Mapping[str, Check]
    informing: Mapping[str, Check] = field(default_factory=dict[str, Check])

    async def look(self) -> dict[str, str]:
        """The state of every check: "ok", or what is wrong (an error's class, never its text)."""

        async def one(check: Check) -> str:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await check()
            except Exception as error:
                return type(error).__name__
            return "ok"

        every = {**self.checks, **self.informing}
        states = await asyncio.gather(*(one(check) for check in every.values()))
        return dict(zip(every, states, strict=True))


def operations(health: Health, registry: CollectorRegistry) -> Asgi:
    """The ASGI application of a room without an HTTP door of its own."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        status, content_type, body = await answer(scope["path"], health, registry)
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


async def answer(path: str, health: Health, registry: CollectorRegistry) -> tuple[int, str, bytes]:
    """Status, content type and body for one of the three questions; 404 for any other path."""
    match path:
        case "/livez":
            return 200, "application/json", b'{"status":"ok"}'
        case "/readyz":
            states = await health.look()
            ready = all(states[name] == "ok" for name in health.checks)
            body = orjson.dumps({"status": "ready" if ready else "not ready", "checks": states})
            return (200 if ready else 503), "application/json", body
        case "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(registry)
        case _:
            return 404, "application/json", b'{"status":"not found"}'


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
