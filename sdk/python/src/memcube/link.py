"""The connection behind an agent: made with its key, made again when it ends, and the questions asked over it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import nats.errors
from nats.aio.client import Client

from memcube.errors import MemCubeError, NotSignedIn, Unavailable, Unreachable, kind_of
from memcube.patience import Patience

if TYPE_CHECKING:
    from nats.aio.msg import Msg

Key = str | Callable[[], str]
_RETURN: Final = Patience(total=0.0, first_pause=0.1, longest_pause=5.0)


class Link:
    """One connection to NATS at a time. With `key` it belongs to an agent, and is made anew whenever it ends.

    The server ends it when the key is revoked, and when its hour is over: a key that is a function is then asked for
    what it is now. Without `key` the URL holds the credentials of a user of the house, and NATS itself reconnects.
    """

    def __init__(self, url: str, *, project: str, agent: str, key: Key | None, seconds: float) -> None:
        self._url = url
        self._project = project
        self._agent = agent
        self._key = key
        self._seconds = seconds
        self._client = Client()
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._refused = False
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_agent(self) -> bool:
        """Whether this is an agent's own connection."""
        return self._key is not None

    @property
    def client(self) -> Client:
        """The connection as it is now. Raises NotSignedIn where the server refused the key when it was last shown."""
        if self._refused:
            raise NotSignedIn("the NATS server refuses these credentials")
        return self._client

    async def open(self, within: float) -> None:
        """Connect, within so many seconds. Raises Unreachable, NotSignedIn."""
        loop, attempt = asyncio.get_running_loop(), 0
        give_up = loop.time() + within
        while True:
            attempt += 1
            try:
                await self._connect(max(give_up - loop.time(), 0.1))
                break
            except Unreachable:
                pause = _RETURN.pause(attempt)
                if loop.time() + pause > give_up:
                    raise
                await asyncio.sleep(pause)
        if self._key is not None:
            self._keeper = asyncio.create_task(self._keep(), name="memcube-agent-link")

    async def close(self) -> None:
        """Close for good."""
        self._closing = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._ready.set()  # whoever waits for the connection shall see that it is over
        await self._client.close()

    async def ready(self) -> Client | None:
        """The connection as soon as there is one; None when it was closed for good."""
        await self._ready.wait()
        return None if self._closing else self._client

    async def ask(self, question: str, body: bytes, *, timeout: float) -> Any:
        """The answer of the gateway. Raises what it refuses with, Unreachable where none comes."""
        subject = f"memcube.{self._project}.ask.v1.{question}.{self._agent}"
        try:
            said: Any = json.loads((await self.client.request(subject, body, timeout=timeout)).data)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise Unreachable(f"no answer over NATS ({type(error).__name__})") from None
        except ValueError:
            raise Unavailable("the answer could not be read") from None
        if isinstance(said, dict) and "code" in said and "detail" in said:
            raise refusal(cast("dict[str, Any]", said))
        return cast("Any", said)

    async def _keep(self) -> None:
        """Make the connection anew each time it ends."""
        attempt = 0
        while True:
            await self._ended.wait()
            attempt += 1
            try:
                await self._connect(max(self._seconds, 1.0))
                attempt = 0
            except MemCubeError:
                await asyncio.sleep(_RETURN.pause(attempt))

    async def _connect(self, within: float) -> None:
        refused = asyncio.Event()

        async def noticed(error: Exception) -> None:
            if isinstance(error, nats.errors.AuthorizationError) or "Authorization Violation" in str(error):
                refused.set()

        async def over() -> None:
            self._ready.clear()
            self._ended.set()

        client = Client()
        own: dict[str, Any] = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.5}
        if self._key is not None:
            secret = self._key if isinstance(self._key, str) else self._key()
            own = {
                "user": f"{self._project}.{self._agent}",
                "password": secret,
                "inbox_prefix": inbox_prefix(secret).encode(),
                "allow_reconnect": False,
                "closed_cb": over,
            }
        connecting = asyncio.ensure_future(
            client.connect(
                self._url,
                name=f"memcube-agent-{self._agent}",
                connect_timeout=max(1, int(self._seconds)),
                error_cb=noticed,
                **own,
            )
        )
        refusal = asyncio.ensure_future(refused.wait())
        try:
            await self._outcome(connecting, refusal, within)
        except BaseException:
            with contextlib.suppress(Exception):
                await client.close()
            raise
        finally:
            refusal.cancel()
        self._client = client
        self._refused = False
        self._ended.clear()
        self._ready.set()

    async def _outcome(self, connecting: asyncio.Future[None], refusal: asyncio.Future[Any], within: float) -> None:
        """Wait until the server has let us in. Raises Unreachable, NotSignedIn."""
        try:
            give_up = asyncio.get_running_loop().time() + within
            while True:
                left = max(0.0, give_up - asyncio.get_running_loop().time())
                await asyncio.wait({connecting, refusal}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if refusal.done():
                    self._refused = self._key is not None
                    raise NotSignedIn("the NATS server refuses these credentials")
                if not connecting.done():
                    raise Unreachable("no answer from the NATS server")
                connecting.result()
                return
        except (OSError, nats.errors.Error) as error:
            if "Authorization Violation" in str(error):
                self._refused = self._key is not None
                raise NotSignedIn("the NATS server refuses these credentials") from None
            raise Unreachable(f"no answer from the NATS server ({type(error).__name__})") from None
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)


def inbox_prefix(secret: str) -> str:
    """Where the holder of this key or token hears its answers; the server allows it no other place."""
    return "_INBOX_" + hashlib.sha256(b"memcube inbox\n" + secret.encode()).hexdigest()[:32]


def refusal(said: dict[str, Any]) -> MemCubeError:
    """What the gateway refuses with, as an exception."""
    code, after = str(said["code"]), said.get("after")
    kind = kind_of(code, 0)
    if kind is MemCubeError and after is not None:
        kind = Unavailable
    return kind(str(said["detail"]), code=code, after=after)


def status_of(message: Msg) -> str | None:
    """JetStream's status in a message that carries none of the stream's, e.g. '404' or '408'."""
    return (message.headers or {}).get("Status") if not message.data else None
