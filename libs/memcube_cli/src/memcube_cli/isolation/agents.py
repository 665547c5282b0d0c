"""The road over NATS: agents of one tenant at every subject of the other, of the house and of the JetStream API."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from memcube_cli.isolation.report import Report
from memcube_cli.isolation.rules import Actor, may_read
from memcube_cli.isolation.tenants import Tenant, Who
from memcube_common.contracts import subjects

ROAD: Final = "nats"
AGENTS: Final = ("OWNER key", "SERVICE key", "MEMBER key", "AGENT key", "VIEWER key", "PUBLIC key", "AGENT token")
FOLLOWERS: Final = frozenset({"OWNER", "SERVICE", "MEMBER", "AGENT"})
RESTRICTED: Final = frozenset({"private", "agents", "members", "viewers", "denied", "allowed"})
"""Memories that were hidden from some from the beginning."""
ANSWERS_WITHIN: Final = 5.0


@dataclass(slots=True)
class Agent:
    """One connection, what the server refused it, and what it heard."""

    who: Who
    name: str
    client: Client
    inbox: str
    refused: set[str] = field(default_factory=set[str])
    heard: list[Msg] = field(default_factory=list[Msg])


@dataclass(slots=True)
class AgentsRoad:
    """Agents of `a` towards `b`. `bus` is the operator's URL of the server."""

    bus: str
    report: Report
    a: Tenant
    b: Tenant

    async def attack(self) -> None:
        """Everything this road tries."""
        try:
            async with self._connected(self.a.who["SERVICE key"], self.a.slug, self.a["SERVICE key name"]) as first:
                pass
            if first is None:
                self.report.could_not(ROAD, "all subjects", "the server lets no agent in")
                return
        except OSError as error:
            self.report.could_not(ROAD, "all subjects", f"no server: {type(error).__name__}")
            return
        await self._doors()
        operator = await nats.connect(self.bus, connect_timeout=5, max_reconnect_attempts=1)
        try:
            theirs = await self._follow_as_b(operator)
            before = await self._kept(operator)
            for name in AGENTS:
                who = self.a.who[name]
                async with self._connected(who, self.a.slug, who.handle) as agent:
                    if agent is not None:
                        await self._subjects(agent, theirs)
                        await self._controls(agent)
                        await self._replies(agent)
            self.report.tried(ROAD)
            if await self._kept(operator) != before:
                self.report.leak(ROAD, "publish", "agents of the first tenant", "messages of the second appeared")
        finally:
            await operator.close()

    # ── coming in ──────────────────────────────────────────────────────────────────────────────────

    async def _doors(self) -> None:
        """Credentials under a name, or in a project, that is not theirs."""
        a, b = self.a, self.b
        agent, member = a.who["AGENT key"], a["MEMBER handle"]
        attempts = [
            (agent, b.slug, agent.handle, "a key of another project"),
            (agent, b.slug, b["AGENT key name"], "a key of another project, its agent's name"),
            (a.who["OWNER key"], b.slug, b["OWNER key name"], "an OWNER of another project"),
            (a.who["OWNER token"], b.slug, b["OWNER handle"], "a token of no member"),
            (agent, a.slug, member, "another's name"),
            (a.who["VIEWER key"], a.slug, member, "another's name"),
            (agent, a.slug, "*", "a wildcard"),
            (agent, a.slug, ">", "a wildcard"),
            (agent, f"{a.slug}.{agent.handle}", "x", "a name too many"),
            (agent, "*", agent.handle, "every project"),
            (agent, "", "", "no name"),
            (agent, "memcube", "", "a room's name"),
            (Who("nobody", None), a.slug, agent.handle, "no secret"),
            (a.who["garbled key"], a.slug, agent.handle, "a garbled key"),
            (a.who["EXPIRED key"], a.slug, a["EXPIRED key name"], "an expired key"),
            (a.who["REVOKED key"], a.slug, a["REVOKED key name"], "a revoked key"),
            (b.who["EXPIRED key"], b.slug, b["EXPIRED key name"], "the other's expired key"),
            (a.who["forged token"], a.slug, a["OWNER handle"], "a forged token"),
        ]
        for who, project, name, what in attempts:
            self.report.tried(ROAD)
            async with self._connected(who, project, name) as agent_in:
                if agent_in is not None:
                    self.report.leak(ROAD, "connect", who.name, f"let in with {what}")

    @asynccontextmanager
    async def _connected(self, who: Who, project: str, name: str) -> AsyncGenerator[Agent | None]:
        """A connection, or None where the server lets nobody in like this."""
        parts = urlsplit(self.bus)
        secret = (who.authorization or "").partition(" ")[2]
        inbox = "_INBOX_" + hashlib.sha256(b"memcube inbox\n" + secret.encode()).hexdigest()[:32]
        refused: set[str] = set()

        async def on_error(error: Exception) -> None:
            text = str(error)
            if '"' in text:
                refused.add(text.split('"')[1].lower())  # the client has it in small letters

        try:
            client = await nats.connect(
                f"{parts.scheme}://{parts.hostname}:{parts.port}",
                user=f"{project}.{name}" if name else project,
                password=secret,
                inbox_prefix=inbox.encode(),
                error_cb=on_error,
                allow_reconnect=False,
                connect_timeout=5,
                max_reconnect_attempts=0,
            )
            await client.flush(timeout=5)
        except (nats.errors.Error, OSError, TimeoutError):
            yield None
            return
        try:
            yield Agent(who, name, client, inbox, refused)
        finally:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                await client.close()

    # ── everything it must not reach ───────────────────────────────────────────────────────────────

    async def _subjects(self, agent: Agent, theirs: list[str]) -> None:
        """Publish to and listen at each; the server has to refuse every one of them by name."""

        async def hear(message: Msg) -> None:
            agent.heard.append(message)

        targets = list(dict.fromkeys(publishes(self.a, self.b, agent, theirs)))
        for subject in targets:
            self.report.tried(ROAD)
            await agent.client.publish(subject, b"{}", reply=f"{agent.inbox}.x")
        await self._answered(agent)
        for subject in targets:
            if subject.lower() not in agent.refused:
                self.report.leak(ROAD, f"publish {_family(subject, self.a, self.b)}", agent.who.name, "was not refused")
        agent.refused.clear()
        listened = list(dict.fromkeys(listens(self.a, self.b)))
        for subject in listened:
            self.report.tried(ROAD)
            await agent.client.subscribe(subject, cb=hear)
        await self._answered(agent)
        for subject in listened:
            if subject.lower() not in agent.refused:
                self.report.leak(
                    ROAD, f"subscribe {_family(subject, self.a, self.b)}", agent.who.name, "was not refused"
                )
        for message in agent.heard:
            if any(canary.encode() in message.data for canary in self.b.canaries):
                self.report.leak(ROAD, "subscribe", agent.who.name, "heard the other tenant's canary")

    async def _answered(self, agent: Agent) -> None:
        """The server has said what it has to say about everything so far, and it was read."""
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            await agent.client.flush(timeout=5)
        for _ in range(3):
            await asyncio.sleep(0)
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            await agent.client.flush(timeout=5)

    async def _replies(self, agent: Agent) -> None:
        """The server does not check reply subjects: an answer addressed to the other's insights must not be kept."""
        ask = subjects.ask_subject(self.a.slug, subjects.ASK_QUERY, agent.name)
        insight = f"memcube.{self.a.slug}.insight.v1.submitted.{agent.name}"
        for subject in (ask, insight):
            for reply in (
                f"memcube.{self.b.slug}.insight.v1.submitted.{self.b['AGENT key name']}",
                f"memcube.{self.b.slug}.memory.v1.created",
                f"rooms.gateway.v1.keep_insight.{self.b.slug}.x",
                f"memcube.{self.b.slug}.ask.v1.query.x",
            ):
                self.report.tried(ROAD)
                await agent.client.publish(subject, b'{"text": "verifyisolation"}', reply=reply)
        await self._answered(agent)

    # ── what has to work ───────────────────────────────────────────────────────────────────────────

    async def _controls(self, agent: Agent) -> None:
        """Its own question is answered with its own memories and nothing of the other's."""
        self.report.tried(ROAD)
        ask = subjects.ask_subject(self.a.slug, subjects.ASK_QUERY, agent.name)
        body = json.dumps({"text": "verifyisolation", "mode": "keyword", "limit": 200}).encode()
        try:
            answer = await agent.client.request(ask, body, timeout=ANSWERS_WITHIN)
        except (nats.errors.Error, TimeoutError) as error:
            if agent.who.role != "PUBLIC":
                self.report.broken(ROAD, "ask query", agent.who.name, type(error).__name__)
            return
        if any(canary.encode() in answer.data for canary in self.b.canaries):
            self.report.leak(ROAD, "ask query", agent.who.name, "the other tenant's canary")
        if agent.who.role not in {"PUBLIC", "VIEWER"} and self.a["memory open"].encode() not in answer.data:
            self.report.broken(ROAD, "ask query", agent.who.name, "its own memory is not found")
        if agent.who.role in {"MEMBER", "AGENT", "VIEWER"}:
            hidden = self.a["memory private"].encode() in answer.data and agent.name != self.a["MEMBER handle"]
            if hidden:
                self.report.leak(ROAD, "ask query", agent.who.name, "inside one project: a hidden memory")

        if agent.who.role in FOLLOWERS:
            await self._changes(agent)

    async def _changes(self, agent: Agent) -> None:
        """Its consumer delivers its own project's changes from the beginning, none that governance keeps from it."""
        self.report.tried(ROAD)
        follow = subjects.ask_subject(self.a.slug, subjects.ASK_FOLLOW, agent.name)
        delivered = b""
        try:
            following = await agent.client.request(follow, b'{"start": "all"}', timeout=ANSWERS_WITHIN)
            durable = json.loads(following.data)["durable"]
            inbox = await agent.client.subscribe(f"{agent.inbox}.changes")
            pull = json.dumps({"batch": 256, "no_wait": True, "expires": 0}).encode()
            await agent.client.publish(
                f"MC.API.CONSUMER.MSG.NEXT.CHANGES.{durable}", pull, reply=f"{agent.inbox}.changes"
            )
            while True:
                message = await inbox.next_msg(timeout=1.0)
                if not message.data:  # there is no more
                    break
                delivered += message.data
        except (nats.errors.Error, TimeoutError, KeyError) as error:
            if not delivered:
                self.report.broken(ROAD, "follow", agent.who.name, f"gets no changes: {type(error).__name__}")
                return
        if any(canary.encode() in delivered for canary in self.b.canaries):
            self.report.leak(ROAD, "follow", agent.who.name, "the other tenant's canary")
        if self.a["memory open"].encode() not in delivered:
            self.report.broken(ROAD, "follow", agent.who.name, "a change of its own project is missing")
        actor = Actor("memcube_user", self.a.slug, agent.name, agent.who.role)
        for name, row in self.a.memories.items():
            if not may_read(actor, row) and name in RESTRICTED and self.a[f"memory {name}"].encode() in delivered:
                self.report.leak(ROAD, "follow", agent.who.name, f"inside one project: a hidden memory ('{name}')")

    async def _follow_as_b(self, operator: Client) -> list[str]:
        """The other tenant's own agent follows, so that there is a consumer of its to reach for; names of such."""
        who = self.b.who["AGENT key"]
        async with self._connected(who, self.b.slug, who.handle) as agent:
            if agent is not None:
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    follow = subjects.ask_subject(self.b.slug, subjects.ASK_FOLLOW, agent.name)
                    await agent.client.request(follow, b"{}", timeout=ANSWERS_WITHIN)
        infos = await operator.jetstream(timeout=5).consumers_info("CHANGES")
        return [info.name for info in infos if self.b.slug in info.name]

    async def _kept(self, operator: Client) -> int:
        """Messages of the second tenant that are no changes of its own: insights."""
        info = await operator.jetstream(timeout=5).stream_info("INSIGHTS", subjects_filter=f"memcube.{self.b.slug}.>")
        return sum((info.state.subjects or {}).values())


