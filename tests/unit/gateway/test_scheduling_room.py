"""What the gateway makes of the scheduling room's answers: passed on untouched, or the caller's own error."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import orjson
import pytest

from memcube_common.bus import Bus
from memcube_common.contracts import subjects
from memcube_common.contracts.asks import Refused
from memcube_common.contracts.scheduling import MakeSchedule, ScheduleRequest
from memcube_common.errors import (
    Invalid,
    MemCubeError,
    NotAllowed,
    NotFound,
    TooLarge,
    TryAgain,
    Unprocessable,
)
from memcube_common.ids import new_id
from memcube_common.security.principal import Principal
from memcube_gateway.patience import Patience
from memcube_gateway.scheduling import SchedulingRoom

BOB = Principal.user("demo", "bob", "AGENT", source="key:1 127.0.0.1")
REQUEST = ScheduleRequest(agent_id="bot-001", token_budget=100)


class Scripted:
    """A bus on which one answer waits."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any], float]] = []

    async def ask(self, subject: str, body: bytes, *, timeout: float) -> bytes:
        self.asked.append((subject, orjson.loads(body), timeout))
        return self.answer


def room_of(answer: bytes) -> tuple[SchedulingRoom, Scripted]:
    bus = Scripted(answer)
    return SchedulingRoom(cast("Bus", bus)), bus


async def test_the_room_is_asked_in_the_readers_name_and_its_answer_passed_on() -> None:
    answer = b'{"id":"x","prompt":"\xc3\xbc","code":"is said by a memory"}'
    room, bus = room_of(answer)
    assert await room.schedule(REQUEST, BOB, Patience(1.5)) == answer
    schedule_id = new_id()
    assert await room.replay(schedule_id, BOB, Patience(1.5)) == answer

    (subject, made, timeout), (_, replayed, _) = bus.asked
    assert (subject, timeout) == (subjects.MAKE_SCHEDULE, 1.5)
    assert MakeSchedule.model_validate(made).request == REQUEST
    said = {"project": "demo", "reader": "bob", "role": "AGENT", "source": "key:1 127.0.0.1", "wait": 1.5}
    assert said.items() <= made.items()
    assert (replayed["question"], UUID(replayed["schedule_id"])) == ("replay", schedule_id)


@pytest.mark.parametrize(
    ("said", "error", "detail"),
    [
        (Refused(code="invalid", detail="of no such length", field="embedding"), Invalid, "limits"),
        (Refused(code="invalid", detail="contradictory"), Invalid, "contradictory"),
        (Refused(code="not_found", detail="x"), NotFound, "nothing here"),
        (Refused(code="not_allowed", detail="no"), NotAllowed, "no"),
        (Refused(code="too_large", detail="1 MB"), TooLarge, "1 MB"),
        (Refused(code="unprocessable", detail="never"), Unprocessable, "never"),
        (Refused(code="unavailable", detail="wait", after=7.0), TryAgain, "wait"),
        (Refused(code="internal", detail="a secret of the inside"), TryAgain, "failed"),
    ],
)
async def test_a_refusal_is_the_callers_own_error(said: Refused, error: type[MemCubeError], detail: str) -> None:
    room, _ = room_of(said.model_dump_json().encode())
    with pytest.raises(error, match=detail) as caught:
        await room.schedule(REQUEST, BOB, Patience(1))
    assert type(caught.value) is error
    assert "secret" not in caught.value.detail
    if said.field is not None:
        assert [(one.field, one.message) for one in caught.value.errors] == [("embedding", "of no such length")]
    if isinstance(caught.value, TryAgain) and said.after is not None:
        assert caught.value.after == 7.0


async def test_a_refusal_that_cannot_be_read_is_tried_again() -> None:
    room, _ = room_of(b'{"code":1}')
    with pytest.raises(TryAgain):
        await room.schedule(REQUEST, BOB, Patience(1))


async def test_who_only_reads_what_is_public_asks_nobody() -> None:
    room, bus = room_of(b"{}")
    with pytest.raises(NotAllowed):
        await room.schedule(REQUEST, Principal.public("demo", "page"), Patience(1))
    assert bus.asked == []
