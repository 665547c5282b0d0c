"""The rows of the database road: two tenants alike in everything but their project, and every kind of row that counts.

Both tenants use the same handles and accounts, so that nothing but the project keeps them apart; inside one, rows
differ in what governance, roles and names decide by.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

from memcube_cli.isolation.rules import Row
from memcube_common.ids import new_id

HANDLES: Final[Mapping[str, str]] = {
    "olga": "OWNER",
    "adam": "ADMIN",
    "mia": "MEMBER",
    "max": "MEMBER",
    "ada": "AGENT",
    "bob": "AGENT",
    "vic": "VIEWER",
}
GENERATION: Final = 32_000
_READ: Final = ["MEMBER", "AGENT"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tenants of one run, `a` and `b`, and a third name nobody has, `c`; ids follow from `run`."""

    run: UUID
    a: str
    b: str
    c: str

    @classmethod
    def fresh(cls) -> Pair:
        """A pair nobody has seen."""
        run = new_id()
        return cls(run, *(f"verify-{letter}-{run.hex[-10:]}" for letter in "abc"))

    def id(self, *what: str) -> str:
        """The id that belongs to `what`, always the same in one run."""
        return str(uuid5(self.run, "/".join(what)))

    def hash(self, *what: str) -> str:
        """64 hexadecimal digits that belong to `what`."""
        return hashlib.sha256(f"{self.run}/{'/'.join(what)}".encode()).hexdigest()

    def number(self, *what: str) -> int:
        """A number that belongs to `what`, far above any sequence in use."""
        return (1 << 61) + int(self.hash(*what)[:12], 16)


def _ago(**by: float) -> str:
    return (datetime.now(UTC) - timedelta(**by)).isoformat()


def _memory(pair: Pair, project: str, name: str, **said: Any) -> Row:
    return {
        "project_id": project,
        "id": pair.id(project, "memory", name),
        "label": "x",
        "type": "PLAINTEXT",
        "origin": "x",
        "provenance_id": pair.id(project, "provenance", name),
        "governance": {},
        "metadata": {},
        "priority": "WARM",
        "created_by": "mia",
        "created_at": _ago(),
        "updated_at": _ago(),
        "lifecycle": "ACTIVE",
        "trust": "trusted",
        "read_roles": _READ,
        "write_roles": ["AGENT"],
        "let_in": ["mia"],
        "denied": [],
        "visibility": "project",
        "expires_at": None,
        "version": 1,
        "stored_at": _ago(),
        "embedding_state": "pending",
        "audience": 1,
        "frozen": False,
        "legal_hold": False,
        "audit_reads": False,
        "usage_hits": 0,
        "parents": [],
        "tags": [],
        **said,
    }


MEMORIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "open": {},
    "of the agents": {"created_by": "ada", "let_in": ["ada"], "read_roles": ["AGENT"]},
    "of the members": {"read_roles": ["MEMBER"], "write_roles": ["MEMBER"]},
    "for viewers": {"read_roles": ["VIEWER"], "write_roles": ["VIEWER"]},
    "for everyone": {"read_roles": ["MEMBER", "AGENT", "VIEWER"], "write_roles": ["MEMBER", "AGENT"]},
    "private": {"visibility": "private", "audience": 2},
    "private, some let in": {"visibility": "private", "audience": 2, "let_in": ["mia", "vic", "bob"]},
    "denied": {"denied": ["max", "bob"], "write_roles": ["MEMBER", "AGENT"], "audience": 2},
    "denied though let in": {"denied": ["bob"], "let_in": ["mia", "bob"], "audience": 2, "created_by": "bob"},
    "denied though public": {"denied": ["vic"], "visibility": "public", "audience": 2},
    "denied to a publishable key": {"denied": ["key4"], "visibility": "public", "audience": 2},
    "public": {"visibility": "public", "audience": 0},
    "quarantined": {"trust": "quarantined", "audience": 2},
    "public, quarantined": {"trust": "quarantined", "visibility": "public", "audience": 2},
    "over": {"lifecycle": "EXPIRED"},
    "public, over": {"lifecycle": "EXPIRED", "visibility": "public", "audience": 0},
    "expired": {"expires_at": _ago(hours=1)},
    "public, expired": {"expires_at": _ago(hours=1), "visibility": "public", "audience": 0},
    "expiring": {"expires_at": _ago(hours=-1)},
    "public, expiring": {"expires_at": _ago(hours=-1), "visibility": "public", "audience": 0},
    "of the owner": {"created_by": "olga", "let_in": ["olga"]},
    "of a viewer": {"created_by": "vic", "let_in": ["vic"], "visibility": "private", "audience": 2},
}
"""Memories of every governance, by what is special about them."""


