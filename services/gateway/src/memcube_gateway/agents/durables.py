"""The consumers that agents pull their changes from: made when an agent asks to follow, as its role allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal

import orjson

from memcube_common.bus import Bus
from memcube_common.errors import TryAgain

STREAM: Final = "CHANGES"
KEPT_SECONDS: Final = 7 * 86_400
RECEIPTS_KEPT_SECONDS: Final = 60
ACK_SECONDS: Final = 30
UNACKNOWLEDGED_MAX: Final = 1_000
PULLS_MAX: Final = 16
PER_PROJECT: Final = 100
ASK_SECONDS: Final = 2.0
_NANO: Final = 1_000_000_000
_NOT_FOUND: Final = 10014
_TOO_MANY: Final = frozenset({10026, 10024})

Start = Literal["resume", "new", "all"] | datetime


class TooManyFollowers(TryAgain):
    """The stream of changes has as many followers as it may have; those who stay away for a week make room."""

    code: ClassVar[str] = "too_many_followers"
    title: ClassVar[str] = "Too many followers"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or (type(self).__doc__ or "").strip(), after=60.0)


class Durables:
    """Makes and mends consumers of CHANGES by the JetStream API, under the gateway's own user."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def follow(self, name: str, subjects: Sequence[str], start: Start, *, instead_of: str) -> None:
        """Make the durable `name` deliver `subjects` from `start` on; one that is there already goes on as it was.

        instead_of: the durable this agent had under another role; its place is taken over and it is removed. Raises
        TooManyFollowers, TryAgain.
        """
        if start == "resume":
            if (there := await self._info(name)) is not None:
                if sorted(there["config"].get("filter_subjects") or ()) != sorted(subjects):
                    await self._create(name, {**there["config"], "filter_subjects": list(subjects)})
                return
            before = await self._info(instead_of)
            begin = _after(before) if before is not None else _begin("new")
        else:
            await self._delete(name)
            begin = _begin(start)
        await self._delete(instead_of)
        await self._find_room(name)
        await self._create(name, _config(name, subjects, begin, KEPT_SECONDS))

    async def hear(self, name: str, subject: str) -> None:
        """Make the short-lived consumer `name` deliver `subject` from now on, if it is not there. Raises as above."""
        if await self._info(name) is None:
            await self._find_room(name)
            await self._create(name, _config(name, [subject], _begin("new"), RECEIPTS_KEPT_SECONDS))

    async def _info(self, name: str) -> Mapping[str, Any] | None:
        said = await self._ask(f"INFO.{STREAM}.{name}", b"")
        if "error" not in said:
            return said
        if said["error"].get("err_code") == _NOT_FOUND:
            return None
        raise TryAgain("the stream of changes does not answer")

    async def _create(self, name: str, config: Mapping[str, Any]) -> None:
        said = await self._ask(f"CREATE.{STREAM}.{name}", orjson.dumps({"stream_name": STREAM, "config": config}))
        if "error" in said:
            if said["error"].get("err_code") in _TOO_MANY:
                raise TooManyFollowers
            raise TryAgain("the stream of changes takes no follower now")

    async def _find_room(self, name: str) -> None:
        """Raises TooManyFollowers where the project has as many of this kind as one project may: the stream's room is
        everybody's.
        """
        kin = "_".join(name.split("_", 2)[:2]) + "_"  # 'p_demo_': a slug has no underscore
        many, seen, total = 0, 0, 1
        while seen < total:
            said = await self._ask(f"NAMES.{STREAM}", orjson.dumps({"offset": seen}))
            names = said.get("consumers") or ()
            total = int(said.get("total", 0)) if names else 0
            seen += len(names)
            many += sum(one.startswith(kin) for one in names)
        if many >= PER_PROJECT:
            raise TooManyFollowers(f"a project may have {PER_PROJECT} followers on NATS; more can follow over HTTP")

    async def _delete(self, name: str) -> None:
        await self._ask(f"DELETE.{STREAM}.{name}", b"")

    async def _ask(self, what: str, body: bytes) -> Mapping[str, Any]:
        return orjson.loads(await self._bus.ask(f"$JS.API.CONSUMER.{what}", body, timeout=ASK_SECONDS))


def _config(name: str, subjects: Sequence[str], begin: Mapping[str, Any], kept: int) -> dict[str, Any]:
    return {
        "name": name,
        "durable_name": name,
        "filter_subjects": list(subjects),
        "ack_policy": "explicit",
        "ack_wait": ACK_SECONDS * _NANO,
        "max_deliver": -1,
        "max_ack_pending": UNACKNOWLEDGED_MAX,
        "max_waiting": PULLS_MAX,
        "inactive_threshold": kept * _NANO,
        "replay_policy": "instant",
        **begin,
    }


def _begin(start: Literal["new", "all"] | datetime) -> dict[str, Any]:
    if isinstance(start, datetime):
        moment = start.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return {"deliver_policy": "by_start_time", "opt_start_time": moment}
    return {"deliver_policy": start}


def _after(info: Mapping[str, Any]) -> dict[str, Any]:
    """Behind the last change that was acknowledged without a gap, or where it began if none was."""
    acknowledged = int(info["ack_floor"]["stream_seq"])
    if acknowledged:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": acknowledged + 1}
    config = info["config"]
    return {name: config[name] for name in ("deliver_policy", "opt_start_seq", "opt_start_time") if name in config}
