"""Who may not be here any more is disconnected within five seconds, and does not come back."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import nats
import pytest
from nats.aio.client import Client
from tests.eventually import eventually
from tests.integration.nats_accounts.conftest import House

from memcube_common.bus import Bus
from memcube_common.embedded import EmbeddedNats
from memcube_common.security.grants import Grant
from memcube_common.security.nkeys import AccountKey
from memcube_gateway.agents.callout import Callout
from memcube_gateway.agents.domain import Roads, inbox_prefix
from memcube_gateway.agents.revocation import Revocation

WITHIN = 5.0
REFUSED = b"-ERR 'Authorization Violation'\r\n"


async def test_a_revoked_key_is_disconnected_within_five_seconds_and_refused_from_then_on(house: House) -> None:
    revoked, other = await house.member(), await house.member()
    async with other.raw() as stays, revoked.raw() as goes:
        assert await goes.may_publish(f"memcube.{revoked.project}.ask.v1.query.a", b"{}")
        await house.revoke(revoked)
        started = time.monotonic()
        await eventually(lambda: goes.client.is_closed, within=WITHIN)

        async def is_refused() -> bool:
            return await revoked.first_words() == REFUSED

        # What another gateway remembers of the key may let it in once more; it is gone again in the same five seconds.
        await eventually(is_refused, within=WITHIN - (time.monotonic() - started))
        for _ in range(5):
            assert await is_refused()
        assert stays.client.is_connected


async def test_another_role_disconnects_and_the_agent_comes_back_with_it(house: House) -> None:
    member = await house.member("lena", "ADMIN")
    async with member.raw() as raw:
        await house.change_role(member, "VIEWER")
        await eventually(lambda: raw.client.is_closed, within=WITHIN)
    async with member.raw() as raw:
        assert not await raw.may_publish(f"memcube.{member.project}.insight.v1.submitted.lena", b"{}")


class Scripted:
    """A door that tests open and close."""

    def __init__(self) -> None:
        self.until: datetime | None = None
        self.valid = True
        self.asked = 0

    async def authenticate(self, project: str, agent: str, secret: str) -> Grant | None:
        self.asked += 1
        if secret == "explodes":
            raise RuntimeError("a bug in the door")
        return Grant(project, agent, "AGENT", f"key:{secret}", self.until) if secret.startswith("good") else None

    async def still_valid(self, grants: object) -> set[Grant]:
        return {one for one in cast("set[Grant]", grants) if self.valid or "2" not in one.credential}


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


async def connected(server: EmbeddedNats, secret: str, name: str = "demo.a") -> Client:
    return await nats.connect(
        server.address, user=name, password=secret, inbox_prefix=inbox_prefix(secret).encode(), allow_reconnect=False
    )


async def test_an_expired_credential_ends_the_connection_at_its_second(tmp_path: Path, scripted: Scripted) -> None:
    async with EmbeddedNats(tmp_path, name="expiry") as server:
        door, _ = await _answering(server, scripted)
        try:
            scripted.until = datetime.now(UTC) + timedelta(seconds=2)
            client = await connected(server, "good1")
            assert client.is_connected
            await eventually(lambda: client.is_closed, within=4)
        finally:
            await door.close()


async def test_only_those_whose_grant_does_not_hold_are_shown_out(tmp_path: Path, scripted: Scripted) -> None:
    async with EmbeddedNats(tmp_path, name="kicks") as server:
        door, system = await _answering(server, scripted)
        clients = [await connected(server, secret, f"p{n}.a") for n, secret in enumerate(("good1", "good2", "good2"))]
        house = await nats.connect(server.url)
        try:
            revocation = Revocation(system, scripted.still_valid)
            assert len(await revocation.connections()) == 3
            assert await revocation.look() == 0
            scripted.valid = False
            assert await revocation.look() == 2
            await eventually(lambda: [client.is_closed for client in clients] == [False, True, True], within=2)
            assert house.is_connected
        finally:
            for client in (*clients, house):
                await client.close()
            await system.close()
            await door.close()


async def test_a_door_with_a_fault_answers_no_at_once(tmp_path: Path, scripted: Scripted) -> None:
    async with EmbeddedNats(tmp_path, name="fault") as server:
        door, _ = await _answering(server, scripted)
        try:
            started = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await reader.readline()
            writer.write(b'CONNECT {"user":"demo.a","pass":"explodes","verbose":false}\r\nPING\r\n')
            assert b"Authorization Violation" in await reader.readline()
            writer.close()
            assert time.monotonic() - started < 1
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await reader.readline()
            writer.write(b'CONNECT {"auth_token":"demo.a:good1","verbose":false}\r\nPING\r\n')
            assert await reader.readline() == b"PONG\r\n"
            writer.close()
        finally:
            await door.close()


async def _answering(server: EmbeddedNats, scripted: Scripted) -> tuple[Bus, Bus]:
    """The callout on its own, with a scripted door; the connections to AUTH and SYS."""
    seed = server.callout_seed
    door = await Bus.open(server.callout_url, name="gateway-callout")
    callout = Callout(scripted.authenticate, key=AccountKey(seed), roads=Roads(seed), clock=lambda: datetime.now(UTC))
    await callout.open(door)
    await door.client.flush()
    return door, await Bus.open(server.system_url, name="gateway-system")