CHAINS: Final[Mapping[str, tuple[str, str, list[str]]]] = {
    "open": ("mia", "project", ["AGENT"]),
    "of the members": ("ada", "project", ["MEMBER"]),
    "of nobody else": ("bob", "project", []),
    "private": ("mia", "private", ["AGENT", "MEMBER"]),
    "of the owner": ("olga", "private", []),
    "of a viewer": ("vic", "project", []),
}
"""Chains: who made them, who sees them, who changes them."""


def _of_memories(pair: Pair, project: str) -> dict[str, list[Row]]:
    memories = [_memory(pair, project, name, **said) for name, said in MEMORIES.items()]
    by_name = dict(zip(MEMORIES, memories, strict=True))
    first, last = by_name["open"]["id"], by_name["private"]["id"]
    found = [by_name[name] for name in ("open", "private", "denied", "public")]
    changes: list[Row] = []
    for number, memory in enumerate(memories[:12]):
        changes.append(
            {
                "seq": pair.number(project, str(number)),
                "day": "2020-01-01",
                "project_id": project,
                "type": "memory.v1.created",
                "agent": None,
                "body": {},
                "at": _ago(),
                "memory_id": memory["id"],
                **{name: memory[name] for name in ("audience", "visibility", "read_roles", "let_in", "denied")},
            }
        )
    for agent in ("ada", "mia"):
        changes.append(
            {
                **changes[5],
                "seq": pair.number(project, agent),
                "type": "receipt.v1.stored",
                "agent": agent,
                "visibility": "project",
                "read_roles": ["MEMBER", "AGENT", "VIEWER"],
                "let_in": [],
                "denied": [],
            }
        )
    return {
        "memories": memories,
        "memory_payloads": [
            {
                "project_id": project,
                "memory_id": id,
                "storage_mode": "INLINE",
                "content": "x",
                "size_bytes": 1,
                "token_count": 1,
                "checksum": "\\x00",
            }
            for id in (first, last)
        ],
        "past_payloads": [
            {
                "project_id": project,
                "memory_id": id,
                "version": 1,
                "storage_mode": "INLINE",
                "content": "x",
                "size_bytes": 1,
                "token_count": 1,
                "checksum": "\\x00",
            }
            for id in (first, last)
        ],
        "memory_versions": [
            {
                "project_id": project,
                "memory_id": id,
                "version": 1,
                "label": "x",
                "tags": [],
                "metadata": {},
                "governance": {},
                "priority": "WARM",
                "lifecycle": "NEW",
                "by": "mia",
                "at": _ago(),
            }
            for id in (first, last)
        ],
        "objects": [
            {
                "project_id": project,
                "key": pair.hash(project, state),
                "state": state,
                "size_bytes": 1,
                "since": _ago(days=9),
            }
            for state in ("arriving", "kept", "leaving")
        ],
        "memory_text": [
            {
                "project_id": project,
                "memory_id": memory["id"],
                "tags": ["verify"],
                "tsv": "'verify':1",
                "audience": memory["audience"],
            }
            for memory in found
        ],
        "term_stats": [
            {"project_id": project, "term": "verify", "open": 1, "shared": 3},
            {"project_id": project, "term": pair.hash(project, "term"), "open": 1, "shared": 3},
        ],
        "text_stats": [{"project_id": project, "open": 1, "shared": 3}],
        "text_changes": [
            {
                "project_id": project,
                "memory_id": pair.id(project, "memory", "open"),
                "id": 1_000_000_000,
                "audience": 0,
                "sign": 1,
                "terms": ["verify"],
            }
        ],
        "memory_vectors": [
            {
                "project_id": project,
                "generation": GENERATION,
                "memory_id": memory["id"],
                "content_hash": "\\x00",
                "tags": [],
                "embedding": "[1,2]",
                "audience": memory["audience"],
            }
            for memory in found
        ],
        "vector_graphs": [{"project_id": project, "generation": GENERATION, "dimensions": 2, "seconds": 1.0}],
        "embedding_backfills": [
            {"project_id": project, "migration": 1, "todo": 1, "fed": 0, "made": 0, "refused": 0, "refusals": {}}
        ],
        "memory_task_links": [
            {
                "project_id": project,
                "task_id": "verify",
                "memory_id": memory["id"],
                "role": "READ",
                "created_by": by,
                "created_at": _ago(),
            }
            for memory, by in zip(memories, itertools.cycle(("mia", "bob", "vic", "olga", "key0")), strict=False)
        ],
        "chains": [
            {
                "project_id": project,
                "id": pair.id(project, "chain", name),
                "name": "x",
                "description": None,
                "visibility": visibility,
                "write_roles": roles,
                "version": 1,
                "created_by": by,
                "created_at": _ago(),
                "updated_at": _ago(),
            }
            for name, (by, visibility, roles) in CHAINS.items()
        ],
        "chain_items": [
            {
                "project_id": project,
                "chain_id": pair.id(project, "chain", name),
                "memory_id": memory["id"],
                "place": place,
                "added_by": "mia",
                "added_at": _ago(),
            }
            for name, held in (("open", memories), ("private", memories[:1]))
            for place, memory in enumerate(held, 1)
        ],
        "memory_parents": [{"project_id": project, "parent_id": first, "child_id": last}],
        "memory_events": [
            {
                "project_id": project,
                "memory_id": first,
                "seq": pair.number(project, "event"),
                "kind": "CREATED",
                "version": 1,
                "changed": [],
                "actor": "mia",
                "role": "MEMBER",
                "source": "x",
                "at": _ago(),
            }
        ],
        "changes": changes,
    }


