"""The road along the change streams: live, resumed from places that are not one's own, and cut off when rights end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx

from memcube_cli.isolation.catalogue import Connection
from memcube_cli.isolation.report import Report
from memcube_cli.isolation.rules import Actor, may_read
from memcube_cli.isolation.tenants import Tenant, Who

ROAD: Final = "changes"
WITHIN: Final = 8.0
CUT_WITHIN: Final = 5.0
FOLLOWERS: Final = ("SERVICE key", "OWNER key", "MEMBER key", "AGENT key", "VIEWER key", "MEMBER token", "AGENT token")
HOSTILE: Final = (
    "-1",
    "abc",
    "0x10",
    "1e3",
    "9223372036854775808",
    "99999999999999999999",
    "1 or 1=1",
    "١",
    "NaN",
    "*",
)
MEANWHILE: Final = ("meanwhile project", "meanwhile private")
BEYOND: Final = ("9223372036854775807", "1000000")


@dataclass(slots=True)
class Follower:
    """One open stream: what it has said so far, how it was answered, and whether it has ended."""

    who: Who
    after: str | None
    status: int = 0
    heard: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class ChangesRoad:
    """Followers of `a` while `b` writes."""

    http: httpx.AsyncClient
    admin: Connection
    report: Report
    a: Tenant
    b: Tenant

    async def attack(self) -> None:
        """Everything this road tries."""
        async with self._following() as followers:
            works = await self._write(followers)
            if works:
                await _until(lambda: not any(map(self._unheard, followers)), followers, WITHIN)
            for follower in followers:
                self._judge(follower)
                if works and (missing := self._unheard(follower)):
                    self.report.broken(ROAD, "follow_changes", follower.who.name, f"did not hear of {missing}")
            if not works:
                self.report.could_not(ROAD, "changes that happen meanwhile", "nothing relays changes here")
            await self._revoke("LEAVER key", self._revoke_key)
            await self._revoke("LEAVER token", self._remove_member)
        await self._refused()

    @asynccontextmanager
    async def _following(self) -> AsyncGenerator[list[Follower]]:
        """Live ones, and ones that resume at the beginning, at the other's place and beyond the end."""
        theirs = await self.admin.fetchval(
            "select coalesce(max(position), 0)::text from memcube.feed_heads where project_id = $1", self.b.slug
        )
        followers = [Follower(self.a.who[name], None) for name in FOLLOWERS]
        followers += [Follower(self.a.who[name], "0") for name in FOLLOWERS]
        followers += [Follower(self.a.who["AGENT key"], after) for after in (theirs, *BEYOND)]
        async with self._open(followers):
            yield followers

    @asynccontextmanager
    async def _open(self, followers: list[Follower]) -> AsyncGenerator[None]:
        tasks = [asyncio.create_task(self._follow(one), name="verify-follower") for one in followers]
        try:
            await _until(lambda: all(one.status for one in followers), followers, WITHIN)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, one: Follower) -> None:
        headers = {"authorization": one.who.authorization or ""}
        if one.after is not None:
            headers["last-event-id"] = one.after
        try:
            async with self.http.stream(
                "GET", f"/v1/projects/{self.a.slug}/changes", headers=headers, timeout=60.0
            ) as response:
                self.report.tried(ROAD)
                one.status = response.status_code
                one.news.set()
                async for piece in response.aiter_bytes():
                    one.heard += piece
                    one.news.set()
        except httpx.HTTPError:
            one.status = one.status or 599
        finally:
            one.ended.set()
            one.news.set()

    async def _write(self, followers: list[Follower]) -> bool:
        """Both tenants write; whether the first one's own writing was heard."""
        heard: list[str] = []
        for tenant, round_ in ((self.b, "meanwhile"), (self.a, "meanwhile"), (self.b, "after")):
            answer = await self.http.post(
                f"/v1/projects/{tenant.slug}/memories/import",
                headers={"authorization": tenant.who["SERVICE key"].authorization or ""},
                json={
                    "memories": [
                        {
                            "id": f"{round_} {visibility}",
                            "content": f"verifyisolation {tenant.canary(round_)} {visibility}",
                            "label": tenant.canary(f"{round_}{visibility}"),
                            "tags": [tenant["tag"]],
                            "governance": {"visibility": visibility},
                        }
                        for visibility in ("project", "private")
                    ]
                },
            )
            if answer.status_code != 200:
                self.report.broken(
                    ROAD, "import_memories", f"SERVICE key of {tenant.slug[:8]}", str(answer.status_code)
                )
                return False
            for result in answer.json()["results"]:
                tenant.canaries.add(result["memory_id"])
            if tenant is self.a:
                heard = [result["memory_id"] for result in answer.json()["results"]]
                for name, id, visibility in zip(MEANWHILE, heard, ("project", "private"), strict=True):
                    tenant.slots[f"memory {name}"] = id
                    tenant.memories[name] = {
                        **tenant.memories["open"], "visibility": visibility, "let_in": [self.a["SERVICE key name"]]
                    }  # fmt: skip
        return await _until(lambda: any(heard[0].encode() in one.heard for one in followers), followers, WITHIN)

    def _unheard(self, one: Follower) -> list[str]:
        """Memories made meanwhile that it may read and was not told of: a stream that is mute would prove nothing."""
        actor = Actor("memcube_user", self.a.slug, one.who.handle, one.who.role)
        return [
            name
            for name in MEANWHILE
            if may_read(actor, self.a.memories[name]) and self.a[f"memory {name}"].encode() not in one.heard
        ]

    def _judge(self, one: Follower) -> None:
        self.report.tried(ROAD)
        how = "live" if one.after is None else f"resumed after {one.after if len(one.after) < 8 else 'the end'}"
        everything = bytes(one.heard)
        if one.status != 200:
            self.report.broken(ROAD, "follow_changes", one.who.name, f"{how}: {one.status}")
        if any(canary.encode() in everything for canary in (*self.b.canaries, self.b.slug)):
            self.report.leak(ROAD, "follow_changes", one.who.name, f"{how}: the other tenant's canary")
        actor = Actor("memcube_user", self.a.slug, one.who.handle, one.who.role)
        hidden = [
            name
            for name, row in self.a.memories.items()
            if not may_read(actor, row) and self.a[f"memory {name}"].encode() in everything
        ]
        for name in hidden:
            if name == "quarantined":  # was open when its change was made, and is asked of the memory as it is then
                continue
            self.report.leak(ROAD, "follow_changes", one.who.name, f"{how}: a hidden memory ('{name}')")

    # ── rights that end ────────────────────────────────────────────────────────────────────────────

    async def _revoke(self, name: str, end: Callable[[Who], object]) -> None:
        """A stream that is open when its right ends is cut within five seconds."""
        one = Follower(self.a.who[name], None)
        async with self._open([one]):
            if one.status != 200:
                self.report.broken(ROAD, "follow_changes", name, f"before its right ended: {one.status}")
                return
            coroutine = end(one.who)
            assert asyncio.iscoroutine(coroutine)
            await coroutine
            began = time.monotonic()
            try:
                async with asyncio.timeout(CUT_WITHIN + 1.0):
                    await one.ended.wait()
            except TimeoutError:
                self.report.leak(ROAD, "follow_changes", name, "still open six seconds after its right ended")
            else:
                if time.monotonic() - began > CUT_WITHIN:
                    self.report.leak(ROAD, "follow_changes", name, "cut later than five seconds after its right ended")
        again = await self.http.get(
            f"/v1/projects/{self.a.slug}", headers={"authorization": one.who.authorization or ""}
        )
        self.report.tried(ROAD, 2)
        if again.status_code not in {401, 404}:
            self.report.leak(ROAD, "get_project", name, f"let in after its right ended: {again.status_code}")

    async def _revoke_key(self, who: Who) -> None:
        await self.admin.execute(
            "update memcube.api_keys set revoked_at = now() where project_id = $1 and name = $2",
            self.a.slug, who.handle,
        )  # fmt: skip

    async def _remove_member(self, who: Who) -> None:
        await self.admin.execute(
            "delete from memcube.members where project_id = $1 and handle = $2", self.a.slug, who.handle
        )

    async def _refused(self) -> None:
        """Places that are none are refused, and nobody is let into the other's stream."""
        for hostile in HOSTILE:
            status = await self._status(self.a.who["AGENT key"], self.a.slug, hostile)
            if status != 422:
                self.report.leak(ROAD, "follow_changes", "AGENT key", f"took a hostile Last-Event-ID: {status}")
        for who in self.a.who.values():
            for after in (None, "0", "1"):
                status = await self._status(who, self.b.slug, after)
                if status not in {401, 404}:
                    self.report.leak(ROAD, "follow_changes", who.name, f"the other's stream answers {status}")

    async def _status(self, who: Who, slug: str, after: str | None) -> int:
        self.report.tried(ROAD)
        headers: list[tuple[bytes, bytes]] = []
        if who.authorization is not None:
            headers.append((b"authorization", who.authorization.encode()))
        if after is not None:
            headers.append((b"last-event-id", after.encode()))
        async with self.http.stream("GET", f"/v1/projects/{slug}/changes", headers=headers) as response:
            return response.status_code


async def _until(condition: Callable[[], bool], followers: list[Follower], within: float) -> bool:
    """Wait for news of the followers until the condition holds, so many seconds at most."""
    try:
        async with asyncio.timeout(within):
            while not condition():
                for one in followers:
                    one.news.clear()
                if condition():
                    break
                waiting = [asyncio.create_task(one.news.wait()) for one in followers]
                try:
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in waiting:
                        task.cancel()
    except TimeoutError:
        return False
    return True
