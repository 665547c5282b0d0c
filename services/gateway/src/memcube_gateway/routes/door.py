"""The door of every route inside a project: no key, no visit."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Annotated, Final, cast

from fastapi import Depends, Path
from starlette.requests import Request

from memcube_common.db import Transaction
from memcube_common.errors import FieldError, Invalid
from memcube_gateway.admission import Caller, Patience
from memcube_gateway.room import Room

_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of one caller."""

    room: Room
    caller: Caller
    patience: Patience
    idempotency_key: str | None

    @property
    def project(self) -> str:
        """The project the request is about."""
        return self.caller.project

    def transaction(self) -> contextlib.AbstractAsyncContextManager[Transaction]:
        """A transaction as the caller, within what is left of the request's patience. Raises TryAgain."""
        return self.patience.transaction(self.room.db, self.caller.principal)


async def _visit(
    request: Request, project: Annotated[str, Path(description="The project's slug.", examples=["demo"])]
) -> Visit:
    room = cast(Room, request.app.state.room)
    patience = Patience(room.settings.answer_within)
    key = request.headers.get("idempotency-key")
    if key is not None and _IDEMPOTENCY_KEY.match(key) is None:
        raise Invalid(errors=[FieldError("Idempotency-Key", "must be 1-255 printable ASCII characters")])
    caller = await room.door.admit(room.db, project, request.headers.get("authorization"), patience)
    return Visit(room, caller, patience, key)


InVisit = Annotated[Visit, Depends(_visit)]
"""A route that takes this lets in only who holds a key of the project in its path."""
