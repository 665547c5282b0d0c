"""A house of its own whose rooms sign in to NATS as themselves, and agents who come to it through the callout."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.rooms import admin, ingestion_room, own_house

from memcube.bus import AgentConnection
from memcube_common.bus import Bus, Subscribers
from memcube_common.bus.accounts import ADVISED, ADVISORIES_DURABLE, INSIGHTS_DURABLE
from memcube_common.contracts import subjects
from memcube_common.embedded import EmbeddedNats
from memcube_common.frame import task
from memcube_common.ids import new_id
from memcube_common.mailbox.relay import Relay
from memcube_common.security.grants import Grant
from memcube_common.security.keys import key_hash, key_prefix, new_key
from memcube_common.testing.servers import HouseDatabase
from memcube_gateway.agents.domain import Roads, inbox_prefix
from memcube_gateway.agents.revocation import Revocation
from memcube_ingestion.handlers import on_deliveries_exhausted, on_insights_submitted


@dataclass(frozen=True, slots=True)
class House:
    """Servers, rooms and what tests need of them."""

    database: HouseDatabase
    nats: EmbeddedNats
    gateway: RunningGateway

    @property
    def roads(self) -> Roads:
        """The names of the durables, which no agent knows."""
        return Roads(self.nats.callout_seed)

    async def key(self, project: str, name: str, role: str) -> str:
        """A new key of `project` under this name."""
        kind = "publishable" if role == "PUBLIC" else "secret"
        key = new_key(kind)
        async with admin(self.database) as connection:
            await connection.execute(
                "insert into memcube.api_keys (project_id, id, name, role, kind, prefix, hash)"
                " values ($1, $2, $3, $4, $5, $6, $7)",
                project, new_id(), name, role, kind, key_prefix(key), key_hash(key),
            )  # fmt: skip
        return key

    async def change_role(self, member: Member, role: str) -> None:
        """Give a member's key another role, from the next moment on."""
        async with admin(self.database) as connection:
            await connection.execute(
                "update memcube.api_keys set role = $1 where hash = $2", role, key_hash(member.key)
            )
        self.gateway.room.door.forget_all()

    async def revoke(self, member: Member) -> None:
        """Revoke a member's key, as somebody else's gateway would."""
        async with admin(self.database) as connection:
            await connection.execute(
                "update memcube.api_keys set revoked_at = now() where hash = $1", key_hash(member.key)
            )

    async def cut_off(self, member: Member) -> None:
        """End every connection of a member, as the server does at the end of its hour."""
        bus = await Bus.open(self.nats.system_url, name="test-system")
        try:
            system = Revocation(bus, _nobody)
            grants = [one for one in await system.connections() if one.grant and one.grant.project == member.project]
            assert grants
            for one in grants:
                await bus.ask(f"$SYS.REQ.SERVER.{one.server}.KICK", json.dumps({"cid": one.cid}).encode(), timeout=2)
        finally:
            await bus.close()

    async def member(self, name: str = "a", role: str = "AGENT", project: str | None = None) -> Member:
        """A key under its own name, in a project of its own if none is given."""
        slug = project or (await self.database.project()).slug
        return Member(self.nats.address, slug, name, await self.key(slug, name, role))

    @contextlib.asynccontextmanager
    async def operator(self) -> AsyncGenerator[Client]:
        """The operator's own connection."""
        client = await nats.connect(self.nats.url)
        try:
            yield client
        finally:
            await client.close()


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who holds a key."""

    address: str
    project: str
    name: str
    key: str

    def connection(self, **more: Any) -> AgentConnection:
        """As the SDK connects."""
        return AgentConnection(self.address, project=self.project, agent=self.name, key=self.key, **more)

    async def first_words(self) -> bytes:
        """What the server says first to who signs in by hand: nats-py leaves its socket behind when it is refused."""
        parts = urlsplit(self.address)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            await reader.readline()
            signing_in = {"user": f"{self.project}.{self.name}", "pass": self.key, "verbose": False}
            writer.write(f"CONNECT {json.dumps(signing_in)}\r\nPING\r\n".encode())
            async with asyncio.timeout(5):
                return await reader.readline()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def raw(self) -> AsyncGenerator[Raw]:
        """As somebody connects who means harm."""
        raw = Raw()
        raw.client = await nats.connect(
            self.address,
            user=f"{self.project}.{self.name}",
            password=self.key,
            inbox_prefix=inbox_prefix(self.key).encode(),
            allow_reconnect=False,
            connect_timeout=5,
            error_cb=raw.noticed,
        )
        try:
            yield raw
        finally:
            await raw.client.close()


@dataclass
class Raw:
    """A bare connection, and what the server said against it."""

    client: Client = field(default_factory=Client)
    said: list[str] = field(default_factory=list[str])

    async def noticed(self, error: Exception) -> None:
        self.said.append(str(error).lower())

    async def may_publish(self, subject: str, body: bytes = b"", **more: Any) -> bool:
        """Whether the server takes a message on `subject`."""
        self.said.clear()
        await self.client.publish(subject, body, **more)
        await self._answered()
        return not any("permissions violation" in said for said in self.said)

    async def may_subscribe(self, subject: str, queue: str = "") -> bool:
        """Whether the server lets it listen on `subject`."""
        self.said.clear()
        subscription = await self.client.subscribe(subject, queue, cb=_ignored)
        await self._answered()
        allowed = not any("permissions violation" in said for said in self.said)
        await subscription.unsubscribe()
        return allowed

    async def _answered(self) -> None:
        # Twice: nats-py may send the first ping ahead of what it still holds back.
        await self.client.flush(timeout=5)
        await self.client.flush(timeout=5)


async def _nobody(_: object) -> set[Grant]:
    return set()


async def _ignored(_: Msg) -> None:
    """Nobody looks at what comes."""


@pytest_asyncio.fixture(scope="session")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[House]:
    """Servers, gateway, ingestion and relay; every room signs in as itself."""
    async with contextlib.AsyncExitStack() as stack:
        servers, database = await stack.enter_async_context(own_house(tmp_path_factory.mktemp("accounts")))
        server = servers.nats
        assert server is not None
        gateway = await stack.enter_async_context(
            running_gateway(
                database,
                nats_url=SecretStr(server.url_of("gateway")),
                nats_callout_url=SecretStr(server.callout_url),
                nats_system_url=SecretStr(server.system_url),
                nats_callout_seed=SecretStr(server.callout_seed),
            )
        )
        own = dataclasses.replace(database, nats_url=server.url_of("ingestion"))
        room = await stack.enter_async_context(ingestion_room(own))
        relay = Relay(room.db, room.bus, room.changes_bell, name=room.name)
        await stack.enter_async_context(task(relay.run(), "relay"))
        subscribers = Subscribers(own.nats_url, "ingestion")
        subscribers.on_batch(
            functools.partial(on_insights_submitted, room=room),
            stream="INSIGHTS", subject=subjects.INSIGHTS, durable=INSIGHTS_DURABLE,
        )  # fmt: skip
        subscribers.on_batch(
            functools.partial(on_deliveries_exhausted, room=room),
            stream="ADVISORIES", subject=ADVISED, durable=ADVISORIES_DURABLE, linger=1.0,
        )  # fmt: skip
        await subscribers.open()
        stack.push_async_callback(subscribers.close)
        yield House(database, server, gateway)
