"""Fifty tenants over four connections, some of their requests cancelled in the middle: nobody meets anybody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from tests.rooms import admin, opened

from memcube_common.contracts.fields import DEFAULT_GOVERNANCE, Role
from memcube_common.db import Database
from memcube_common.db.pool import Row
from memcube_common.errors import TryAgain
from memcube_common.ids import new_id
from memcube_common.memories.domain import NewMemory
from memcube_common.memories.store import insert_memories, read_memories
from memcube_common.search.domain import Filters, Listing, Question
from memcube_common.search.store import list_memories, search
from memcube_common.search.tiers import Sizes
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase

TENANTS: Final = 50
REQUESTS: Final = int(os.environ.get("MEMCUBE_TENANT_REQUESTS", "4000"))
"""How many requests the tenants make; `make faults` makes 10,000."""
CONNECTIONS: Final = 4
CANCELLED: Final = 0.05
LEFT_BEHIND: Final = """
select current_user = session_user and session_user = 'memcube_login_gateway' as itself,
       array(select name from unnest(array['project_id', 'principal', 'role', 'lookup', 'account', 'source']) as name
              where coalesce(current_setting('app.' || name, true), '') <> '') as left_behind
"""
ROLES: Final[tuple[Role, ...]] = ("OWNER", "AGENT", "AGENT", "MEMBER", "SERVICE")


class WatchedPool:
    """The pool, with a look at every connection as it is handed out."""

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self.pool = pool
        self.checkouts = 0
        self.dirty: list[str] = []

    async def acquire(self, **kwargs: Any) -> asyncpg.pool.PoolConnectionProxy[Row]:
        """A connection, looked at first."""
        connection = await self.pool.acquire(**kwargs)
        try:
            found = await connection.fetchrow(LEFT_BEHIND)
        except BaseException:
            connection.terminate()
            await self.pool.release(connection)
            raise
        assert found is not None
        self.checkouts += 1
        if not found["itself"] or found["left_behind"]:
            self.dirty.append(str(found["left_behind"]))
        return connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)


@dataclass
class Tally:
    """What the requests saw."""

    done: Counter[str] = field(default_factory=Counter[str])
    foreign: list[str] = field(default_factory=list[str])
    owner: dict[UUID, str] = field(default_factory=dict[UUID, str])


@pytest_asyncio.fixture
async def db(database: HouseDatabase) -> AsyncGenerator[Database]:
    """The gateway's pool of four connections."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(database, "gateway", stack, size=CONNECTIONS)


@pytest.fixture
def chance(capsys: pytest.CaptureFixture[str]) -> random.Random:
    """Everything random here; the seed is printed and can be given again as MEMCUBE_TEST_SEED."""
    seed = int(os.environ.get("MEMCUBE_TEST_SEED", random.SystemRandom().randrange(2**32)))
    with capsys.disabled():
        os.write(1, f"\nMEMCUBE_TEST_SEED={seed}\n".encode())
    return random.Random(seed)


def _memory(tenant: str, agent: str) -> NewMemory:
    return NewMemory(
        id=new_id(), label=tenant, content=f"shared words of {tenant}", origin=tenant, provenance_id=new_id(),
        tags=("shared",), governance=DEFAULT_GOVERNANCE, metadata="{}", priority="WARM", created_by=agent,
        created_at=datetime.now(UTC),
    )  # fmt: skip


