"""`multipart/form-data` as it arrives: parts and their bytes in order, nothing kept, nothing written to disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from memcube_common.errors import Malformed
from memcube_gateway.routes.problems import NotJson

if TYPE_CHECKING:
    from starlette.requests import Request

FORM: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part, before its bytes. filename: as its sender named it, not to be believed; empty for none."""

    name: str
    filename: str


@dataclass(frozen=True, slots=True)
class PartEnds:
    """All of the part was there."""


FormEvent: TypeAlias = PartBegins | bytes | PartEnds


class Form:
    """Reads one body. `boundary` is the one its Content-Type names. Raises Malformed for what is no such body."""

    def __init__(self, boundary: bytes) -> None:
        self.whole = False
        self._events: list[FormEvent] = []
        self._field = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings quote what was sent
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_begin": self._on_header_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError:
            raise Malformed("The boundary of the form is too long.") from None

    def feed(self, data: bytes) -> list[FormEvent]:
        """What the next bytes of the body complete. Raises Malformed."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise Malformed("The body is not valid multipart/form-data.") from None
        events, self._events = self._events, []
        return events

    def _on_header_begin(self) -> None:
        self._field.clear()
        self._value.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)

    def _on_headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition"))
        if disposition != b"form-data" or b"name" not in options:
            raise Malformed("Every part of the form needs a name.")
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise Malformed("Send the parts of the form as they are, without Content-Transfer-Encoding.")
        filename = options.get(b"filename", b"").decode("utf-8", "replace")
        self._events.append(PartBegins(options[b"name"].decode("utf-8", "replace"), filename))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_part_end(self) -> None:
        self._events.append(PartEnds())

    def _on_end(self) -> None:
        self.whole = True


def is_form(request: Request) -> bool:
    """Whether the body says it is multipart/form-data."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


def refuse_encoding(request: Request) -> None:
    """Raises NotJson for a body that is not sent as it is."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise NotJson("Send the body without Content-Encoding.")


def boundary_of(request: Request) -> bytes:
    """What separates the form's parts. Raises Malformed where the head does not say, NotJson for an encoding."""
    refuse_encoding(request)
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise Malformed("The Content-Type of the form does not name its boundary.")
    return boundary
