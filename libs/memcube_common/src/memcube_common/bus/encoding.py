"""A correction of nats-py, until a release carries it: one subject that is not UTF-8 must not deafen a connection.

NATS lets a subject be any bytes. nats-py decodes it strictly inside its read loop, which ends at the error for good: no
message is heard any more on that connection, and nothing reconnects it.
"""

from __future__ import annotations

from nats.aio.client import Client
from nats.aio.msg import Msg


def correct_subjects() -> None:
    """Make unreadable bytes of a subject U+FFFD, which no valid name holds. Calling it again changes nothing."""
    build = Client._build_message  # pyright: ignore[reportPrivateUsage]
    if getattr(build, "corrected", False):
        return

    def corrected(
        self: Client, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return build(self, sid, subject.decode(errors="replace").encode(), reply, data, headers)

    corrected.corrected = True  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    Client._build_message = corrected  # pyright: ignore[reportPrivateUsage]
