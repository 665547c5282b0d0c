"""The rows of the database road that hang on memories: of every governance, and chains, versions, links of each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

from memcube_cli.isolation.pair import GENERATION, Pair, ago
from memcube_cli.isolation.rules import Row

_READ: Final = ["MEMBER", "AGENT"]


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
        "created_at": ago(),
        "updated_at": ago(),
        "lifecycle": "ACTIVE",
        "trust": "trusted",
        "read_roles": _READ,
        "write_roles": ["AGENT"],
        "let_in": ["mia"],
        "denied": [],
        "visibility": "project",
        "expires_at": None,
        "version": 1,
        "stored_at": ago(),
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
    "expired": {"expires_at": ago(hours=1)},
    "public, expired": {"expires_at": ago(hours=1), "visibility": "public", "audience": 0},
    "expiring": {"expires_at": ago(hours=-1)},
    "public, expiring": {"expires_at": ago(hours=-1), "visibility": "public", "audience": 0},
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


def of_memories(pair: Pair, project: str) -> dict[str, list[Row]]:
    """The rows that hang on memories, by table."""
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
                "at": ago(),
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
                "at": ago(),
            }
            for id in (first, last)
        ],
        "objects": [
            {
                "project_id": project,
                "key": pair.hash(project, state),
                "state": state,
                "size_bytes": 1,
                "since": ago(days=9),
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
                "created_at": ago(),
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
                "created_at": ago(),
                "updated_at": ago(),
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
                "added_at": ago(),
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
                "at": ago(),
            }
        ],
        "changes": changes,
    }
