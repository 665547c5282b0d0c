"""The reckoning itself: it finds each kind of damage when there is some, so that finding none means something."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import asyncpg
from tests.e2e.audit import audit, settled
from tests.e2e.load import Ledger, text_of
from tests.e2e.running_stack import RunningStack

from memcube import MemCubeClient
from memcube_common.ids import new_id

# What is done to the rows of the n-th insight ($2) of the project ($1), and what the audit must say then.
DAMAGE: Final = (
    ("update memcube.insights set insight = 'x' where project_id = $1 and memory_id = $2", "altered"),
    ("delete from memcube.memory_payloads where project_id = $1 and memory_id = $2", "half_written"),
    ("delete from memcube.memory_vectors where project_id = $1 and memory_id = $2", "unsearchable"),
    (
        "insert into memcube.memory_vectors (project_id, generation, memory_id, content_hash, embedding) "
        "select project_id, generation + 1, memory_id, content_hash, embedding from memcube.memory_vectors "
        "where project_id = $1 and memory_id = $2",
        "doubled",
    ),
    (
        "insert into memcube.changes (project_id, type, body) "
        "select $1, 'memory.v1.created', jsonb_build_object('memory_id', $2::uuid)",
        "created_not_once",
    ),
    (
        "insert into memcube.changes (project_id, type, body) "
        "select $1, 'memory.v1.embedded', jsonb_build_object('memory_id', $2::uuid)",
        "embedded_not_once",
    ),
)


async def test_every_kind_of_damage_is_found(stack: RunningStack, tmp_path: Path) -> None:
    project = "damaged"
    ledger = Ledger(tmp_path / "acked.log")
    ids = [new_id() for _ in DAMAGE]
    ledger.send(project, ids)
    async with MemCubeClient(stack.gateway, await stack.key_of(project), project) as client:
        receipts = await client.insights.submit_many([{"id": str(id), "insight": text_of(id)} for id in ids])
    ledger.ack(project, ids, "http")
    await settled(stack, [project], within=60)
    whole = await audit(stack, ledger)
    assert whole.mistakes == {}

    connection = await asyncpg.connect(stack.postgres)
    try:
        for (damage, _), receipt in zip(DAMAGE, receipts, strict=True):
            await connection.execute(damage, project, receipt.memory_id)
        await settled(stack, [project], within=60)
        await connection.execute("delete from memcube.feed where project_id = $1 and position = 3", project)
    finally:
        await connection.close()
    ledger.send(project, [never := new_id()])
    ledger.ack(project, [never], "http")
    ledger.sent[project].discard(ids[0])
    ledger.close()
    found = (await audit(stack, ledger)).mistakes
    assert found.keys() == {sign for _, sign in DAMAGE} - {"altered"} | {"lost", "gaps", "strangers"}

    ledger.sent[project].add(ids[0])
    assert "altered" in (await audit(stack, ledger)).mistakes
