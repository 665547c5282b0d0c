"""Which web pages may call the gateway (CORS): those of named origins, with a key in a header, never with cookies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

Header = tuple[bytes, bytes]

_HOST: Final = re.compile(r"(?:[a-z0-9_-]+\.)*[a-z0-9_-]+\Z|\[[0-9a-f:.]+\]\Z")
_SCHEMES: Final = frozenset({"http", "https"})

VARY: Final[Header] = (b"vary", b"Origin")
_SEEN: Final[Header] = (
    b"access-control-expose-headers",
    b"Accept-Ranges, Content-Disposition, Content-Range, ETag, Idempotency-Replayed, Location, RateLimit,"
    b" RateLimit-Policy, Retry-After, X-Request-Id",
)
_ALLOWED: Final[Sequence[Header]] = (
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Apikey, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Last-Event-ID,"
        b" Range, X-Client-Info, X-Request-Id",
    ),
    (b"access-control-max-age", b"600"),
)


class Origins:
    """The origins whose pages may call; none, and nothing is said about CORS at all."""

    def __init__(self, allowed: frozenset[bytes]) -> None:
        self._allowed = allowed

    def __bool__(self) -> bool:
        return bool(self._allowed)

    def allows(self, origin: bytes | None) -> bool:
        """Whether pages of `origin` may call: one of the names, byte by byte."""
        return origin in self._allowed

    def headers(self, origin: bytes | None) -> list[Header]:
        """What an answer to `origin` carries. `Vary` always, so that no cache hands one origin's answer to another."""
        if not self._allowed:
            return []
        if origin is None or origin not in self._allowed:
            return [VARY]
        return [VARY, (b"access-control-allow-origin", origin), _SEEN]

    def preflight(self, origin: bytes) -> list[Header]:
        """What a browser is told that asks before it calls."""
        return [VARY, (b"access-control-allow-origin", origin), *_ALLOWED]


def read_origins(text: str) -> frozenset[bytes]:
    """Comma-separated origins as browsers send them. Raises ValueError for any other text, '*' and 'null' included."""
    found: set[bytes] = set()
    for part in text.split(","):
        origin = part.strip()
        if not origin:
            continue
        parts = urlsplit(origin)
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{host}]"
        port = f":{parts.port}" if parts.port is not None else ""
        if not _HOST.match(host) or origin != f"{parts.scheme}://{host}{port}" or parts.scheme not in _SCHEMES:
            raise ValueError("an origin is written as a browser sends it: 'https://app.example.com', no '*', no path")
        found.add(origin.encode("ascii"))
    return frozenset(found)
