"""Two real tenants in a running house: members of every role, keys of both kinds, memories of every governance.

Every text in them is a canary that names its tenant and nothing else. They are made by the operator's hand and over
HTTP, and removed again with everything that remembers them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import nats
import nats.errors
from nats.js.errors import NotFoundError

from memcube_cli.isolation.catalogue import Connection, read_tables
from memcube_cli.isolation.rules import Row
from memcube_common.ids import new_id
from memcube_common.security.emails import email_key
from memcube_common.security.keys import key_hash, key_prefix, new_key
from memcube_common.security.passwords import Passwords

ROLES: Final = ("OWNER", "ADMIN", "MEMBER", "AGENT", "VIEWER")
MEMBERS: Final[Mapping[str, str]] = {**{role: role for role in ROLES}, "LEAVER": "MEMBER"}
"""Who is in each project, and as what; LEAVER is there to be removed, as the key of that name is to be revoked."""
KEY_ROLES: Final = (*ROLES, "SERVICE")
SETTLES_WITHIN: Final = 15.0
VOLATILE: Final = (
    "last_used_at,last_used,usage_hits,due_at,attempts,embedding_state,embedding_model,embedding_reason,embedded_at,"
    "updated_at,stored_at,state,memory_id,audience,settled_at,recalled_at,feedback,counted"
)
"""Columns the house itself goes on writing after a tenant was made."""
DERIVED: Final = frozenset(
    {"work_queue", "memory_vectors", "feed", "feed_heads", "changes", "memory_events"}
    | {"recalls", "memory_uses", "recommendations", "usage_marks", "term_stats", "text_stats", "text_changes"}
)
"""Tables the house itself goes on filling; what a foreigner did would show in the others too."""


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who asks: a name for the report, the header that lets them in, and what they are in their project."""

    name: str
    authorization: str | None
    role: str = ""
    handle: str = ""
    account: bool = False


@dataclass(slots=True)
class Tenant:
    """One tenant. `slots` are its identifiers by what they are; `memories` the rows its memories are judged by."""

    slug: str
    mark: str
    password: str = ""
    who: dict[str, Who] = field(default_factory=dict[str, Who])
    slots: dict[str, str] = field(default_factory=dict[str, str])
    memories: dict[str, Row] = field(default_factory=dict[str, Row])
    canaries: set[str] = field(default_factory=set[str])

    def canary(self, what: str) -> str:
        """A text that is nowhere but in this tenant."""
        made = f"{self.mark}{what.replace('_', '').replace(' ', '')}"
        self.canaries.add(self.mark)
        return made

    def __getitem__(self, slot: str) -> str:
        return self.slots[slot]


def absent_like(tenant: Tenant, slug: str) -> Tenant:
    """The same identifiers, every one of them nobody's: as long as `tenant`'s own, so that answers can be compared."""
    nobody = Tenant(slug, "absent" + secrets.token_hex(8), password=tenant.password)
    for slot, value in tenant.slots.items():
        if len(value) == 36 and value.count("-") == 4:
            nobody.slots[slot] = str(new_id())
        else:
            mark = nobody.mark.ljust(len(tenant.mark), "0")[: len(tenant.mark)]
            nobody.slots[slot] = value.replace(tenant.mark, mark).replace(tenant.slug, slug)
    return nobody


GOVERNANCES: Final[Mapping[str, Mapping[str, Any]]] = {
    "open": {},
    "private": {"visibility": "private"},
    "agents": {"read_roles": ["AGENT"]},
    "members": {"read_roles": ["MEMBER"]},
    "viewers": {"read_roles": ["VIEWER"]},
    "denied": {"principals": {"deny": ["{AGENT}", "{AGENT key}"]}},
    "allowed": {"visibility": "private", "principals": {"allow": ["{VIEWER}", "{VIEWER key}"]}},
    "public": {"visibility": "public"},
    "shut out": {"visibility": "public", "principals": {"deny": ["{PUBLIC key}"]}},
    "quarantined": {},
    "expired": {"expires_at": "2020-01-01T00:00:00Z"},
}
"""Memories of every governance; `{ROLE}` stands for the handle of the member, `{ROLE key}` of the key."""


