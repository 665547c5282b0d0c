"""How each operation of the gateway is called: one entry per operationId. An operation without one fails the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from memcube_cli.isolation.tenants import Tenant

NOBODY_PASSES: Final = frozenset(
    {"forged token", "garbled key", "garbled scheme", "nobody", "EXPIRED key", "REVOKED key"}
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, without who sends it: what fills the path, and what goes beside it."""

    path: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None


Make = Callable[[Tenant], Call]
"""A call that carries the identifiers of this tenant, in every place that takes one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An operation: calls of it with a tenant's identifiers, and one of one's own that has to work.

    calls: by what they carry. control: who may, the call, and the status it must be answered with.
    anybody: it answers without a credential, and says the same to everybody.
    compared: what is foreign and what is absent must be answered alike, byte for byte.
    turn: 0 reads, 1 writes, 2 ends sessions, keys or memberships: in this order, so that nothing is seen of what was
    only written by the attack itself.
    """

    calls: Mapping[str, Make]
    control: tuple[str, Make, int] | None = None
    anybody: bool = False
    compared: bool = True
    turn: int = 0


def _plain(tenant: Tenant) -> Call:
    return Call()


def _once(tenant: Tenant) -> dict[str, str]:
    return {"idempotency-key": tenant["idempotency"]}


def _of(slot: str, name: str) -> Make:
    return lambda tenant: Call({name: tenant[slot]})


def _with(body: Callable[[Tenant], Any], path: Mapping[str, str] | None = None, **headers: str) -> Make:
    """A body, path parameters by their slots; `once`: the tenant's own Idempotency-Key beside it."""

    def make(tenant: Tenant) -> Call:
        filled = {name: tenant[slot] for name, slot in (path or {}).items()}
        return Call(filled, headers=_once(tenant) if "once" in headers else {}, body=body(tenant))

    return make


def _insight(tenant: Tenant) -> dict[str, Any]:
    return {
        "insight": tenant["text"],
        "id": tenant["OWNER receipt"],
        "label": tenant["tag"],
        "tags": [tenant["tag"]],
        "evidence_refs": [tenant["memory open"]],
        "governance": {"principals": {"allow": [tenant["MEMBER handle"]], "deny": []}},
        "metadata": {"project_id": tenant.slug, "memory_id": tenant["memory open"]},
    }


def _outcome(tenant: Tenant) -> dict[str, Any]:
    return {"outcomes": [{"memory_id": tenant["memory open"], "outcome": "used"}]}


def _schedule(tenant: Tenant) -> dict[str, Any]:
    return {
        "agent_id": tenant["MEMBER handle"],
        "task_id": tenant["task"],
        "text": tenant["text"],
        "need_tags": [tenant["tag"]],
        "token_budget": 10_000,
    }


def _import(tenant: Tenant) -> dict[str, Any]:
    one = {
        "id": tenant["external"] + "open",
        "content": tenant["text"],
        "tags": [tenant["tag"]],
        "created_by": tenant["MEMBER handle"],
        "metadata": {"project_id": tenant.slug, "parents": [tenant["memory open"]]},
    }
    return {"memories": [one]}


