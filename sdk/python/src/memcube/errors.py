"""What can go wrong, as exceptions: one class for each `code` of the server's problem documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from memcube.models import Receipt


@dataclass(frozen=True, slots=True)
class FieldError:
    """One refused field: its path in the body, and the limit it broke."""

    field: str
    message: str


class MemCubeError(Exception):
    """MemCube could not do what was asked.

    status: HTTP status, 0 where no answer came. code: stable and public, for programs. detail: for people.
    errors: the refused fields, if any. after: seconds after which the same call may succeed, if the server said so.
    """

    usual_code: ClassVar[str] = "internal"

    def __init__(
        self,
        detail: str | None = None,
        *,
        status: int = 0,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        after: float | None = None,
    ) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip().partition("\n")[0]
        self.status = status
        self.code = code or self.usual_code
        self.errors = tuple(errors)
        self.after = after
        super().__init__(self.detail)

    def __str__(self) -> str:
        fields = "; ".join(f"{error.field}: {error.message}" for error in self.errors)
        return f"{self.code}: {self.detail}" + (f" ({fields})" if fields else "")


class Unprocessable(MemCubeError):
    """The request was understood and can never succeed as it stands."""

    usual_code = "unprocessable"


class Invalid(Unprocessable):
    """One or more fields are outside their limits; `errors` names them."""

    usual_code = "invalid"


class Malformed(Unprocessable):
    """The body is not valid JSON."""

    usual_code = "malformed"


class TooLarge(Unprocessable):
    """The body is larger than the limit."""

    usual_code = "too_large"


class IdempotencyKeyReused(Unprocessable):
    """This Idempotency-Key was used before with another body."""

    usual_code = "idempotency_key_reused"


class NotFound(MemCubeError):
    """There is nothing here that you may see."""

    usual_code = "not_found"


class Conflict(MemCubeError):
    """The request contradicts the state it found."""

    usual_code = "conflict"


class VersionMismatch(Conflict):
    """It has another version by now than the change was meant for: read it again."""

    usual_code = "version_mismatch"


class NotSignedIn(MemCubeError):
    """The server does not know this key, or the session is over."""

    usual_code = "not_signed_in"


class NotAllowed(MemCubeError):
    """This key may not do that."""

    usual_code = "not_allowed"


class Unavailable(MemCubeError):
    """MemCube could not answer in time; the same call will succeed later.

    Raised after every retry that patience allowed, as its subclasses are.
    """

    usual_code = "unavailable"


class TooManyRequests(Unavailable):
    """This key asks too often; `after` says when to go on."""

    usual_code = "too_many_requests"


class Unreachable(Unavailable):
    """No server answered at this address."""

    usual_code = "unreachable"


class UnexpectedAnswer(MemCubeError):
    """Something answered, but not in MemCube's words: is the address right?"""

    usual_code = "unexpected_answer"


class NotYet(MemCubeError):
    """The time to wait is over and the write has not got there; nothing is lost, and waiting again is right.

    receipt: the write's fate as it stood when the waiting ended.
    """

    usual_code = "not_yet"

    def __init__(self, receipt: Receipt, until: str) -> None:
        super().__init__(f"{receipt.id} is {receipt.state}, not yet {until}")
        self.receipt = receipt


_KINDS = (
    Unprocessable, Invalid, Malformed, TooLarge, IdempotencyKeyReused, NotFound, Conflict, VersionMismatch,
    NotSignedIn, NotAllowed, Unavailable, TooManyRequests,
)  # fmt: skip
_BY_CODE: Mapping[str, type[MemCubeError]] = MappingProxyType({kind.usual_code: kind for kind in _KINDS})
_BY_STATUS: Mapping[int, type[MemCubeError]] = MappingProxyType(
    {
        400: Malformed,
        401: NotSignedIn,
        403: NotAllowed,
        404: NotFound,
        409: Conflict,
        412: VersionMismatch,
        413: TooLarge,
        422: Unprocessable,
        429: TooManyRequests,
        502: Unavailable,
        503: Unavailable,
        504: Unavailable,
    }
)


def kind_of(code: str | None, status: int) -> type[MemCubeError]:
    """The class of a problem: by its code, else by its status, else MemCubeError itself."""
    return _BY_CODE.get(code or "") or _BY_STATUS.get(status, MemCubeError)
