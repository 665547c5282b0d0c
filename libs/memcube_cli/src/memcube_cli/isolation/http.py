"""The road through the HTTP door: every operation of the gateway's own document, as everybody, with foreign names.

What is foreign and what is absent must answer alike, byte for byte; no canary of the other tenant may stand in any
answer; and inside one project nobody is shown what governance keeps from them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote
from uuid import UUID

import httpx

from memcube_cli.isolation.catalogue import Connection
from memcube_cli.isolation.entries import ENTRIES, NOBODY_PASSES, Call, Entry
from memcube_cli.isolation.report import Report
from memcube_cli.isolation.rules import Actor, is_alive, may_read
from memcube_cli.isolation.tenants import GOVERNANCES, Tenant, Who, absent_like, fingerprint
from memcube_common.ids import derive

ROAD: Final = "http"
UNEQUAL: Final = frozenset(
    {"date", "x-request-id", "ratelimit", "ratelimit-policy", "retry-after", "server-timing", "connection"}
)
"""Headers that differ between any two answers."""
WAITS_FOR: Final = 3.0
MEANT_TO_END: Final = frozenset({"VICTIM key", "LEAVER key", "LEAVER token"})
READERS: Final = frozenset({"OWNER", "ADMIN", "MEMBER", "AGENT", "VIEWER", "SERVICE", "PUBLIC"})
_TOOK: Final = re.compile(rb'"took_ms":[0-9.]+')
_STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the gateway's document."""

    id: str
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers and body; of an endless stream its beginning."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def bytes_without(self, said: Mapping[str, str]) -> bytes:
        """Everything in it, with `said` replaced by the names of its places, and without what differs anyway."""
        unequal = {*UNEQUAL, "content-length"} if _TOOK.search(self.body) else UNEQUAL
        lines = [f"{self.status}", *(f"{name}: {value}" for name, value in self.headers if name not in unequal)]
        text = "\n".join(lines).encode() + b"\n\n" + _TOOK.sub(b"", self.body)
        for place, value in sorted(said.items(), key=lambda item: -len(item[1])):
            text = text.replace(value.encode(), f"<{place}>".encode())
        return text

    @property
    def everything(self) -> bytes:
        """Every byte of it."""
        return json.dumps(self.headers).encode() + self.body


def operations_of(document: Mapping[str, Any]) -> list[Operation]:
    """The operations of an OpenAPI document."""
    return [
        Operation(str(what["operationId"]), method.upper(), path)
        for path, methods in cast("dict[str, dict[str, Any]]", document["paths"]).items()
        for method, what in methods.items()
        if method in {"get", "put", "post", "delete", "patch"}
    ]