ENTRIES: Final[Mapping[str, Entry]] = {
    "submit_insights": Entry(
        {
            "id, tags and references in the body": _with(_insight),
            "idempotency key": _with(_insight, once="yes"),
            "conversation": _with(lambda t: {"messages": [{"role": "user", "content": t["text"]}]}),
            "dry run": lambda t: Call(query={"dry_run": "true"}, body={"insight": t["text"], "tags": [t["tag"]]}),
            "many, as another": _with(
                lambda t: {"insights": [{"insight": t["text"], "agent_id": t["MEMBER handle"]}]}
            ),
        },
        control=("AGENT key", _with(lambda t: {"insight": "verifyisolation control"}), 202),
        compared=False,
        turn=1,
    ),
    "list_insights": Entry(
        {
            "sender": lambda t: Call(query={"agent_id": t["MEMBER handle"]}),
            "memory": lambda t: Call(query={"memory_id": t["memory open"]}),
            "tag": lambda t: Call(query={"tag": t["tag"]}),
        },
        control=("VIEWER key", _plain, 200),
    ),
    "get_insight": Entry(
        {"insight": _of("MEMBER receipt", "insight_id"), "memory": _of("memory open", "insight_id")},
        control=("MEMBER token", _of("MEMBER receipt", "insight_id"), 200),
    ),
    "support_insight": Entry(
        {
            "insight": _with(lambda t: {"evidence_refs": [t["memory open"]]}, {"insight_id": "MEMBER receipt"}),
            "idempotency key": _with(lambda t: {}, {"insight_id": "AGENT receipt"}, once="yes"),
        },
        control=("MEMBER token", _with(lambda t: {}, {"insight_id": "MEMBER receipt"}), 200),
        turn=1,
    ),
    "link_insight": Entry(
        {
            "insight": _with(lambda t: {"memory_id": t["memory open"]}, {"insight_id": "MEMBER receipt"}),
            "another": _with(lambda t: {"memory_id": t["memory public"]}, {"insight_id": "AGENT receipt"}),
        },
        turn=1,
    ),
    "get_receipt": Entry(
        {
            "receipt": _of("MEMBER receipt", "receipt_id"),
            "memory": _of("memory open", "receipt_id"),
            "waited for": lambda t: Call(
                {"receipt_id": t["AGENT receipt"]}, query={"wait": "stored", "timeout": "0.01"}
            ),
        },
        control=("MEMBER token", _of("MEMBER receipt", "receipt_id"), 200),
    ),
    "query_memories": Entry(
        {
            "words": _with(lambda t: {"text": t["text"], "mode": "keyword", "limit": 200}),
            "meaning": _with(lambda t: {"text": t["text"], "mode": "hybrid", "limit": 200}),
            "tags": _with(lambda t: {"tags": [t["tag"]], "limit": 200}),
            "tags and words": _with(lambda t: {"text": t["text"], "mode": "keyword", "tags": [t["tag"]]}),
            "cursor": _with(lambda t: {"order_by": "label", "limit": 1, "cursor": t["cursor"]}),
            "ids, makers, labels and counts": _with(
                lambda t: {
                    "ids": [t["memory open"], t["memory public"]],
                    "created_by": [t["MEMBER handle"]],
                    "label": {"prefix": t["tag"][:4]},
                    "metadata": {"memory_id": t["memory open"]},
                    "count": True,
                }
            ),
            "any of the tags, bare": _with(lambda t: {"tags_any": [t["tag"]], "fields": ["label"], "count": True}),
            "idempotency key": _with(lambda t: {"text": t["text"], "mode": "keyword"}, once="yes"),
        },
        control=("VIEWER key", _with(lambda t: {"limit": 1}), 200),
    ),
    "schedule_memories": Entry(
        {
            "agent, task, words and tags": _with(_schedule),
            "explained": _with(lambda t: {**_schedule(t), "explain": True, "include_insights": True}),
            "idempotency key": _with(_schedule, once="yes"),
        },
        control=("VIEWER key", _with(lambda t: {"agent_id": "control"}), 200),
        compared=False,
        turn=1,
    ),
    "list_schedules": Entry(
        {
            "agent": lambda t: Call(query={"agent_id": t["MEMBER handle"]}),
            "task": lambda t: Call(query={"task_id": t["task"]}),
        },
        control=("MEMBER token", _plain, 200),
    ),
    "get_schedule": Entry(
        {"schedule": _of("schedule", "schedule_id"), "memory": _of("memory open", "schedule_id")},
        control=("MEMBER token", _of("schedule", "schedule_id"), 200),
    ),
    "replay_schedule": Entry(
        {"schedule": _of("schedule", "schedule_id")},
        control=("MEMBER token", _of("schedule", "schedule_id"), 200),
        turn=1,
    ),
    "import_memories": Entry(
        {"external id and parents": _with(_import), "idempotency key": _with(_import, once="yes")},
        control=("SERVICE key", _with(lambda t: {"memories": [{"id": "control", "content": "verifyisolation"}]}), 200),
        compared=False,
        turn=1,
    ),
    "get_memory": Entry(
        {
            "open": _of("memory open", "memory_id"),
            "public": _of("memory public", "memory_id"),
            "receipt": _of("MEMBER receipt", "memory_id"),
        },
        control=("MEMBER key", _of("memory open", "memory_id"), 200),
    ),
    "create_memory": Entry(
        {
            "parents": _with(lambda t: {"content": t["text"], "parents": [t["memory open"]], "tags": [t["tag"]]}),
            "idempotency key": _with(lambda t: {"content": t["text"]}, once="yes"),
        },
        control=("AGENT key", _with(lambda t: {"content": "verifyisolation control"}), 201),
        compared=False,
        turn=1,
    ),
    "create_memories": Entry(
        {
            "parents": _with(lambda t: {"memories": [{"content": t["text"], "parents": [t["memory open"]]}]}),
            "each for itself": _with(
                lambda t: {"atomic": False, "memories": [{"content": t["text"], "parents": [t["memory open"]]}]}
            ),
            "idempotency key": _with(lambda t: {"memories": [{"content": t["text"]}]}, once="yes"),
        },
        control=("MEMBER key", _with(lambda t: {"memories": [{"content": "verifyisolation control"}]}), 200),
        compared=False,
        turn=1,
    ),
    "update_memory": Entry(
        {
            "open": _with(lambda t: {"label": t["tag"]}, {"memory_id": "memory open"}),
            "public": _with(lambda t: {"content": t["text"]}, {"memory_id": "memory public"}),
        },
        control=("SERVICE key", _with(lambda t: {"metadata": {"control": 1}}, {"memory_id": "memory open"}), 200),
        turn=1,
    ),
    "archive_memory": Entry(
        {
            "open": _of("memory open", "memory_id"),
            "idempotency key": lambda t: Call({"memory_id": t["memory open"]}, headers=_once(t)),
        },
        control=("SERVICE key", _of("memory public", "memory_id"), 200),
        turn=1,
    ),
    "restore_memory": Entry(
        {"open": _of("memory open", "memory_id"), "public": _of("memory public", "memory_id")},
        control=("SERVICE key", _of("memory public", "memory_id"), 200),
        turn=1,
    ),
    "purge_memory": Entry(
        {
            "open": _of("memory open", "memory_id"),
            "and descendants": lambda t: Call({"memory_id": t["memory open"]}, query={"descendants": "true"}),
        },
        control=("SERVICE key", _of("memory public", "memory_id"), 200),
        turn=2,
    ),
    "get_payload": Entry(
        {
            "open": _of("memory open", "memory_id"),
            "public": _of("memory public", "memory_id"),
            "a version": lambda t: Call({"memory_id": t["memory open"]}, query={"version": "1"}),
            "a range": lambda t: Call({"memory_id": t["memory public"]}, headers={"range": "bytes=0-3"}),
        },
        control=("MEMBER key", _of("memory open", "memory_id"), 200),
    ),
    "put_payload": Entry(
        {
            "open": _with(lambda t: t["text"], {"memory_id": "memory open"}),
            "public": _with(lambda t: t["text"], {"memory_id": "memory public"}),
        },
        control=("SERVICE key", _with(lambda t: t["text"], {"memory_id": "memory open"}), 200),
        turn=1,
    ),
    "link_payload": Entry(
        {
            "open": _with(lambda t: {}, {"memory_id": "memory open"}),
            "idempotency key": _with(lambda t: {}, {"memory_id": "memory public"}, once="yes"),
        },
        control=("MEMBER key", _with(lambda t: {"expires_in": 1}, {"memory_id": "memory open"}), 200),
        turn=1,
    ),
    "follow_payload_link": Entry(
        {"what was signed for something else": _of("cursor", "token"), "an id": _of("memory open", "token")},
        anybody=True,
    ),
    "list_versions": Entry(
        {"open": _of("memory open", "memory_id"), "public": _of("memory public", "memory_id")},
        control=("MEMBER key", _of("memory open", "memory_id"), 200),
    ),
    "get_version": Entry(
        {"the first": lambda t: Call({"memory_id": t["memory open"], "version": "1"})},
        control=("MEMBER key", lambda t: Call({"memory_id": t["memory open"], "version": "1"}), 200),
    ),
    "compare_versions": Entry(
        {"one": lambda t: Call({"memory_id": t["memory open"]}, query={"before": "1", "after": "1"})},
        control=(
            "MEMBER key",
            lambda t: Call({"memory_id": t["memory open"]}, query={"before": "1", "after": "1"}),
            200,
        ),
    ),
    "restore_version": Entry(
        {
            "the first": lambda t: Call({"memory_id": t["memory open"], "version": "1"}),
            "idempotency key": lambda t: Call({"memory_id": t["memory open"], "version": "1"}, headers=_once(t)),
        },
        control=("SERVICE key", lambda t: Call({"memory_id": t["memory open"], "version": "1"}), 200),
        turn=1,
    ),
    "list_memory_events": Entry(
        {"open": _of("memory open", "memory_id"), "public": _of("memory public", "memory_id")},
        control=("SERVICE key", _of("memory open", "memory_id"), 200),
        compared=False,
    ),
    "get_lineage": Entry(
        {"open": _of("memory open", "memory_id"), "public": _of("memory public", "memory_id")},
        control=("MEMBER key", _of("memory open", "memory_id"), 200),
    ),
    "set_governance": Entry(
        {
            "open": _with(lambda t: {"visibility": "public"}, {"memory_id": "memory open"}),
            "public": _with(
                lambda t: {"principals": {"allow": [t["AGENT handle"]], "deny": []}}, {"memory_id": "memory public"}
            ),
        },
        control=("SERVICE key", _with(lambda t: {"visibility": "public"}, {"memory_id": "memory public"}), 200),
        turn=1,
    ),
    "list_tasks": Entry(
        {"the project": _plain, "a cursor": lambda t: Call(query={"cursor": t["cursor"]})},
        control=("VIEWER key", _plain, 200),
    ),
    "list_task_memories": Entry(
        {
            "task": _of("task", "task"),
            "task, a role": lambda t: Call({"task": t["task"]}, query={"role": "READ"}),
            "a cursor": lambda t: Call({"task": "any"}, query={"cursor": t["cursor"]}),
        },
        control=("MEMBER key", _of("task", "task"), 200),
    ),
    "list_memory_tasks": Entry(
        {"open": _of("memory open", "memory_id"), "public": _of("memory public", "memory_id")},
        control=("MEMBER key", _of("memory open", "memory_id"), 200),
    ),
    "link_task_memories": Entry(
        {
            "memory": _with(lambda t: {"memory_id": t["memory open"]}, {"task": "task"}),
            "memories, written": _with(
                lambda t: {"memory_ids": [t["memory open"], t["memory public"]], "role": "WRITE"}, {"task": "task"}
            ),
            "idempotency key": _with(lambda t: {"memory_id": t["memory public"]}, {"task": "task"}, once="yes"),
        },
        control=("AGENT key", _with(lambda t: {"memory_id": t["memory agents"]}, {"task": "task"}), 200),
        turn=1,
    ),
    "unlink_task_memory": Entry(
        {
            "memory": lambda t: Call({"task": t["task"], "memory_id": t["memory open"]}),
            "memory, a role": lambda t: Call({"task": t["task"], "memory_id": t["memory public"]}, {"role": "READ"}),
        },
        control=("AGENT key", lambda t: Call({"task": t["task"], "memory_id": t["memory agents"]}), 204),
        turn=1,
    ),
    "make_chain": Entry(
        {
            "memories": _with(lambda t: {"name": "x", "memory_ids": [t["memory open"], t["memory public"]]}),
            "idempotency key": _with(lambda t: {"name": "x", "memory_ids": [t["memory open"]]}, once="yes"),
        },
        control=("AGENT key", _with(lambda t: {"name": "x", "memory_ids": [t["memory open"]]}), 201),
        turn=1,
    ),
    "list_chains": Entry(
        {"the project": _plain, "a cursor": lambda t: Call(query={"cursor": t["cursor"]})},
        control=("MEMBER key", _plain, 200),
    ),
    "read_chain": Entry(
        {
            "chain": _of("chain", "chain_id"),
            "a memory": _of("memory open", "chain_id"),
            "within a budget": lambda t: Call({"chain_id": t["chain"]}, {"token_budget": "100", "fields": "content"}),
        },
        control=("MEMBER key", _of("chain", "chain_id"), 200),
    ),
    "change_chain": Entry(
        {
            "name": _with(lambda t: {"name": "x"}, {"chain_id": "chain"}),
            "governance": _with(lambda t: {"governance": {"write_roles": ["MEMBER"]}}, {"chain_id": "chain"}),
        },
        control=("AGENT key", _with(lambda t: {"name": "control"}, {"chain_id": "chain"}), 200),
        turn=1,
    ),
    "delete_chain": Entry(
        {"chain": _of("chain", "chain_id")}, control=("SERVICE key", _of("chain", "chain_id"), 204), turn=2
    ),
    "add_chain_item": Entry(
        {
            "memory": _with(lambda t: {"memory_id": t["memory open"]}, {"chain_id": "chain"}),
            "neighbour": _with(
                lambda t: {"memory_id": t["memory open"], "after": t["memory public"]}, {"chain_id": "chain"}
            ),
            "idempotency key": _with(lambda t: {"memory_id": t["memory public"]}, {"chain_id": "chain"}, once="yes"),
        },
        control=("SERVICE key", _with(lambda t: {"memory_id": t["memory open"]}, {"chain_id": "empty chain"}), 200),
        turn=1,
    ),
    "reorder_chain": Entry(
        {"memories": _with(lambda t: {"memory_ids": [t["memory open"]]}, {"chain_id": "chain"})},
        control=("SERVICE key", _with(lambda t: {"memory_ids": []}, {"chain_id": "chain"}), 409),
        turn=1,
    ),
    "move_chain_item": Entry(
        {
            "first": _with(lambda t: {"position": 1}, {"chain_id": "chain", "memory_id": "memory open"}),
            "beside": _with(
                lambda t: {"before": t["memory public"]}, {"chain_id": "chain", "memory_id": "memory open"}
            ),
        },
        control=("AGENT key", _with(lambda t: {"position": 2}, {"chain_id": "chain", "memory_id": "memory open"}), 200),
        turn=1,
    ),
    "remove_chain_item": Entry(
        {"memory": lambda t: Call({"chain_id": t["chain"], "memory_id": t["memory open"]})},
        control=("AGENT key", lambda t: Call({"chain_id": t["chain"], "memory_id": t["memory open"]}), 200),
        turn=1,
    ),
    "synthesize_memories": Entry(
        {
            "sources": _with(lambda t: {"memory_ids": [t["memory open"], t["memory public"]], "method": "extractive"}),
            "idempotency key": _with(
                lambda t: {"memory_ids": [t["memory open"], t["memory public"]], "method": "extractive"}, once="yes"
            ),
        },
        control=(
            "SERVICE key",
            _with(lambda t: {"memory_ids": [t["memory open"], t["memory members"]], "method": "extractive"}),
            201,
        ),
        turn=1,
    ),
    "follow_changes": Entry(
        {
            "live": _plain,
            "resumed by header": lambda t: Call(headers={"last-event-id": t["position"]}),
            "resumed by query": lambda t: Call(query={"after": "0"}),
        },
        control=("MEMBER key", _plain, 200),
        compared=False,
    ),
    "get_project": Entry({"the project": _plain}, control=("VIEWER token", _plain, 200)),
    "set_project": Entry(
        {"settings": _with(lambda t: {"screening": "tag", "near_duplicates": 0.9})},
        control=("ADMIN token", _with(lambda t: {"near_duplicates": None}), 200),
        turn=1,
    ),
    "list_projects": Entry({"nothing": _plain}, control=("MEMBER token", _plain, 200)),
    "make_project": Entry(
        {"the slug": _with(lambda t: {"id": t.slug}), "idempotency key": _with(lambda t: {"id": t.slug}, once="yes")},
        control=("OWNER token", _with(lambda t: {"id": t.slug}), 403),
        turn=1,
    ),
    "get_quota": Entry({"the project": _plain}, control=("ADMIN token", _plain, 200)),
    "list_members": Entry({"the project": _plain}, control=("VIEWER token", _plain, 200)),
    "invite_member": Entry(
        {
            "handle": _with(lambda t: {"handle": t["VIEWER handle"], "role": "VIEWER"}),
            "idempotency key": _with(lambda t: {"handle": t["ADMIN handle"], "role": "VIEWER"}, once="yes"),
        },
        compared=False,
        turn=1,
    ),
    "change_member": Entry(
        {
            "handle": _with(lambda t: {"role": "VIEWER"}, {"handle": "MEMBER handle"}),
            "account": _with(lambda t: {"role": "VIEWER"}, {"handle": "MEMBER account"}),
        }, turn=1),
    "remove_member": Entry(
        {"handle": _of("MEMBER handle", "handle"), "account": _of("MEMBER account", "handle")}, turn=2
    ),
    "list_project_events": Entry(
        {
            "the project": _plain,
            "before a key": lambda t: Call(query={"before": t["SERVICE key"]}),
            "before an event": lambda t: Call(query={"before": t["event"]}),
        },
        control=("OWNER token", _plain, 200),
    ),
    "list_keys": Entry({"the project": _plain}, control=("OWNER token", _plain, 200)),
    "make_key": Entry(
        {
            "name": _with(lambda t: {"name": t["SERVICE key name"]}),
            "idempotency key": _with(lambda t: {"name": t["AGENT key name"]}, once="yes"),
        },
        compared=False,
        turn=1,
    ),
    "revoke_key": Entry(
        {"key": _of("SERVICE key", "key_id"), "account": _of("OWNER account", "key_id")},
        control=("OWNER token", _of("VICTIM key", "key_id"), 204),
        turn=2,
    ),
    "make_account": Entry(
        {
            "e-mail": _with(
                lambda t: {
                    "email": t["MEMBER email"], "name": "x", "password": t.password, "invitation": t["invitation"]
                }
            ),
        },
        anybody=True,
        turn=1,
    ),
    "get_account": Entry({"nothing": _plain}, control=("MEMBER token", _plain, 200)),
    "join_project": Entry({"invitation": _with(lambda t: {"invitation": t["invitation"]})}, turn=1),
    "sign_in": Entry(
        {"e-mail": _with(lambda t: {"email": t["VIEWER email"], "password": "not the password of anybody"})},
        anybody=True,
    ),
    "refresh_session": Entry({"token": _with(lambda t: {"refresh_token": t["refresh"]})}, anybody=True),
    "sign_out": Entry({"nothing": _plain}, control=("VIEWER token", _plain, 204), turn=2),
    "change_password": Entry(
        {"password": _with(lambda t: {"current_password": "not " + t.password, "new_password": "another, 20 long …"})},
        turn=2,
    ),
    "seed_memories_crud": Entry(
        {
            "get": _with(lambda t: {"action": "get", "project_id": t.slug, "id": t["memory open"]}),
            "update": _with(
                lambda t: {"action": "update", "memory": {"id": t["memory public"], "project_id": t.slug, "label": "x"}}
            ),
            "delete": _with(lambda t: {"action": "delete", "project_id": t.slug, "id": t["memory public"]}),
            "list": _with(lambda t: {"action": "list", "project_id": t.slug, "tags": [t["tag"]], "limit": 200}),
            "create": _with(
                lambda t: {
                    "action": "create",
                    "project_id": t.slug,
                    "memory": {"content": t["text"], "parents": [t["memory open"]]},
                },
                once="yes",
            ),
        },
        control=("MEMBER key", _with(lambda t: {"action": "list", "limit": 1}), 200),
        turn=1,
    ),
    "seed_memories_query": Entry(
        {"words": _with(lambda t: {"project_id": t.slug, "text": t["text"], "mode": "keyword", "limit": 200})},
        control=("VIEWER key", _with(lambda t: {"project_id": t.slug, "limit": 1}), 200),
        turn=1,
    ),
    "give_schedule_feedback": Entry(
        {
            "schedule and memory": _with(_outcome, {"schedule_id": "schedule"}),
            "memory for a schedule": _with(_outcome, {"schedule_id": "memory open"}),
            "idempotency key": _with(_outcome, {"schedule_id": "schedule"}, once="yes"),
        },
        control=("MEMBER token", _with(_outcome, {"schedule_id": "schedule"}), 200),
        turn=1,
    ),
    "list_recommendations": Entry(
        {"agent": _of("MEMBER handle", "agent")},
        control=("VIEWER key", _of("MEMBER handle", "agent"), 200),
    ),
    "seed_memories_schedule": Entry(
        {
            "agent, task and tags": _with(
                lambda t: {
                    "project_id": t.slug, "agent_id": t["MEMBER handle"], "task_id": t["task"], "tags": [t["tag"]]
                }
            )
        },
        control=("VIEWER key", _with(lambda t: {"project_id": t.slug, "agent_id": "control"}), 200),
        compared=False,
        turn=1,
    ),
    "seed_insights_process": Entry(
        {"as another": _with(lambda t: {"project_id": t.slug, **_insight(t)}, once="yes")},
        control=("AGENT key", _with(lambda t: {"insight": "verifyisolation control"}), 202),
        compared=False,
        turn=1,
    ),
    "get_jwks": Entry({"nothing": _plain}, anybody=True),
}  # fmt: skip
