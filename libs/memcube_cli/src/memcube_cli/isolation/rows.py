"""The rows of the database road: two tenants alike in everything but their project, and every kind of row that counts.

Both tenants use the same handles and accounts, so that nothing but the project keeps them apart; inside one, rows
differ in what governance, roles and names decide by.
"""

from __future__ import annotations

from memcube_cli.isolation.memory_rows import of_memories
from memcube_cli.isolation.pair import GENERATION, HANDLES, Pair, ago
from memcube_cli.isolation.rules import Row


def _of_a_project(pair: Pair, project: str) -> dict[str, list[Row]]:
    account = {handle: pair.id("account", handle) for handle in HANDLES}
    return {
        "projects": [{"id": project}],
        **of_memories(pair, project),
        "members": [
            {
                "project_id": project,
                "account_id": account[handle],
                "handle": handle,
                "role": role,
                "created_by": "olga",
                "created_at": ago(),
            }
            for handle, role in HANDLES.items()
        ],
        "invitations": [
            {
                "project_id": project,
                "id": pair.id(project, "invitation", str(number)),
                "hash": pair.hash(project, "invitation", str(number)),
                "role": role,
                "handle": f"guest{number}",
                "created_by": by,
                "created_at": ago(),
                "expires_at": ago(days=-1),
                "used_at": used,
            }
            for number, (role, by, used) in enumerate(
                (
                    ("MEMBER", "adam", None),
                    ("ADMIN", "adam", None),
                    ("OWNER", "olga", None),
                    ("AGENT", "olga", None),
                    ("VIEWER", "mia", None),
                    ("VIEWER", "adam", ago(hours=1)),
                )
            )
        ],
        "api_keys": [
            {
                "project_id": project,
                "id": pair.id(project, "key", str(number)),
                "name": f"key{number}",
                "role": role,
                "kind": "publishable" if role == "PUBLIC" else "secret",
                "prefix": "mc_sec_xxxxx",
                "hash": pair.hash(project, "key", str(number)),
                "created_by": by,
                "created_at": ago(),
                "last_used_at": None,
                "expires_at": None,
                "revoked_at": revoked,
            }
            for number, (role, by, revoked) in enumerate(
                (
                    ("SERVICE", "olga", None),
                    ("SERVICE", "adam", None),
                    ("OWNER", "adam", None),
                    ("OWNER", "olga", ago(hours=1)),
                    ("PUBLIC", "adam", None),
                    ("AGENT", "mia", ago(hours=1)),
                )
            )
        ],
        "project_events": [
            {
                "project_id": project,
                "id": pair.id(project, "event"),
                "at": ago(),
                "kind": "key.made",
                "actor": "olga",
                "source": "x",
                "subject": "x",
                "details": {},
            }
        ],
        "insights": [
            {
                "project_id": project,
                "id": pair.id(project, "insight", agent),
                "agent_id": agent,
                "via": "nats",
                "insight": "x",
                "priority": "WARM",
                "governance": {},
                "metadata": {},
                "memory_id": pair.id(project, "memory", "open"),
                "state": "accepted",
                "reason": None,
                "tags": [],
                "evidence_refs": [],
                "support_count": 1,
                "accepted_at": ago(),
            }
            for agent in ("ada", "mia", "vic", "somebody")
        ],
        "conversations": [
            {
                "project_id": project,
                "id": pair.id(project, "conversation", agent),
                "agent_id": agent,
                "messages": [],
                "said": {},
                "state": "accepted",
                "insight_ids": [],
                "accepted_at": ago(),
            }
            for agent in ("ada", "mia", "vic", "somebody")
        ],
        "insight_fingerprints": [
            {
                "project_id": project,
                "fingerprint": f"\\x{pair.hash(project, 'fingerprint')}",
                "insight_id": pair.id(project, "insight", "ada"),
                "memory_id": pair.id(project, "memory", "open"),
            }
        ],
        "insight_supports": [
            {
                "project_id": project,
                "insight_id": pair.id(project, "insight", "ada"),
                "principal": "mia",
                "evidence_refs": [],
                "at": ago(),
            }
        ],
        "recalls": [
            {
                "project_id": project,
                "fingerprint": f"\\x{pair.hash(project, 'recall', str(hours))}",
                "agent": "ada",
                "memory_id": pair.id(project, "memory", "open"),
                "at": ago(hours=hours),
            }
            for hours in (0, 48)
        ],
        "schedules": [
            {
                "project_id": project,
                "id": pair.id(project, "schedule", by, str(hours)),
                "agent_id": "ada",
                "made_by": by,
                "made_at": ago(hours=hours),
                "asked": {},
                "weights": {},
                "token_budget": 10,
                "tokens_used": 1,
                "chosen": [pair.id(project, "memory", "open")],
                "weighed": "\\x00",
                "settled_at": settled,
                "recalled_at": recalled,
            }
            for by, settled, recalled in (
                ("ada", None, None),
                ("mia", None, ago()),
                ("bob", ago(), None),
                ("max", ago(), ago()),
            )
            for hours in (1, 48)
        ],
        "schedule_outcomes": [
            {
                "project_id": project,
                "schedule_id": pair.id(project, "schedule", by, "1"),
                "memory_id": pair.id(project, "memory", name),
                "made_by": by,
                "agent_id": by,
                "outcome": "helpful",
                "said_by": said_by,
                "said_at": ago(days=1),
                "counted": counted,
            }
            for by, said_by in (("mia", "mia"), ("bob", "olga"), ("ada", "ada"))
            for name, counted in (("open", "helpful"), ("public", "harmful"), ("private", None))
        ],
        "memory_uses": [
            {
                "project_id": project,
                "memory_id": pair.id(project, "memory", "open"),
                "made_by": by,
                "agent_id": by,
                "scheduled": 1,
                "used": 1,
                "ignored": 0,
                "helpful": 0,
                "harmful": 0,
                "last_at": ago(),
            }
            for by in ("mia", "bob")
        ],
        "recommendations": [
            {
                "project_id": project,
                "agent_id": "bot",
                "made_by": by,
                "memory_id": pair.id(project, "memory", "open"),
                "score": 0.5,
                "because": ["x"],
            }
            for by in ("mia", "bob", "vic", "somebody")
        ],
        "usage_marks": [
            {
                "project_id": project,
                "settled": 3 if project == pair.a else 5,
                "considered": 1,
                "computed_at": ago(days=9),
            }
        ],
        "idempotency_keys": [
            {
                "project_id": project,
                "principal": principal,
                "route": "POST /x",
                "key": key,
                "request_hash": "\\x00",
                "status": 200,
                "body": "\\x00",
                "created_at": ago(hours=hours),
            }
            for principal, key, hours in (("mia", "one", 1), ("ada", "one", 1), ("mia", "old", 48), ("bob", "old", 48))
        ],
        "work_queue": [
            {
                "kind": kind,
                "project_id": project,
                "item_id": pair.id(project, "work"),
                "due_at": ago(days=-365),
                "attempts": 0,
            }
            for kind in ("insight", "embedding")
        ],
        "parked": [
            {
                "project_id": project,
                "id": pair.id(project, "parked"),
                "source": "x",
                "subject": "x",
                "headers": {},
                "payload": "\\x00",
                "reason": "x",
                "attempts": 1,
                "parked_at": ago(),
            }
        ],
        "feed": [{"project_id": project, "position": 1, "seq": pair.number(project, "0"), "day": "2020-01-01"}],
        "feed_heads": [{"project_id": project, "position": 1}],
        "quotas": [
            {"project_id": project, "resource": resource, "max": 10, "day": "1970-01-01"}
            for resource in ("memories", "bytes")
        ],
        "quota_slots": [
            {"project_id": project, "resource": "memories", "slot": slot, "day": "1970-01-01", "used": 0, "share": 1}
            for slot in (0, 1)
        ],
    }