@dataclass(slots=True)
class HttpRoad:
    """Attempts by `a` at what is `b`'s."""

    http: httpx.AsyncClient
    admin: Connection
    report: Report
    a: Tenant
    b: Tenant
    _embedded: bool = True

    async def attack(self) -> None:
        """Everything this road tries."""
        document = (await self.http.get("/openapi.json")).json()
        operations = operations_of(document)
        for operation in operations:
            if operation.id not in ENTRIES:
                self.report.could_not(ROAD, operation.id, "entries.py does not say how to call it")
        known = [operation for operation in operations if operation.id in ENTRIES]
        self.b.slots["event"] = str(await self._an_event(self.b))
        self.a.slots["event"] = str(await self._an_event(self.a))
        before = await fingerprint(self.admin, self.b)
        await self._controls(known, turn=0)
        await self._within()
        for turn in (0, 1, 2):
            for operation in known:
                if ENTRIES[operation.id].turn == turn:
                    await self._across(operation, ENTRIES[operation.id])
            if turn:
                await self._controls(known, turn=turn)
        after = await fingerprint(self.admin, self.b)
        self.report.tried(ROAD, len(before))
        for table in before:
            if before[table] != after[table]:
                self.report.leak(ROAD, "all operations", "all of the first tenant", f"changed {table} of the second")

    async def _an_event(self, tenant: Tenant) -> object:
        return await self.admin.fetchval(
            "select id from memcube.project_events where project_id = $1 limit 1", tenant.slug
        )

    # ── from one tenant into the other ─────────────────────────────────────────────────────────────

    async def _across(self, operation: Operation, entry: Entry) -> None:
        """Every principal of the first tenant, and everybody without a credential, with the second's identifiers."""
        nobody = absent_like(self.b, self.b.slug[:-10] + "0" * 10)
        in_project = "{project}" in operation.path
        for who in self._everybody(entry):
            calls = list(entry.calls.items())
            for carries, make in calls[:1] if who.name in NOBODY_PASSES else calls:
                if carries == "meaning" and not self._embedded:
                    continue
                if in_project:
                    await self._compare(operation, who, f"the other's project, {carries}", make(self.b), make(nobody),
                                        slugs=(self.b.slug, nobody.slug), nobody=nobody)  # fmt: skip
                if entry.turn == 2 and who.name not in NOBODY_PASSES and not in_project:
                    continue  # it would end the session that all others need
                if not in_project or self._carries_something(make):
                    await self._compare(operation, who, f"own project, the other's {carries}", make(self.b),
                                        make(nobody), slugs=(self.a.slug, self.a.slug), nobody=nobody,
                                        same=entry.compared and carries != "meaning")  # fmt: skip
        for name in ("garbled key", "garbled scheme", "EXPIRED key", "REVOKED key", "forged token"):
            for carries, make in entry.calls.items():
                if in_project:
                    who = self.b.who[name]
                    answer = await self._send(operation, who, make(self.b), self.b.slug)
                    self._no_canary(operation, Who(f"the other's {name}", None), carries, answer, make(self.b))
                    if answer.status != 401:
                        self.report.leak(ROAD, operation.id, f"the other's {name}", f"let in: {answer.status}")

    def _everybody(self, entry: Entry) -> list[Who]:
        """Who asks: where everybody is answered alike, some are enough."""
        if entry.anybody:
            return [self.a.who[name] for name in ("nobody", "OWNER token", "SERVICE key")]
        return [who for who in self.a.who.values() if who.name not in MEANT_TO_END]

    def _carries_something(self, make: Any) -> bool:
        mine, theirs = make(self.a), make(self.b)
        return mine != theirs

    async def _compare(
        self, operation: Operation, who: Who, carries: str, foreign: Call, absent: Call,
        *, slugs: tuple[str, str], nobody: Tenant, same: bool = True,
    ) -> None:  # fmt: skip
        theirs = await self._send(operation, who, foreign, slugs[0])
        self._no_canary(operation, who, carries, theirs, foreign)
        if theirs.status >= 500:
            self.report.broken(ROAD, operation.id, who.name, f"answers {theirs.status} ({carries})")
        if who.name in NOBODY_PASSES and theirs.status != 401 and not ENTRIES[operation.id].anybody:
            self.report.leak(ROAD, operation.id, who.name, f"let in: {theirs.status} ({carries})")
        if not same:
            return
        none = await self._send(operation, who, absent, slugs[1])
        left = theirs.bytes_without(_said(self.b))
        right = none.bytes_without(_said(nobody))
        if left != right:
            self.report.leak(
                ROAD, operation.id, who.name,
                f"tells foreign from absent: {theirs.status} and {none.status} ({carries})"
                f"{_first_difference(left, right)}",
            )  # fmt: skip

    def _no_canary(self, operation: Operation, who: Who, carries: str, answer: Answer, call: Call) -> None:
        sent = json.dumps([call.path, call.query, call.headers, call.body]) + self.b.slug
        sent += str(derive(UUID(self.b["OWNER receipt"]), "memory"))  # follows from the insight's id, for everybody
        everything = answer.everything
        for canary in (*self.b.canaries, self.b.slug):
            if canary.encode() in everything and canary not in sent:
                self.report.leak(
                    ROAD, operation.id, who.name, f"the other tenant's canary in {answer.status} ({carries})"
                )
                return

    # ── inside one project ─────────────────────────────────────────────────────────────────────────

    async def _within(self) -> None:
        """Every reader of the first tenant: one by one, by words, by meaning, the newest, and receipts of others."""
        absent = await self._memory(self.a.who["OWNER key"], absent_like(self.a, self.a.slug)["memory open"])
        for who in self._readers():
            for name, row in self.a.memories.items():
                if name.startswith("of ") and not await self._is_kept(self.a[_slot(name)]):
                    continue
                allowed = may_read(self._actor(who), row)
                answer = await self._memory(who, self.a[_slot(name)])
                if allowed != (answer.status == 200):
                    self._judge("get_memory", who, f"the memory '{name}' answers {answer.status}", leak=not allowed)
                elif not allowed and answer.bytes_without(_said(self.a)) != absent.bytes_without(_said(self.a)):
                    self._judge("get_memory", who, f"a hidden memory is told from an absent one ('{name}')", leak=True)
            await self._found(who)
            await self._linked(who)
            for role in ("MEMBER", "AGENT"):
                await self._receipt(who, role)

    async def _found(self, who: Who) -> None:
        """What searches show is exactly what the reader may read and what is in force."""
        expected = {
            self.a[_slot(name)]
            for name, row in self.a.memories.items()
            if may_read(self._actor(who), row)
            and is_alive({**row, "trust": "trusted"})
            and (not name.startswith("of ") or await self._is_kept(self.a[_slot(name)]))
        }
        ways: dict[str, dict[str, Any]] = {
            "words": {"text": "verifyisolation", "mode": "keyword"},
            "words with tag": {"text": "verifyisolation", "mode": "keyword", "tags": [self.a["tag"]]},
            "meaning and words": {"text": "verifyisolation", "mode": "hybrid"},
            "newest": {},
            "newest with tag": {"tags": [self.a["tag"]]},
            "by label, without content": {"order_by": "label", "fields": ["label"], "count": True},
        }
        for way, body in ways.items():
            if way.startswith("meaning") and not self._embedded:
                continue
            query = Operation("query_memories", "POST", "/v1/projects/{project}/memories/query")
            answer = await self._send(query, who, Call(body={**body, "limit": 200}), self.a.slug)
            if answer.status != 200:
                self._judge("query_memories", who, f"{way}: {answer.status}", leak=False)
                continue
            if json.loads(answer.body).get("degraded"):
                self._embedded = False
                self.report.could_not(ROAD, "query_memories by meaning", "nobody embeds here")
            known = {self.a[_slot(name)] for name in self.a.memories}
            found = {one["id"] for one in json.loads(answer.body)["memories"]} & known
            if found - expected:
                self._judge("query_memories", who, f"{way}: {len(found - expected)} hidden memories", leak=True)
            if expected - found:
                self._judge("query_memories", who, f"{way}: {len(expected - found)} memories are missing", leak=False)
            hidden = [m for m in known - expected if m.encode() in answer.body]
            if hidden:
                self._judge("query_memories", who, f"{way}: ids of {len(hidden)} hidden memories", leak=True)

    async def _linked(self, who: Who) -> None:
        """What a task and a chain of all memories show is exactly what the reader may read."""
        names = [name for name in self.a.memories if name in GOVERNANCES]
        readable = {self.a[_slot(name)] for name in names if may_read(self._actor(who), self.a.memories[name])}
        tasks = Operation("list_task_memories", "GET", "/v1/projects/{project}/tasks/{task}/memories")
        chain = Operation("read_chain", "GET", "/v1/projects/{project}/chains/{chain_id}")
        for operation, path, refused in (
            (tasks, {"task": self.a["task"]}, {403} if who.role == "PUBLIC" else set[int]()),
            (chain, {"chain_id": self.a["chain"]}, {"PUBLIC": {403}, "VIEWER": {404}}.get(who.role, set[int]())),
        ):
            answer = await self._send(operation, who, Call(path, query={"limit": "200"}), self.a.slug)
            if answer.status in refused:
                continue
            if answer.status != 200:
                self._judge(operation.id, who, f"answers {answer.status}", leak=False)
                continue
            shown = {self.a[_slot(name)] for name in names if self.a[_slot(name)].encode() in answer.body}
            if shown - readable:
                self._judge(operation.id, who, f"{len(shown - readable)} hidden memories", leak=True)
            if readable - shown:
                missing = ", ".join(name for name in names if self.a[_slot(name)] in readable - shown)
                self._judge(operation.id, who, f"memories are missing: {missing}", leak=False)
            said = json.loads(answer.body)
            if "length" in said and said["length"] != len(said["items"]):  # the attack may have added some of its own
                self._judge(operation.id, who, "counts what is hidden", leak=True)

    async def _receipt(self, who: Who, role: str) -> None:
        receipt = Operation("get_receipt", "GET", "/v1/projects/{project}/receipts/{receipt_id}")
        answer = await self._send(receipt, who, Call({"receipt_id": self.a[f"{role} receipt"]}), self.a.slug)
        row = self.a.memories[f"of {role}"]
        mine = who.role in {"OWNER", "ADMIN", "SERVICE"} or who.handle == self.a[f"{role} handle"]
        readable = may_read(self._actor(who), row) and who.role != "PUBLIC"
        if mine and answer.status != 200:
            self._judge("get_receipt", who, f"the receipt of an insight of its own answers {answer.status}", leak=False)
        if not mine and not readable and answer.status == 200:
            self._judge("get_receipt", who, "the receipt of another's insight", leak=True)

    async def _is_kept(self, memory_id: str) -> bool:
        """Whether an insight's memory is there yet: somebody has to run ingestion."""
        return bool(
            await self.admin.fetchval(
                "select exists (select from memcube.memories where project_id = $1 and id = $2)", self.a.slug, memory_id
            )
        )

    def _readers(self) -> Iterator[Who]:
        for who in self.a.who.values():
            if who.role in READERS and who.name not in MEANT_TO_END:
                yield who

    def _actor(self, who: Who) -> Actor:
        return Actor("memcube_user", self.a.slug, who.handle, who.role)

    async def _memory(self, who: Who, memory_id: str) -> Answer:
        get = Operation("get_memory", "GET", "/v1/projects/{project}/memories/{memory_id}")
        return await self._send(get, who, Call({"memory_id": memory_id}), self.a.slug)

    def _judge(self, operation: str, who: Who, seen: str, *, leak: bool) -> None:
        (self.report.leak if leak else self.report.broken)(ROAD, operation, who.name, f"inside one project: {seen}")

    # ── what has to work ───────────────────────────────────────────────────────────────────────────

    async def _controls(self, operations: list[Operation], *, turn: int) -> None:
        """One's own things: an attack on a door that is nailed shut would prove nothing."""
        for operation in operations:
            entry = ENTRIES[operation.id]
            if entry.control is None or entry.turn != turn:
                continue
            name, make, status = entry.control
            answer = await self._send(operation, self.a.who[name], make(self.a), self.a.slug)
            if answer.status != status:
                self.report.broken(ROAD, operation.id, name, f"expected {status}, got {answer.status}")

    # ── one request ────────────────────────────────────────────────────────────────────────────────

    async def _send(self, operation: Operation, who: Who, call: Call, slug: str) -> Answer:
        """One attempt; waits where the door says that it was too many, or that it cannot answer now."""
        self.report.tried(ROAD)
        path = operation.path
        for name, value in {"project": slug, **call.path}.items():
            path = path.replace("{" + name + "}", quote(value, safe=""))
        headers = dict(call.headers)
        if who.authorization is not None:
            headers["authorization"] = who.authorization
        for _ in range(5):
            answer = await self._request(operation.method, path, call, headers)
            wait = float(dict(answer.headers).get("retry-after", "1"))
            if (
                answer.status not in {429, 503} or wait > WAITS_FOR
            ):  # failed sign-ins are refused for a minute: an answer, too
                return answer
            await asyncio.sleep(wait)
        return answer  # pyright: ignore[reportPossiblyUnboundVariable]

    async def _request(self, method: str, path: str, call: Call, headers: Mapping[str, str]) -> Answer:
        async with (
            self.http.stream(method, path, params=dict(call.query), headers=dict(headers), json=call.body)
            if call.body is not None
            else self.http.stream(method, path, params=dict(call.query), headers=dict(headers)) as response
        ):
            if response.headers.get("content-type", "").startswith(_STREAM):
                body = await _beginning(response)
            else:
                body = await response.aread()
            return Answer(response.status_code, tuple(response.headers.items()), body)


async def _beginning(response: httpx.Response) -> bytes:
    """What a stream says in its first tenth of a second."""
    body = b""
    try:
        async with asyncio.timeout(0.1):
            async for piece in response.aiter_bytes():
                body += piece
    except TimeoutError:
        pass
    return body


def _slot(memory: str) -> str:
    return f"memory {memory}"


def _said(tenant: Tenant) -> dict[str, str]:
    return {**tenant.slots, "project": tenant.slug, "mark": tenant.mark}


def _first_difference(left: bytes, right: bytes) -> str:
    """Which line differs, by its name alone."""
    for one, other in zip(left.split(b"\n"), right.split(b"\n"), strict=False):
        if one != other:
            return f", first in {one.partition(b':')[0][:40].decode(errors='replace')!r}"
    return ""


@asynccontextmanager
async def at(gateway: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A client at the gateway's address."""
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=gateway, timeout=20.0, limits=limits) as client:
        yield client