@asynccontextmanager
async def tenants(
    http: httpx.AsyncClient, admin: Connection, bus: str | None, *, keep: bool = False
) -> AsyncGenerator[tuple[Tenant, Tenant]]:
    """Two tenants, `a` and `b`, removed at the end unless they are to be kept.

    admin: a connection that may act as every role of the house and put triggers to sleep. bus: where NATS is.
    Raises RuntimeError where the gateway does not take what makes them.
    """
    run = secrets.token_hex(5)
    a, b = (Tenant(f"verify-{letter}-{run}", f"kanarie{letter}{secrets.token_hex(8)}") for letter in "ab")
    try:
        await _clear_old(admin, bus)
        hashed = secrets.token_urlsafe(24)
        passwords = Passwords()
        phc = await passwords.hash(hashed)
        for tenant in (a, b):
            tenant.password = hashed
            await _make(tenant, admin, phc)
        for tenant in (a, b):
            await _sign_in(tenant, http)
            await _fill(tenant, http, admin)
        await _settled(admin, (a.slug, b.slug))
        yield a, b
    finally:
        if not keep:
            await remove(admin, bus, (a.slug, b.slug))


# ── making ─────────────────────────────────────────────────────────────────────────────────────────


async def _make(tenant: Tenant, admin: Connection, phc: str) -> None:
    """Project, accounts, members and keys, as the operator."""
    async with admin.transaction():
        await admin.execute("set local role memcube_operator; set local app.principal = 'operator'")
        await admin.execute("insert into memcube.projects (id) values ($1)", tenant.slug)
        for name, role in MEMBERS.items():
            account, handle = new_id(), tenant.canary(name.lower())
            email = f"{handle}@{tenant.slug}.invalid"
            await admin.execute(
                "insert into memcube.accounts (id, email, email_key, name, password) values ($1, $2, $3, $4, $5)",
                account, email, email_key(email), tenant.canary("name"), phc,
            )  # fmt: skip
            await admin.execute(
                "insert into memcube.members (project_id, account_id, handle, role, created_by)"
                " values ($1, $2, $3, $4, $5)",
                tenant.slug, account, handle, role, tenant.canary("owner"),
            )  # fmt: skip
            tenant.slots |= {f"{name} account": str(account), f"{name} handle": handle, f"{name} email": email}
        for role in (*KEY_ROLES, "PUBLIC", "EXPIRED", "REVOKED", "VICTIM", "LEAVER"):
            kind = "publishable" if role == "PUBLIC" else "secret"
            key, id, name = new_key(kind), new_id(), tenant.canary(f"key{role.lower()}")
            await admin.execute(
                "insert into memcube.api_keys (project_id, id, name, role, kind, prefix, hash, created_by, expires_at,"
                " revoked_at) values ($1, $2, $3, $4, $5, $6, $7, $8,"
                " case when $9 then now() - interval '1 hour' end, case when $10 then now() end)",
                tenant.slug, id, name, role if role in (*KEY_ROLES, "PUBLIC") else "SERVICE", kind, key_prefix(key),
                key_hash(key), tenant.canary("owner"), role == "EXPIRED", role == "REVOKED",
            )  # fmt: skip
            who = Who(f"{role} key", f"Bearer {key}", role, name)
            tenant.who[who.name] = who
            tenant.slots |= {f"{role} key": str(id), f"{role} key name": name, f"{role} secret": key}
        await admin.execute("reset role")
    tenant.canaries |= {value for slot, value in tenant.slots.items() if slot.endswith((" account", " key", " secret"))}
    garbled = tenant["SERVICE secret"]
    garbled = garbled[:20] + ("A" if garbled[20] != "A" else "B") + garbled[21:]
    tenant.who |= {
        "nobody": Who("nobody", None),
        "garbled key": Who("garbled key", f"Bearer {garbled}"),
        "garbled scheme": Who("garbled scheme", f"Basic {tenant['SERVICE secret']}"),
    }
    tenant.slots |= {
        "tag": tenant.canary("tag"),
        "idempotency": tenant.canary("once"),
        "external": tenant.canary("external"),
        "text": f"Whatever {tenant.canary('text')} says",
        "refresh": f"mc_ref_{tenant.canary('refresh')}",
        "invitation": f"mc_inv_{tenant.canary('invitation')}",
        "position": "1",
    }