def publishes(a: Tenant, b: Tenant, agent: Agent, durables: list[str]) -> Iterator[str]:
    """Every subject an agent of `a` must not be able to publish to: evidence and reading of the server's API."""
    bystander = b["AGENT key name"]
    for project, name in ((b.slug, bystander), (b.slug, agent.name), (a.slug, a["ADMIN handle"]), ("*", agent.name)):
        yield f"memcube.{project}.insight.v1.submitted.{name}"
        yield f"memcube.{project}.ask.v1.query.{name}"
        yield f"memcube.{project}.ask.v1.follow.{name}"
        yield f"memcube.{project}.receipt.v1.stored.{name}"
        yield f"rooms.gateway.v1.keep_insight.{project}.{name}"
    for project in (a.slug, b.slug):
        yield f"memcube.{project}.memory.v1.created"
        yield f"memcube.{project}.memory.v1.restricted.created"
        yield f"memcube.{project}.quota.v1.exhausted"
    yield from (subjects.EMBED_TEXTS, subjects.BELL_CHANGES, subjects.BELL_INSIGHTS, subjects.BELL_MEMORIES)
    yield from (
        "$SYS.REQ.USER.AUTH",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$SYS.REQ.ACCOUNT.MEMCUBE.CONNZ",
    )
    yield from ("_INBOX.x", "_INBOX_gateway.x", "_INBOX_ingestion.x", "_R_.x", "$JS.FC.CHANGES.x", "$JSC.R.x")
    for name in (*durables, "ingestion-insight-submitted", f"p_{b.slug}_{bystander}_{'0' * 24}"):
        yield f"$JS.ACK.CHANGES.{name}.1.1.1.1.1"
        for api in ("$JS.API", "MC.API"):
            yield f"{api}.CONSUMER.MSG.NEXT.CHANGES.{name}"
            yield f"{api}.CONSUMER.INFO.CHANGES.{name}"
            yield f"{api}.CONSUMER.DELETE.CHANGES.{name}"
            yield f"{api}.CONSUMER.PAUSE.CHANGES.{name}"
            yield f"{api}.CONSUMER.UNPIN.CHANGES.{name}"
            yield f"{api}.CONSUMER.LEADER.STEPDOWN.CHANGES.{name}"
    for api in ("$JS.API", "MC.API"):
        yield from (f"{api}.INFO", f"{api}.STREAM.LIST", f"{api}.STREAM.NAMES", f"{api}.ACCOUNT.PURGE.MEMCUBE")
        yield from (f"{api}.META.LEADER.STEPDOWN", f"{api}.SERVER.REMOVE", f"{api}.STREAM.CREATE.VERIFY")
        for stream in ("INSIGHTS", "CHANGES", "ADVISORIES"):
            for verb in (
                "STREAM.INFO", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.GET", "STREAM.MSG.DELETE",
                "STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.LEADER.STEPDOWN", "STREAM.PEER.REMOVE", "DIRECT.GET",
                "CONSUMER.CREATE", "CONSUMER.NAMES", "CONSUMER.LIST",
            ):  # fmt: skip
                yield f"{api}.{verb}.{stream}"
            yield f"{api}.DIRECT.GET.{stream}.memcube.{b.slug}.memory.v1.created"
            yield f"{api}.CONSUMER.CREATE.{stream}.verify"
            yield f"{api}.CONSUMER.CREATE.{stream}.verify.memcube.{b.slug}.>"
            yield f"{api}.CONSUMER.DURABLE.CREATE.{stream}.verify"


