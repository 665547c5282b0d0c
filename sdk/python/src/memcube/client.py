"""`MemCubeClient`: one project of one MemCube gateway, over HTTP."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Self

from memcube.auth import Auth
from memcube.chains import Chains
from memcube.changes import QUIET_SECONDS, follow, newest_position
from memcube.insights import Insights
from memcube.memories import Memories
from memcube.models import Change, Reset
from memcube.patience import Patience
from memcube.receipts import Receipts
from memcube.schedules import Schedules
from memcube.settings import Settings
from memcube.tasks import Tasks
from memcube.transport import Method, Transport

_PROJECT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


class MemCubeClient:
    """An agent's or program's way to its memories.

    ```python
    async with MemCubeClient(url="http://127.0.0.1:8080", key="mc_sec_…") as client:
        receipt = await client.insights.submit("Deploys on Fridays fail more often.", tags=["deploy"])
        await client.receipts.wait(receipt.id)
        for memory in await client.memories.query({"text": "when not to ship", "limit": 3}):
            print(memory.score, memory.content)
    ```

    url: the gateway's address. key: a key of the project; without one, sign in first: `client.auth`. project: its
    slug; $MEMCUBE_PROJECT if not given, else "demo". timeout: seconds one attempt may take. patience: how long a call
    is tried again while the server is away or busy. A call has its effect at most once, however often it is tried:
    every POST carries an Idempotency-Key, and ids are made here.

    One client serves many tasks of one event loop. Close it with `async with` or `aclose()`.
    Raises ValueError for an address without a scheme and for a project that is no slug.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        project: str | None = None,
        *,
        timeout: float = 15.0,
        patience: Patience | None = None,
    ) -> None:
        project = project or os.environ.get("MEMCUBE_PROJECT") or "demo"
        if not _PROJECT.match(project):
            raise ValueError("project: 1-63 characters of a-z, 0-9 and '-', beginning with a letter or digit")
        self.project = project
        self._transport = Transport(url, key, project, timeout=timeout, patience=patience or Patience())
        self.auth = Auth(self._transport)
        self.insights = Insights(self._transport)
        self.receipts = Receipts(self._transport)
        self.memories = Memories(self._transport)
        self.settings = Settings(self._transport)
        self.tasks = Tasks(self._transport)
        self.chains = Chains(self._transport)
        self.schedules = Schedules(self._transport)

    @classmethod
    def from_environment(cls) -> Self:
        """A client for $MEMCUBE_URL with $MEMCUBE_KEY and $MEMCUBE_PROJECT. Raises KeyError where one is missing."""
        return cls(os.environ["MEMCUBE_URL"], os.environ["MEMCUBE_KEY"])

    def changes(
        self, after: int | None = None, event: str = "*", *, quiet: float = QUIET_SECONDS
    ) -> AsyncGenerator[Change | Reset]:
        """What changes in the project, for ever: live, and resumed where it broke off.

        after: the position to go on behind; 0 replays all that is kept, None begins now.
        event: only types that match, e.g. `memory.v1.created` or `memory.*`; a `Reset` always comes through.
        quiet: seconds without any sign of life after which the connection is made anew.

        Each change comes once and in order. A `Reset` says that the position is too old and changes were missed.
        Interruptions are waited out; raises NotSignedIn, NotAllowed or NotFound where waiting cannot help.
        """
        return follow(self._transport, after=after, event=event, quiet=quiet)

    async def ask(self, method: Method, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What any other route of the project answers, as JSON: `await client.ask("GET", "members")`.

        Raises the MemCubeError the server names; Unreachable or Unavailable when patience ends.
        """
        return await self._transport.request(method, path, body)

    async def position(self) -> int:
        """The newest position of the change feed: what happens from now on comes behind it.

        Raises Unavailable or Unreachable where the gateway stays away.
        """
        return await newest_position(self._transport)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