async def _sign_in(tenant: Tenant, http: httpx.AsyncClient) -> None:
    for name, role in MEMBERS.items():
        answer = await http.post("/v1/auth/token", json={"email": tenant[f"{name} email"], "password": tenant.password})
        _expect(answer, 200, "sign in")
        given = answer.json()
        who = Who(f"{name} token", f"Bearer {given['access_token']}", role, tenant[f"{name} handle"], account=True)
        tenant.who[who.name] = who
        tenant.canaries |= {given["access_token"], given["refresh_token"]}
    tenant.who["forged token"] = Who("forged token", _forged(tenant.who["OWNER token"].authorization or ""))


def _forged(authorization: str) -> str:
    """The token with another signature of the same length."""
    head, _, signature = authorization.rpartition(".")
    return f"{head}.{signature[:10]}{'A' if signature[10] != 'A' else 'B'}{signature[11:]}"


async def _fill(tenant: Tenant, http: httpx.AsyncClient, admin: Connection) -> None:
    """Memories, insights, an invitation, idempotency keys; over HTTP, as their makers."""
    base = f"/v1/projects/{tenant.slug}"
    service = {"authorization": tenant.who["SERVICE key"].authorization or ""}
    names = [name for name in GOVERNANCES if name != "expired" or "verify-a" in tenant.slug]
    given = [_imported(tenant, name) for name in names]
    headers = {**service, "idempotency-key": tenant["idempotency"]}
    answer = await http.post(f"{base}/memories/import", json={"memories": given}, headers=headers)
    _expect(answer, 200, "import memories")
    for name, one, result in zip(names, given, answer.json()["results"], strict=True):
        tenant.slots[f"memory {name}"] = result["memory_id"]
        tenant.canaries.add(result["memory_id"])
        tenant.memories[name] = _judged(tenant, name, one)
    await _link(tenant, http, service, [tenant.slots[f"memory {name}"] for name in names])
    paged = await http.post(f"{base}/memories/query", json={"order_by": "label", "limit": 1}, headers=service)
    _expect(paged, 200, "list memories")
    tenant.slots["cursor"] = paged.json()["next_cursor"]
    owner = {"authorization": tenant.who["OWNER token"].authorization or ""}
    for role in ("MEMBER", "AGENT", "OWNER"):
        sender = {"authorization": tenant.who[f"{role} token"].authorization or ""}
        body = {"insight": f"verifyisolation {tenant.canary('insight')} {role}", "tags": [tenant["tag"]]}
        answer = await http.post(f"{base}/insights", json=body, headers=sender)
        _expect(answer, 202, "submit an insight")
        receipt = answer.json()
        tenant.slots[f"{role} receipt"] = receipt["id"]
        tenant.canaries |= {receipt["id"], receipt["memory_id"]}
        tenant.memories[f"of {role}"] = _judged(
            tenant, f"of {role}", {"governance": {}, "created_by": tenant[f"{role} handle"]}
        )
        tenant.slots[f"memory of {role}"] = receipt["memory_id"]
    body = {"agent_id": tenant["MEMBER handle"], "task_id": tenant["task"], "need_tags": [tenant["tag"]]}
    member = {"authorization": tenant.who["MEMBER token"].authorization or ""}
    answer = await http.post(f"{base}/memories/schedule", json=body, headers=member)
    _expect(answer, 200, "schedule memories")
    tenant.slots["schedule"] = answer.json()["id"]
    tenant.canaries.add(answer.json()["id"])
    answer = await http.post(
        f"{base}/members", json={"handle": tenant.canary("guest"), "role": "VIEWER"}, headers=owner
    )
    _expect(answer, 201, "invite a member")
    tenant.slots["invitation id"] = answer.json()["id"]
    tenant.canaries |= {answer.json()["id"], answer.json()["token"]}
    async with admin.transaction():
        await admin.execute(
            "set local role memcube_worker; set local app.principal = 'room:verify';"
            f"set local app.project_id = '{tenant.slug}'"
        )
        await admin.execute(
            "update memcube.memories set trust = 'quarantined' where project_id = $1 and id = $2",
            tenant.slug, tenant["memory quarantined"],
        )  # fmt: skip
    tenant.memories["quarantined"] = {**tenant.memories["quarantined"], "trust": "quarantined"}


