"""The auth callout: the server asks whom to let in, the gateway answers, also when the answer is no."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol

import structlog
from nats.aio.msg import Msg

from memcube_common.bus import Bus
from memcube_common.errors import MemCubeError, TryAgain
from memcube_common.ids import is_agent_name, is_project_slug
from memcube_common.security.grants import Grant
from memcube_common.security.nkeys import AccountKey
from memcube_gateway.agents.domain import Roads, admitted, read_knock, refused

SUBJECT: Final = "$SYS.REQ.USER.AUTH"
QUEUE: Final = "gateway-callout"
AT_ONCE: Final = 32
_log = structlog.get_logger(__name__)


class Authenticate(Protocol):
    """Whom a key or an access token lets in as `agent` of `project`, or None.

    A credential whose role is OWNER, ADMIN or SERVICE may name any agent, every other one its own handle only.
    `secret` may be anything at all. Raises TryAgain where it cannot be found out now.
    """

    def __call__(self, project: str, agent: str, secret: str) -> Awaitable[Grant | None]: ...


class Callout:
    """Answers the server's questions, several at a time, with the other gateways in one queue."""

    def __init__(
        self, authenticate: Authenticate, *, key: AccountKey, roads: Roads, clock: Callable[[], datetime]
    ) -> None:
        self._authenticate = authenticate
        self._key = key
        self._roads = roads
        self._clock = clock

    async def open(self, bus: Bus) -> None:
        """Begin to answer on `bus`, a connection to the account AUTH."""
        await bus.answer(SUBJECT, self.on_knock, queue=QUEUE, at_once=AT_ONCE)

    async def on_knock(self, message: Msg) -> bytes:
        """Somebody wants to come in. A silent answer would make them wait, so that no is said aloud."""
        knock = read_knock(message.data)
        try:
            grant = None
            if is_project_slug(knock.project) and is_agent_name(knock.agent) and knock.secret:
                grant = await self._authenticate(knock.project, knock.agent, knock.secret)
            if grant is None:
                return refused(knock, key=self._key, why="not signed in")
            return admitted(knock, grant, roads=self._roads, key=self._key, now=self._clock())
        except TryAgain:
            return refused(knock, key=self._key, why="try again")
        except (MemCubeError, ValueError):
            return refused(knock, key=self._key, why="not signed in")
        except Exception as error:
            _log.error("callout_failed", error=type(error).__name__)  # no trace: secrets stood in those frames
            return refused(knock, key=self._key, why="try again")