async def _request(db: Database, tenant: str, ids: list[UUID], tally: Tally, chance: random.Random) -> None:
    """One request of one tenant: it writes, reads one, asks for the newest or searches; all of it must be its own."""
    role = chance.choice(ROLES)
    agent = f"{tenant}-{role.lower()}"
    principal = Principal.user(tenant, agent, role, source="key:x 127.0.0.1")
    kind = chance.choices(("insert", "read", "newest", "search"), (15, 40, 25, 20))[0]
    async with db.transaction(principal) as tx:
        match kind:
            case "insert":
                memory = _memory(tenant, agent)
                tally.owner[memory.id] = tenant
                ids.append(memory.id)
                await insert_memories(tx, project=tenant, memories=[memory])
                seen = []
            case "read":
                # Ids of whatever tenant: what is not one's own must not be there.
                asked = chance.sample(list(tally.owner), min(8, len(tally.owner))) + ids[-2:]
                seen = list((await read_memories(tx, project=tenant, ids=asked)).values())
                seen = [(one.id, one.project_id, one.content or "") for one in seen]
            case "newest":
                listing = Listing(by="created_at", down=True, limit=10, filters=Filters())
                found = (await list_memories(tx, project=tenant, listing=listing)).found
                seen = [(one.fields["id"], one.fields["project_id"], one.fields["content"]) for one in found]
            case _:
                question = Question(text="shared words", limit=10, vector=None)
                found = (await search(tx, project=tenant, question=question, sizes=Sizes())).found
                seen = [(one.fields["id"], one.fields["project_id"], one.fields["content"]) for one in found]
    tally.done[kind] += 1
    tally.done["rows"] += len(seen)
    for id, project, content in seen:
        if project != tenant or tally.owner[id] != tenant or not content.endswith(tenant):
            tally.foreign.append(f"{tenant} saw a row of {project}")


async def _tenant(db: Database, tenant: str, requests: int, tally: Tally, chance: random.Random) -> None:
    """A tenant's requests, one after the other; some are cancelled a few milliseconds after they began."""
    ids: list[UUID] = []
    loop = asyncio.get_running_loop()
    for _ in range(requests):
        task = asyncio.create_task(_request(db, tenant, ids, tally, chance))
        if chance.random() < CANCELLED:
            loop.call_later(chance.uniform(0, 0.02), task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            running = asyncio.current_task()
            if running is not None and running.cancelling():
                raise
            tally.done["cancelled"] += 1
        except TryAgain:
            tally.done["try again"] += 1


async def test_fifty_tenants_over_four_connections_never_meet(
    database: HouseDatabase, db: Database, chance: random.Random
) -> None:
    tenants = [(await database.project()).slug for _ in range(TENANTS)]
    watched = WatchedPool(db._pool)  # pyright: ignore[reportPrivateUsage]
    db._pool = watched  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    tally = Tally()
    async with asyncio.TaskGroup() as group:
        for tenant in tenants:
            own = random.Random(chance.randrange(2**32))
            group.create_task(_tenant(db, tenant, REQUESTS // TENANTS, tally, own))

    assert tally.foreign == []
    assert watched.dirty == []
    done = tally.done
    finished = sum(done[kind] for kind in ("insert", "read", "newest", "search"))
    assert finished + done["cancelled"] + done["try again"] == REQUESTS
    assert done["try again"] <= REQUESTS // 100, done
    assert done["cancelled"] >= REQUESTS * CANCELLED / 4, done
    assert done["rows"] > REQUESTS, "a test that sees nothing proves nothing"
    assert watched.checkouts >= finished
    async with admin(database) as connection:
        rows = await connection.fetch(
            "select m.id, m.project_id, m.created_by, m.label, p.content from memcube.memories m"
            " join memcube.memory_payloads p on p.project_id = m.project_id and p.memory_id = m.id"
        )
    assert len(rows) >= done["insert"]
    wrong = [
        row["id"]
        for row in rows
        if tally.owner[row["id"]] != row["project_id"]
        or row["label"] != row["project_id"]
        or not row["created_by"].startswith(row["project_id"])
        or not row["content"].endswith(row["project_id"])
    ]
    assert wrong == []


@pytest.mark.parametrize("setting", ["project_id", "principal", "role", "lookup", "account", "source"])
async def test_a_connection_with_any_setting_left_is_refused(
    database: HouseDatabase, db: Database, setting: str
) -> None:
    connection = await db._pool.acquire()  # pyright: ignore[reportPrivateUsage]
    await connection.execute(f"select set_config('app.{setting}', 'canary', false)")
    await db._pool.release(connection)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(asyncpg.RaiseError, match=setting) as refused:
        async with db.transaction(Principal.user("demo", "somebody", "AGENT")):
            pytest.fail("a dirty connection was handed out")
    assert "canary" not in str(refused.value)
