"""Who acts in the database road, in every shape of settings that policies tell apart, and what updates they try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from memcube_cli.isolation.pair import HANDLES, Pair
from memcube_cli.isolation.rules import Actor

_OTHER: Final = "01890000-0000-7000-8000-000000000000"

UPDATES: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "accounts": ({"password": "$argon2id$other"},),
    "api_keys": (
        {"revoked_at": "2026-01-01T00:00:00Z"},
        {"revoked_at": None},
        {"role": "OWNER"},
        {"last_used_at": None},
    ),
    "chain_items": ({"place": 7},),
    "chains": ({"version": 2}, {"visibility": "project"}),
    "conversations": ({"reason": "x"},),
    "changes": ({"body": {"x": 1}},),
    "embedding_backfills": ({"made": 1},),
    "embedding_migrations": ({"ended_at": "2026-01-01T00:00:00Z"}, {"problem": "x"}),
    "embedding_models": ({"name": "other"}, {"used_at": "2026-01-01T00:00:00Z"}, {"current": False}),
    "feed_heads": ({"position": 2},),
    "idempotency_keys": ({"status": 201}, {"principal": "somebody"}),
    "insight_fingerprints": ({"memory_id": _OTHER},),
    "insight_supports": ({"evidence_refs": ["x"]},),
    "insights": ({"state": "stored"}, {"memory_id": _OTHER}, {"support_count": 2}, {"tags": ["x"]}),
    "invitations": ({"used_at": "2026-01-01T00:00:00Z"},),
    "members": ({"role": "MEMBER"}, {"role": "OWNER"}),
    "memory_uses": ({"used": 7},),
    "memories": ({"label": "y"}, {"governance": {}}),
    "memory_payloads": ({"token_count": 2},),
    "memory_text": ({"audience": 2}, {"tags": []}, {"traits": 1}),
    "memory_vectors": ({"audience": 2}, {"tags": []}),
    "objects": ({"state": "kept"}, {"state": "leaving"}),
    "projects": ({"screening": "tag"},),
    "quota_slots": ({"used": 1},),
    "quotas": ({"max": 11},),
    "recalls": ({"memory_id": _OTHER},),
    "refresh_tokens": ({"used_at": "2026-01-01T00:00:00Z", "child_hash": "0" * 64},),
    "relay_cursor": ({"leader": "verify"},),
    "schedules": ({"settled_at": "2026-01-01T00:00:00Z"},),
    "schedule_outcomes": ({"outcome": "used"}, {"counted": "used"}, {"said_by": "somebody"}),
    "sessions": ({"last_used_at": "2026-01-01T00:00:00Z"},),
    "term_stats": ({"open": 7},),
    "text_stats": ({"open": 7},),
    "usage_marks": ({"settled": 7},),
    "work_queue": ({"attempts": 1},),
}
"""What an update sets, by table; the first that a role may set is used on every row, the others one row at a time."""


def moves_of(pair: Pair, table: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Updates that would take a row out of its project, its account or its lookup."""
    moves: list[dict[str, Any]] = []
    if "project_id" in columns:
        moves.append({"project_id": pair.c})
    if "account_id" in columns:
        moves.append({"account_id": pair.id("account", "nobody")})
    if "hash" in columns:
        moves.append({"hash": pair.hash("moved")})
    if table == "accounts":
        moves.append({"id": pair.id("account", "nobody")})
    if table == "projects" and "id" in columns:
        moves.append({"id": pair.c})
    if table == "api_keys":
        moves = [{**move, "revoked_at": "2026-01-01T00:00:00Z"} for move in moves] + moves
    return moves


def actors_of(pair: Pair, role: str) -> list[Actor]:
    """The transactions to try as a role of the database: every shape of settings that policies tell apart."""
    account = {handle: pair.id("account", handle) for handle in HANDLES}
    members = [
        Actor(role, pair.a, handle, project_role, account=account[handle]) for handle, project_role in HANDLES.items()
    ]
    by_key = [
        Actor(role, pair.a, "olga", "OWNER"),
        Actor(role, pair.a, "adam", "ADMIN"),
        Actor(role, pair.a, "key0", "SERVICE"),
        Actor(role, pair.a, "ada", "AGENT"),
        Actor(role, pair.a, "mia"),
        Actor(role, pair.a),
    ]
    outside = [Actor(role), Actor(role, principal="olga", role="OWNER", account=account["olga"])]
    rooms = [
        Actor(role, project, principal)
        for project in (pair.a, "")
        for principal in (
            "room:ingestion",
            "room:embedding",
            "room:gateway",
            "room:lifecycle",
            "room:scheduling",
            "room:relay",
            "operator",
            "",
        )
    ]
    match role:
        case "memcube_user":
            return [*members, *by_key, *outside]
        case "memcube_anon":
            return [Actor(role, pair.a, "key4", "PUBLIC"), Actor(role, pair.a, "mia", "PUBLIC"), *outside]
        case "memcube_search":
            return [*members, Actor(role, pair.a, "mia", "PUBLIC"), *by_key, *outside]
        case "memcube_doorkeeper":
            lookups = [
                pair.hash("email", "mia"),
                pair.hash("token", "mia", "new"),
                pair.hash(pair.a, "key", "0"),
                pair.hash(pair.a, "invitation", "0"),
                pair.id(pair.a, "key", "0"),
                pair.id("session", "olga", "new"),
            ]
            return [
                Actor(role, principal="doorkeeper"),
                Actor(role, pair.a, "doorkeeper"),
                Actor(role, principal="doorkeeper", account=account["mia"]),
                Actor(role, pair.a, "doorkeeper", account=account["mia"]),
                *(Actor(role, principal="doorkeeper", lookup=lookup) for lookup in lookups),
                *(Actor(role, pair.a, "doorkeeper", account=account["mia"], lookup=lookup) for lookup in lookups),
                Actor(role, principal="doorkeeper", account=account["olga"], lookup=pair.hash("token", "mia", "new")),
            ]
        case _:
            return [*rooms, *outside]