def _of_a_project(pair: Pair, project: str) -> dict[str, list[Row]]:
    account = {handle: pair.id("account", handle) for handle in HANDLES}
    return {
        "projects": [{"id": project}],
        **_of_memories(pair, project),
        "members": [
            {
                "project_id": project,
                "account_id": account[handle],
                "handle": handle,
                "role": role,
                "created_by": "olga",
                "created_at": _ago(),
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
                "created_at": _ago(),
                "expires_at": _ago(days=-1),
                "used_at": used,
            }
            for number, (role, by, used) in enumerate(
                (
                    ("MEMBER", "adam", None),
                    ("ADMIN", "adam", None),
                    ("OWNER", "olga", None),
                    ("AGENT", "olga", None),
                    ("VIEWER", "mia", None),
                    ("VIEWER", "adam", _ago(hours=1)),
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
                "created_at": _ago(),
                "last_used_at": None,
                "expires_at": None,
                "revoked_at": revoked,
            }
            for number, (role, by, revoked) in enumerate(
                (
                    ("SERVICE", "olga", None),
                    ("SERVICE", "adam", None),
                    ("OWNER", "adam", None),
                    ("OWNER", "olga", _ago(hours=1)),
                    ("PUBLIC", "adam", None),
                    ("AGENT", "mia", _ago(hours=1)),
                )
            )
        ],
        "project_events": [
            {
                "project_id": project,
                "id": pair.id(project, "event"),
                "at": _ago(),
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
                "accepted_at": _ago(),
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
                "accepted_at": _ago(),
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
                "at": _ago(),
            }
        ],
        "recalls": [
            {
                "project_id": project,
                "fingerprint": f"\\x{pair.hash(project, 'recall', str(hours))}",
                "agent": "ada",
                "memory_id": pair.id(project, "memory", "open"),
                "at": _ago(hours=hours),
            }
            for hours in (0, 48)
        ],
        "schedules": [
            {
                "project_id": project,
                "id": pair.id(project, "schedule", by, str(hours)),
                "agent_id": "ada",
                "made_by": by,
                "made_at": _ago(hours=hours),
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
                ("mia", None, _ago()),
                ("bob", _ago(), None),
                ("max", _ago(), _ago()),
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
                "said_at": _ago(days=1),
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
                "last_at": _ago(),
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
                "computed_at": _ago(days=9),
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
                "created_at": _ago(hours=hours),
            }
            for principal, key, hours in (("mia", "one", 1), ("ada", "one", 1), ("mia", "old", 48), ("bob", "old", 48))
        ],
        "work_queue": [
            {
                "kind": kind,
                "project_id": project,
                "item_id": pair.id(project, "work"),
                "due_at": _ago(days=-365),
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
                "parked_at": _ago(),
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
                "created_at": _ago(),
                "password_changed_at": _ago(),
                "disabled_at": None,
            }
            for handle, id in accounts.items()
        ],
        "sessions": [
            {
                "account_id": accounts[handle],
                "id": pair.id("session", handle, which),
                "created_at": _ago(days=9),
                "last_used_at": _ago(days=9),
                "expires_at": expires,
                "ended_at": None,
                "end_reason": None,
            }
            for handle in ("mia", "olga")
            for which, expires in (("new", _ago(days=-9)), ("ended", _ago(hours=2)), ("old", _ago(days=3)))
        ],
        "refresh_tokens": [
            {
                "account_id": accounts[handle],
                "session_id": pair.id("session", handle, which),
                "hash": pair.hash("token", handle, which),
                "issued_at": _ago(days=9),
                "expires_at": expires,
                "used_at": None,
                "child_hash": None,
            }
            for handle in ("mia", "olga")
            for which, expires in (("new", _ago(days=-9)), ("ended", _ago(hours=2)), ("old", _ago(days=3)))
        ],
        "embedding_models": [{"name": pair.a, "dimensions": 2, "fingerprint": "x", "generation": GENERATION}],
        "embedding_migrations": [
            {
                "id": pair.number("migration") % 2**31,
                "target": "local",
                "state": "cancelled",
                "from_generation": GENERATION,
                "started_at": _ago(),
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