async def _link(tenant: Tenant, http: httpx.AsyncClient, service: Mapping[str, str], memories: list[str]) -> None:
    """A task that read all the memories, a chain of all of them, and an empty one."""
    base = f"/v1/projects/{tenant.slug}"
    tenant.slots["task"] = tenant.canary("task")
    body: dict[str, Any] = {"memory_ids": memories}
    answer = await http.post(f"{base}/tasks/{tenant['task']}/memories", json=body, headers=service)
    _expect(answer, 200, "link memories to a task")
    for slot, ids in (("chain", memories), ("empty chain", [])):
        body = {"name": tenant.canary("chain"), "description": tenant.canary("about"), "memory_ids": ids}
        answer = await http.post(f"{base}/chains", json=body, headers=service)
        _expect(answer, 201, "make a chain")
        tenant.slots[slot] = answer.json()["id"]
        tenant.canaries.add(answer.json()["id"])


def _imported(tenant: Tenant, name: str) -> dict[str, Any]:
    text = json.dumps(GOVERNANCES[name])
    for role in (*KEY_ROLES, *ROLES):
        text = text.replace(f"{{{role} key}}", tenant[f"{role} key name"])
    for role in ROLES:
        text = text.replace(f"{{{role}}}", tenant[f"{role} handle"])
    return {
        "id": tenant["external"] + name,
        "content": f"verifyisolation {tenant.canary(name)} is what {name} says",
        "label": tenant.canary(f"label{name}"),
        "tags": [tenant["tag"]],
        "created_by": tenant["MEMBER handle"],
        "metadata": {tenant.canary("field"): tenant.canary("value")},
        "governance": json.loads(text),
    }


def _judged(tenant: Tenant, name: str, given: Mapping[str, Any]) -> Row:
    governance = given["governance"]
    principals = governance.get("principals", {})
    return {
        "project_id": tenant.slug,
        "read_roles": governance.get("read_roles", ["MEMBER", "AGENT"]),
        "let_in": [*principals.get("allow", []), given["created_by"]],
        "denied": principals.get("deny", []),
        "visibility": governance.get("visibility", "project"),
        "expires_at": governance.get("expires_at"),
        "lifecycle": "NEW",
        "trust": "trusted",
    }


def _expect(answer: httpx.Response, status: int, what: str) -> None:
    if answer.status_code != status:
        code = answer.json().get("code", "") if "json" in answer.headers.get("content-type", "") else ""
        raise RuntimeError(f"could not {what}: {answer.status_code} {code}".strip())


# ── watching ───────────────────────────────────────────────────────────────────────────────────────


async def _settled(admin: Connection, slugs: tuple[str, ...]) -> bool:
    """Whether the house has done what the tenants' making asked of it; waits some seconds for it."""
    deadline = time.monotonic() + SETTLES_WITHIN
    before = -1
    since = time.monotonic()
    while time.monotonic() < deadline:
        waiting = await admin.fetchval(
            "select count(*) from memcube.work_queue where project_id = any ($1::text[])", list(slugs)
        )
        if waiting == 0:
            return True
        if waiting != before:
            before, since = waiting, time.monotonic()
        elif time.monotonic() - since > 4.0:  # nobody works here
            return False
        await asyncio.sleep(0.1)
    return False