def _of_nobody(pair: Pair) -> dict[str, list[Row]]:
    """Rows that belong to accounts, or to the house."""
    accounts = {handle: pair.id("account", handle) for handle in HANDLES}
    return {
        "accounts": [
            {
                "id": id,
                "email": f"{handle}@{pair.a}.invalid",
                "email_key": pair.hash("email", handle),
                "name": handle,
                "password": "$argon2id$verify",
                "may_create_projects": False,
                "created_at": ago(),
                "password_changed_at": ago(),
                "disabled_at": None,
            }
            for handle, id in accounts.items()
        ],
        "sessions": [
            {
                "account_id": accounts[handle],
                "id": pair.id("session", handle, which),
                "created_at": ago(days=9),
                "last_used_at": ago(days=9),
                "expires_at": expires,
                "ended_at": None,
                "end_reason": None,
            }
            for handle in ("mia", "olga")
            for which, expires in (("new", ago(days=-9)), ("ended", ago(hours=2)), ("old", ago(days=3)))
        ],
        "refresh_tokens": [
            {
                "account_id": accounts[handle],
                "session_id": pair.id("session", handle, which),
                "hash": pair.hash("token", handle, which),
                "issued_at": ago(days=9),
                "expires_at": expires,
                "used_at": None,
                "child_hash": None,
            }
            for handle in ("mia", "olga")
            for which, expires in (("new", ago(days=-9)), ("ended", ago(hours=2)), ("old", ago(days=3)))
        ],
        "embedding_models": [{"name": pair.a, "dimensions": 2, "fingerprint": "x", "generation": GENERATION}],
        "embedding_migrations": [
            {
                "id": pair.number("migration") % 2**31,
                "target": "local",
                "state": "cancelled",
                "from_generation": GENERATION,
                "started_at": ago(),
            }
        ],
        "schema_migrations": [{"version": pair.hash("migration")[:20]}],
    }


def rows_of(pair: Pair) -> dict[str, list[Row]]:
    """Every row of the road, by table, in no particular order."""
    rows = _of_nobody(pair)
    for project in (pair.a, pair.b):
        for table, those in _of_a_project(pair, project).items():
            rows.setdefault(table, []).extend(those)
    return rows