def listens(a: Tenant, b: Tenant) -> Iterator[str]:
    """Every subject an agent of `a` must not be able to listen at."""
    yield from (">", "*", "*.*", "*.>", "memcube.>", "memcube.*.>", "memcube.*.memory.v1.>", "rooms.>")
    for project in (a.slug, b.slug):
        yield from (
            f"memcube.{project}.>", f"memcube.{project}.memory.v1.*", f"memcube.{project}.memory.v1.restricted.*",
            f"memcube.{project}.receipt.v1.>", f"memcube.{project}.insight.v1.submitted.*",
            f"memcube.{project}.ask.v1.>",
        )  # fmt: skip
    yield from (
        "_INBOX.>",
        "_INBOX_gateway.>",
        "_INBOX_ingestion.>",
        "_R_.>",
        "$JS.>",
        "$JS.API.>",
        "$JS.ACK.>",
        "MC.API.>",
    )
    yield from ("$JS.EVENT.>", "$SYS.>", "$SYS.REQ.USER.AUTH", "$JSC.>", "rooms.gateway.v1.keep_insight.*.*")
    for who in b.who.values():
        secret = (who.authorization or "").partition(" ")[2]
        yield "_INBOX_" + hashlib.sha256(b"memcube inbox\n" + secret.encode()).hexdigest()[:32] + ".>"


def _family(subject: str, a: Tenant, b: Tenant) -> str:
    """A subject as the report prints it: without the tenants' names."""
    text = subject.replace(a.slug, "<own>").replace(b.slug, "<other>")
    for tenant in (a, b):
        text = text.replace(tenant.mark, "…")
    return text
