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


class VersionMismatch(MemCubeError):
    """It has another version by now than `If-Match` says: read it again."""

    code = "version_mismatch"
    status = 412
    title = "Another version"


class Frozen(Conflict):
    """This memory is frozen: an OWNER or ADMIN must unfreeze it before it can change."""

    code = "memory_frozen"
    title = "Frozen"


class Held(Conflict):
    """This memory is under legal hold: it cannot be removed before an OWNER or ADMIN ends the hold."""

    code = "legal_hold"
    title = "Under legal hold"


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


class TooManyRequests(TryAgain):
    """You ask more often than your limit allows; slow down."""

    code = "too_many_requests"
    status = 429
    title = "Too many requests"


class QuotaExceeded(MemCubeError):
    """Your project has used up what it may hold or do.

    403 (RFC 9110 15.5.4: understood and refused), because nothing else says that waiting does not help: 429 speaks of a
    rate and asks to come again, 402 is reserved, 413 is about one body, 507 (WebDAV) would blame the server. A daily
    resource is free again at midnight UTC, the others once something is deleted or the operator gives more.
    """

    code = "quota_exceeded"
    status = 403
    title = "Quota exceeded"

    def __init__(self, resource: str, maximum: int) -> None:
        super().__init__(f"This would exceed the project's quota of {maximum} {resource}.")
        self.resource = resource
        self.maximum = maximum
