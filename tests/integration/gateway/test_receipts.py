"""Receipts: the fate of a write, told when it is asked for or as soon as it is settled."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID, uuid4

import httpx
import pytest
from tests.fakes.house_work import HouseWork, relaying

from memcube_common.contracts.api import Receipt
from memcube_common.ids import new_id
from memcube_common.insights import store
from memcube_common.memories.store import fail_embedding
from memcube_common.security.principal import Principal
from memcube_common.testing.servers import HouseDatabase, HouseProject


async def submitted(http: httpx.AsyncClient) -> Receipt:
    answer = await http.post("insights", json={"insight": "a fact about the harbour"})
    assert answer.status_code == 202
    return Receipt.model_validate_json(answer.content)


async def read(http: httpx.AsyncClient, receipt_id: UUID, query: str = "") -> Receipt:
    answer = await http.get(f"receipts/{receipt_id}{query}")
    assert answer.status_code == 200, answer.text
    return Receipt.model_validate_json(answer.content)


async def test_a_write_is_followed_from_acceptance_to_searchable(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    accepted = await submitted(http)
    assert accepted.memory_id is not None

    waiting = asyncio.create_task(read(http, accepted.id, "?wait=stored"))
    await house_work.store_insights(project.slug, [accepted.id])
    stored = await waiting
    assert (stored.state, stored.memory_id) == ("stored", accepted.memory_id)

    waiting = asyncio.create_task(read(http, accepted.id, "?wait=searchable"))
    await house_work.embed(project.slug, [accepted.memory_id])
    searchable = await waiting
    assert searchable.state == "searchable"
    assert searchable.searchable_at is not None


async def test_waiting_ends_at_the_timeout_with_what_is_true_then(http: httpx.AsyncClient) -> None:
    accepted = await submitted(http)
    started = time.monotonic()

    receipt = await read(http, accepted.id, "?wait=searchable&timeout=0.4")

    assert receipt.state == "accepted"
    assert 0.4 <= time.monotonic() - started < 2


@pytest.mark.parametrize("wait", ["stored", "searchable"])
async def test_a_parked_insight_ends_the_waiting_with_its_reason(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject, wait: str
) -> None:
    accepted = await submitted(http)
    waiting = asyncio.create_task(read(http, accepted.id, f"?wait={wait}"))

    async with house_work.db.transaction(Principal.worker("test", project.slug)) as tx:
        await store.mark_parked(tx, project=project.slug, insight_id=accepted.id, reason="nobody can read this")

    receipt = await waiting
    assert (receipt.state, receipt.reason) == ("parked", "nobody can read this")


async def test_a_memory_that_cannot_be_embedded_ends_the_waiting(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    accepted = await submitted(http)
    assert accepted.memory_id is not None
    await house_work.store_insights(project.slug, [accepted.id])
    waiting = asyncio.create_task(read(http, accepted.id, "?wait=searchable"))

    async with house_work.db.transaction(Principal.worker("test", project.slug)) as tx:
        await fail_embedding(tx, project=project.slug, memory_id=accepted.memory_id, reason="too strange")

    assert ((receipt := await waiting).state, receipt.reason) == ("failed", "too strange")


async def test_an_id_not_known_yet_is_waited_for(
    http: httpx.AsyncClient, house_work: HouseWork, project: HouseProject
) -> None:
    receipt_id = new_id()
    waiting = asyncio.create_task(read(http, receipt_id, "?wait=stored"))

    await http.post("insights", json={"insight": "late", "id": str(receipt_id)})
    await house_work.store_insights(project.slug, [receipt_id])

    assert (await waiting).state == "stored"


async def test_an_unknown_id_is_not_found(http: httpx.AsyncClient) -> None:
    assert (await http.get(f"receipts/{uuid4()}")).status_code == 404
    assert (await http.get(f"receipts/{uuid4()}?wait=stored&timeout=0.1")).status_code == 404


async def test_a_change_on_the_bus_wakes_the_waiting(
    http: httpx.AsyncClient,
    house_work: HouseWork,
    project: HouseProject,
    database: HouseDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("memcube_gateway.routes.receipts.LOOK_WHILE_HEARING", 30.0)
    accepted = await submitted(http)

    async with relaying(database):
        waiting = asyncio.create_task(read(http, accepted.id, "?wait=stored&timeout=20"))
        await house_work.store_insights(project.slug, [accepted.id])
        async with asyncio.timeout(5):
            assert (await waiting).state == "stored"
