"""What the database refuses, as an error that says what should happen next."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import asyncpg

from memcube_common.errors import Conflict, NotAllowed


@contextlib.contextmanager
def refusals(*, conflict: str) -> Generator[None]:
    """Inside the block, a policy's or grant's refusal is NotAllowed and a broken rule of the data is Conflict.

    conflict: what the caller is told about the broken rule; the database's own words never leave the house.
    """
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotAllowed from error
    except asyncpg.IntegrityConstraintViolationError as error:
        raise Conflict(conflict) from error
