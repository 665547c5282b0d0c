"""Every error says what should happen next; its docstring is its default message and its code is public and stable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One refused field: its path in the body, and the limit it broke. Never carries the refused value."""

    field: str
    message: str


class MemCubeError(Exception):
    """Something went wrong inside MemCube."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str | None = None, *, errors: Sequence[FieldError] = ()) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.errors = tuple(errors)
        super().__init__(self.detail)


class Unprocessable(MemCubeError):
    """The request was understood and can never succeed as it stands."""

    code = "unprocessable"
    status = 422
    title = "Unprocessable"


class Invalid(Unprocessable):
    """One or more fields are outside their limits."""

    code = "invalid"
    title = "Invalid input"


class Malformed(Unprocessable):
    """The body is not valid JSON."""

    code = "malformed"
    status = 400
    title = "Malformed body"


class TooLarge(Unprocessable):
    """The body is larger than the limit."""

    code = "too_large"
    status = 413
    title = "Body too large"


class NotFound(MemCubeError):
    """There is nothing here that you may see."""

    code = "not_found"
    status = 404
    title = "Not found"


class Conflict(MemCubeError):
    """The request contradicts the state it found."""

    code = "conflict"
    status = 409
    title = "Conflict"


class KeyReused(Unprocessable):
    """This Idempotency-Key was used before with another body."""

    code = "idempotency_key_reused"
    title = "Idempotency-Key reused"


class NotSignedIn(MemCubeError):
    """A valid key is required: send it as 'Authorization: Bearer <key>'."""

    code = "not_signed_in"
    status = 401
    title = "Not signed in"


class NotAllowed(MemCubeError):
    """You may not do this."""

    code = "not_allowed"
    status = 403
    title = "Not allowed"


class TryAgain(MemCubeError):
    """Something MemCube depends on did not answer; the same request will succeed later."""

    code = "unavailable"
    status = 503
    title = "Temporarily unavailable"

    def __init__(self, detail: str | None = None, *, after: float = 1.0) -> None:
        super().__init__(detail)
        self.after = after
