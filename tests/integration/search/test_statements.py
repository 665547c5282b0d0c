"""Every statement of every queries.sql is valid against the real schema, and its role may run it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from memcube_common.db.statements import Statement, Statements
from memcube_common.testing.servers import HouseDatabase

HOUSE = Path(__file__).parents[3]

USER, ANON, WORKER, RELAY, OPERATOR, KEEPER = (
    f"memcube_{name}" for name in ("user", "anon", "worker", "relay", "operator", "doorkeeper")
)

ROLES: dict[str, tuple[str, ...]] = {
    "memcube_common.search": (USER, ANON),
    "memcube_common.memories": (WORKER,),
    "memcube_common.memories/hold_sources": (USER, WORKER),
    "memcube_common.memories/insert_memories": (USER, WORKER),
    "memcube_common.memories/read_memories": (USER, ANON),
    "memcube_common.memories/keep_objects": (USER, WORKER),
    "memcube_common.memories/update_memory": (USER,),
    "memcube_common.memories/mark_personal": (USER,),
    "memcube_common.memories/revise_content": (USER, WORKER),
    "memcube_common.memories/set_lifecycle": (USER,),
    "memcube_common.memories/purge_memories": (USER, WORKER),
    "memcube_common.memories/find_derived": (USER,),
    "memcube_common.memories/hold_memory": (USER,),
    "memcube_common.memories/hold_lineage": (USER, WORKER),
    "memcube_common.memories/read_lineage": (USER,),
    "memcube_common.memories/read_versions": (USER,),
    "memcube_common.memories/read_version_content": (USER,),
    "memcube_common.memories/read_head": (USER,),
    "memcube_common.memories/read_trail": (USER,),
    "memcube_common.memories/find_current_model": (WORKER, OPERATOR),
    "memcube_common.memories/find_model": (WORKER, OPERATOR),
    "memcube_common.memories/read_migration": (WORKER, OPERATOR),
    "memcube_common.memories/start_migration": (OPERATOR,),
    "memcube_common.memories/steer_migration": (OPERATOR,),
    "memcube_common.memories/read_progress": (OPERATOR,),
    "memcube_common.memories/read_found_out": (OPERATOR,),
    "memcube_common.insights": (WORKER,),
    "memcube_common.insights/accept_insights": (USER,),
    "memcube_common.insights/queue_insights": (USER, WORKER),
    "memcube_common.insights/insert_insights": (USER, WORKER),
    "memcube_common.insights/read_receipts": (USER, WORKER),
    "memcube_common.insights/read_conversation_fates": (USER, WORKER),
    "memcube_common.insights/accept_conversation": (USER,),
    "memcube_common.insights/list_insights": (USER,),
    "memcube_common.insights/read_insights": (USER,),
    "memcube_common.insights/support_insight": (USER,),
    "memcube_common.insights/link_insight": (USER,),
    "memcube_common.insights/weigh_insights": (USER,),
    "memcube_common.mailbox": (WORKER,),
    "memcube_common.mailbox/lead": (RELAY,),
    "memcube_common.mailbox/last_drawn": (RELAY,),
    "memcube_common.mailbox/lowest_mark": (RELAY,),
    "memcube_common.mailbox/place_changes": (RELAY,),
    "memcube_common.mailbox/move_placed": (RELAY,),
    "memcube_common.mailbox/read_placed": (RELAY,),
    "memcube_common.objects": (USER, WORKER),
    "memcube_common.objects/abandon_object": (WORKER,),
    "memcube_gateway": (USER,),
    "memcube_gateway.payloads": (USER,),
    "memcube_gateway.payloads/read_payload": (USER, ANON),
    "memcube_gateway.credentials": (KEEPER,),
    "memcube_gateway.credentials/list_members": (USER,),
    "memcube_gateway.credentials/find_member": (USER,),
    "memcube_gateway.credentials/change_role": (USER,),
    "memcube_gateway.credentials/remove_member": (USER,),
    "memcube_gateway.credentials/list_invitations": (USER,),
    "memcube_gateway.credentials/insert_invitation": (USER,),
    "memcube_gateway.credentials/withdraw_invitation": (USER,),
    "memcube_gateway.credentials/withdraw_invitations_of": (USER,),
    "memcube_gateway.credentials/list_keys": (USER,),
    "memcube_gateway.credentials/find_key_role": (USER,),
    "memcube_gateway.credentials/insert_key": (USER,),
    "memcube_gateway.credentials/revoke_key": (USER,),
    "memcube_gateway.credentials/read_events": (USER,),
    "memcube_gateway/forget_answers": (WORKER,),
    "memcube_gateway/note_denials": (WORKER,),
    "memcube_common.feedback": (WORKER,),
    "memcube_common.feedback/take_mark": (USER,),
    "memcube_common.feedback/mark_holds": (USER,),
    "memcube_common.feedback/read_chosen": (USER,),
    "memcube_common.feedback/say_outcomes": (USER,),
    "memcube_common.feedback/read_recommendations": (USER,),
    "memcube_common.quotas": (USER, WORKER),
    "memcube_common.quotas/set_quota": (OPERATOR,),
    "memcube_common.links": (USER,),
    "memcube_common.projects": (USER, OPERATOR),
    "memcube_common.projects/read_settings": (USER, WORKER, OPERATOR),
    "memcube_common.schedules": (USER,),
    "memcube_common.schedules/forget_schedules": (WORKER,),
    "memcube_scheduling": (USER,),
    "memcube_lifecycle": (WORKER,),
    "memcube_cli": (OPERATOR,),
}
"""Who runs what: a package's statements, and the exceptions by name."""


def packages() -> Iterator[str]:
    """The packages that have statements, wherever they are in the workspace."""
    for folder in ("libs", "services"):
        for file in sorted((HOUSE / folder).glob("*/src/**/queries.sql")):
            yield ".".join(file.parent.relative_to(file.parents[-1]).parts).rpartition(".src.")[2]


CASES = [
    pytest.param(statement, role, id=f"{package}/{statement.name}-{role}")
    for package in packages()
    for statement in Statements(package)
    for role in ROLES.get(f"{package}/{statement.name}", ROLES.get(package, ()))
]


@pytest_asyncio.fixture(scope="module")
async def connection(database: HouseDatabase) -> AsyncGenerator[asyncpg.Connection]:
    opened = await asyncpg.connect(
        database.admin_dsn, server_settings={"search_path": "memcube, public", "plan_cache_mode": "force_custom_plan"}
    )
    yield opened
    await opened.close()


@pytest.mark.parametrize(("statement", "role"), CASES)
async def test_a_statement_can_be_run_by_its_role(
    connection: asyncpg.Connection, statement: Statement, role: str
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"set local role {role}; set local app.project_id = 'demo'")
        await connection.prepare(statement.sql)
        await connection.execute(f"explain (generic_plan) {statement.sql}")  # checks the role's grants as running would
    finally:
        await transaction.rollback()


def test_every_package_with_statements_says_who_runs_them() -> None:
    assert set(packages()) <= set(ROLES)
    named = {name for name in ROLES if "/" in name}
    known = {f"{package}/{statement.name}" for package in packages() for statement in Statements(package)}
    assert named <= known
