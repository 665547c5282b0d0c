"""What was refused is counted: by the metrics, and in the project's events by who tried what."""

from __future__ import annotations

import asyncpg
import httpx
from tests.fakes.running_gateway import RunningGateway

from memcube_common.ids import new_id
from memcube_common.security.keys import key_hash, new_key
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_gateway.jobs import write_denials


async def test_refused_attempts_are_counted_by_who_and_what(
    gateway: RunningGateway, project: HouseProject, database: HouseDatabase
) -> None:
    key = new_key()
    psql = await asyncpg.connect(database.admin_dsn)
    try:
        await psql.execute(
            "insert into memcube.api_keys (project_id, id, name, role, hash, prefix)"
            " values ($1, $2, 'watcher', 'VIEWER', $3, 'x')",
            project.slug,
            new_id(),
            key_hash(key),
        )
        async with httpx.AsyncClient(base_url=gateway.url, timeout=15) as http:
            for _ in range(3):
                answer = await http.post(
                    f"/v1/projects/{project.slug}/insights",
                    json={"insight": "May I?"},
                    headers={"authorization": f"Bearer {key}"},
                )
                assert answer.status_code == 403
            counted = (await http.get("/metrics")).text
        await write_denials(gateway.room.db, gateway.room.denials)
        rows = await psql.fetch(
            "select actor, source, subject, details from memcube.project_events"
            " where project_id = $1 and kind = 'denied'",
            project.slug,
        )
    finally:
        await psql.close()
    [row] = rows
    assert row["actor"] == "watcher"
    assert row["source"].startswith("key:")
    assert row["source"].endswith(" 127.0.0.1")
    assert row["subject"] == "POST /v1/projects/{project}/insights"
    assert row["details"] == '{"attempts": 3}'
    assert 'memcube_denied_total{code="not_allowed"} 3.0' in counted
