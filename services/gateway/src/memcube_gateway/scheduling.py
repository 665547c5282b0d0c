"""What the gateway asks of the scheduling room: memories chosen for an agent, and a choice of before made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from memcube_common.bus import Bus
from memcube_common.bus.packing import unpacked
from memcube_common.contracts import subjects
from memcube_common.contracts.asks import Refused
from memcube_common.contracts.scheduling import MakeSchedule, ScheduleRequest
from memcube_common.errors import FieldError, Invalid, NotAllowed, NotFound, TooLarge, TryAgain, Unprocessable

if TYPE_CHECKING:
    from memcube_common.security.principal import Principal
    from memcube_gateway.patience import Patience

_ASK: Final = TypeAdapter(MakeSchedule)
_REFUSED: Final = TypeAdapter(Refused)
_REFUSAL: Final = b'{"code":'
"""How a refusal begins, and no schedule does: `code` is the first field of Refused."""


class SchedulingRoom:
    """The scheduling room as the gateway sees it: asked over NATS in the reader's name, its answers not taken apart."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def schedule(self, request: ScheduleRequest, principal: Principal, patience: Patience) -> bytes:
        """A Schedule as JSON: what `principal` may read, chosen for the agent.

        Raises NotAllowed for a publishable key, Invalid and Unprocessable where the room refuses what was asked,
        TooLarge where the answer is more than one message holds, TryAgain where no room answers in time.
        """
        return await self._ask(MakeSchedule.model_construct(**_reader(principal, patience), request=request), patience)

    async def replay(self, schedule_id: UUID, principal: Principal, patience: Patience) -> bytes:
        """A Replay as JSON of a recorded schedule.

        Raises as `schedule` does, and NotFound where there is none that `principal` may read.
        """
        asked = MakeSchedule.model_construct(**_reader(principal, patience), question="replay", schedule_id=schedule_id)
        return await self._ask(asked, patience)

    async def _ask(self, asked: MakeSchedule, patience: Patience) -> bytes:
        async with patience.spent():
            answer = unpacked(await self._bus.ask(subjects.MAKE_SCHEDULE, _ASK.dump_json(asked), timeout=asked.wait))
        if answer.startswith(_REFUSAL):
            raise _error(answer)
        return answer


def _reader(principal: Principal, patience: Patience) -> dict[str, Any]:
    if principal.role in ("", "PUBLIC"):
        raise NotAllowed("A publishable key reads what is public: find memories and read one.")
    return {
        "project": principal.project,
        "reader": principal.name,
        "role": principal.role,
        "source": principal.source,
        "wait": max(0.05, patience.left),
    }


def _error(answer: bytes) -> Exception:
    """What the caller is told of a refusal of the room."""
    try:
        said = _REFUSED.validate_json(answer)
    except ValidationError:
        return TryAgain("the scheduling room's answer could not be read")
    match said.code:
        case Invalid.code:
            return Invalid(errors=[FieldError(said.field, said.detail)]) if said.field else Invalid(said.detail)
        case NotFound.code:
            return NotFound()
        case NotAllowed.code:
            return NotAllowed(said.detail)
        case TooLarge.code:
            return TooLarge(said.detail)
        case Unprocessable.code:
            return Unprocessable(said.detail)
        case TryAgain.code:
            return TryAgain(said.detail, after=said.after or 1.0)
        case _:
            return TryAgain("the scheduling room failed")
