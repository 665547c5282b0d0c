"""Cursors of listings: where the next page begins, signed, and good for the one listing they were handed out for."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import Query

from memcube_common.errors import FieldError, Invalid
from memcube_common.security.signing import SIGNED_MAX
from memcube_gateway.routes.door import Visit

Cursor = Annotated[
    str | None, Query(max_length=SIGNED_MAX, description="`next_cursor` of the page before; the first page without.")
]
PageSize = Annotated[int, Query(ge=1, le=200, description="How many at most.")]

_REFUSED: Final = FieldError("cursor", "must be a cursor that this listing gave")


def cursor_for(visit: Visit, listing: str, key: str) -> str:
    """What stands for `key` in `listing`, a name that says all by which the listing was chosen."""
    return visit.room.signer("cursor").sign("\n".join((visit.project, listing, key)).encode())


def key_in(visit: Visit, listing: str, cursor: str | None) -> str | None:
    """The key behind a cursor. Raises Invalid where it was not given by this listing of this project."""
    if cursor is None:
        return None
    said = visit.room.signer("cursor").open(cursor)
    if said is None:
        raise Invalid(errors=[_REFUSED])
    project, _, rest = said.decode(errors="replace").partition("\n")
    of, _, key = rest.rpartition("\n")
    if (project, of) != (visit.project, listing):
        raise Invalid(errors=[_REFUSED])
    return key


def id_in(visit: Visit, listing: str, cursor: str | None) -> UUID | None:
    """The id behind a cursor of a listing by id. Raises Invalid as `key_in` does."""
    key = key_in(visit, listing, cursor)
    return None if key is None else UUID(key)