async def fingerprint(admin: Connection, tenant: Tenant) -> dict[str, str]:
    """A digest of everything that is the tenant's, table by table, but for what the house itself goes on writing."""
    digests: dict[str, str] = {}
    rows = "to_jsonb(t) - string_to_array($2, ',')"
    digest = f"select md5(coalesce(string_agg(({rows})::text, '|' order by ({rows})::text), '')) from memcube."
    for table in (await read_tables(admin)).values():
        if "project_id" in table.columns and table.name not in DERIVED:
            sql = f"{digest}{table.name} t where t.project_id = $1"
            digests[table.name] = str(await admin.fetchval(sql, tenant.slug, VOLATILE))
        elif table.name in {"accounts", "sessions", "refresh_tokens"}:
            column = "id" if table.name == "accounts" else "account_id"
            ids = [tenant[f"{name} account"] for name in MEMBERS]
            sql = f"{digest}{table.name} t where t.{column}::text = any ($1::text[])"
            digests[table.name] = str(await admin.fetchval(sql, ids, VOLATILE))
    return digests


# ── removing ───────────────────────────────────────────────────────────────────────────────────────


async def remove(admin: Connection, bus: str | None, slugs: tuple[str, ...]) -> None:
    """Remove tenants with everything that remembers them, in Postgres and on the bus."""
    await _settled(admin, slugs)
    for _ in range(10):
        if not await _delete(admin, slugs):
            break
        await asyncio.sleep(0.2)  # a room may still have been writing
    if bus is not None:
        await _forget_on_the_bus(bus, slugs)


async def _delete(admin: Connection, slugs: tuple[str, ...]) -> int:
    """Delete every row of the tenants, with triggers asleep: nothing is announced. Returns how many there were."""
    gone = 0
    tables = await read_tables(admin)
    async with admin.transaction():
        await admin.execute("set local session_replication_role = replica; set local lock_timeout = '5s'")
        accounts = [
            str(row[0])
            for row in await admin.fetch(
                "select id from memcube.accounts where split_part(email, '@', 2) = any ($1)",
                [f"{slug}.invalid" for slug in slugs],
            )
        ]
        for table in tables.values():
            if "project_id" in table.columns:
                said = await admin.execute(f"delete from memcube.{table.name} where project_id = any ($1)", list(slugs))
            elif table.name == "projects":
                said = await admin.execute("delete from memcube.projects where id = any ($1)", list(slugs))
            else:
                continue
            gone += int(said.rpartition(" ")[2])
        for table, column in (("refresh_tokens", "account_id"), ("sessions", "account_id"), ("accounts", "id")):
            if table in tables:
                sql = f"delete from memcube.{table} where {column}::text = any ($1::text[])"
                gone += int((await admin.execute(sql, accounts)).rpartition(" ")[2])
    return gone


async def _clear_old(admin: Connection, bus: str | None) -> None:
    """Remove what a killed run left an hour ago or longer."""
    rows = await admin.fetch(
        "select id from memcube.projects"
        " where id ~ '^verify-[ab]-[0-9a-f]{10}$' and created_at < now() - interval '1 hour'"
    )
    if rows:
        await remove(admin, bus, tuple(row[0] for row in rows))


async def _forget_on_the_bus(bus: str, slugs: tuple[str, ...]) -> None:
    try:
        client = await nats.connect(bus, connect_timeout=5, max_reconnect_attempts=1)
    except (OSError, nats.errors.Error):
        return
    try:
        jetstream = client.jetstream(timeout=5)
        for stream in ("INSIGHTS", "CHANGES"):
            for slug in slugs:
                try:
                    await jetstream.purge_stream(stream, subject=f"memcube.{slug}.>")
                except NotFoundError:
                    continue
        for info in await jetstream.consumers_info("CHANGES"):
            filters = [info.config.filter_subject or "", *(info.config.filter_subjects or [])]
            if any(f"memcube.{slug}." in subject for slug in slugs for subject in filters):
                await jetstream.delete_consumer("CHANGES", info.name)
    except nats.errors.Error:
        return
    finally:
        await client.close()
