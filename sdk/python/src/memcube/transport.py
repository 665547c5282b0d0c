"""One gateway over HTTP: sends, tries again while that may help, and turns problem documents into exceptions."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, cast

import httpx
from httpx_sse import EventSource
from pydantic import BaseModel, ValidationError

from memcube.bodies import encoded, new_id
from memcube.credential import Credential, Session
from memcube.errors import (
    FieldError,
    MemCubeError,
    NotSignedIn,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    kind_of,
)
from memcube.patience import Patience

A = TypeVar("A", bound=BaseModel)
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
CONNECT_SECONDS = 5.0
RENEW_PATIENCE = 8.0  # seconds: after ten the server takes a refresh token that comes again for stolen


@dataclass(frozen=True, slots=True)
class Streamed:
    """A body of `length` bytes that is made anew for every attempt; kind: its Content-Type."""

    kind: str
    length: int
    pieces: Callable[[], AsyncIterator[bytes]]


class Transport:
    """Requests to one project of one gateway; safe to use from many tasks of one event loop at once."""

    def __init__(self, url: str, key: str | None, project: str, *, timeout: float, patience: Patience) -> None:
        address = httpx.URL(url)
        if address.scheme not in {"http", "https"} or not address.host:
            raise ValueError("url: an address such as https://memcube.example.com is needed")
        self.patience = patience
        self.project = project
        self.credential = Credential(key)
        self._timeout = timeout
        self._root = str(address.join(f"{address.path.rstrip('/')}/v1/"))
        self._http = httpx.AsyncClient(
            base_url=f"{self._root}projects/{project}/",
            headers={"User-Agent": "memcube-python"},
            trust_env=not _is_loopback(address.host),
        )

    @property
    def here(self) -> str:
        """The address of the project itself."""
        return f"{self._root}projects/{self.project}"

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def ask(
        self,
        answer: type[A],
        method: Method,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        streamed: Streamed | None = None,
        version: int | None = None,
        extra_seconds: float = 0.0,
        patience: Patience | None = None,
        keyed: bool = True,
    ) -> A:
        """The server's answer, after as many attempts as `patience` allows; a write has the same effect once or often.

        streamed: a body that is no JSON. version: which one a change is meant for. extra_seconds: how long the server
        may hold the answer back by itself. keyed: send an Idempotency-Key, so that what is tried again happens once.
        Raises the MemCubeError the server names; Unreachable or Unavailable when patience ends.
        """
        response = await self._exchange(
            method,
            path,
            body=body,
            params=params,
            streamed=streamed,
            version=version,
            extra_seconds=extra_seconds,
            patience=patience,
            keyed=keyed,
        )
        return _understood(answer, response)

    async def request(self, method: Method, path: str, body: Mapping[str, Any] | None) -> Any:
        """The JSON a route of the project answers, None where it answers nothing. Raises as `ask` does."""
        response = await self._exchange(method, path, body=body)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise UnexpectedAnswer(status=response.status_code) from None

    async def sign_in(self, body: Mapping[str, str]) -> Session:
        """A new session. Raises NotSignedIn, TooManyRequests."""
        return _understood(Session, await self._exchange("POST", f"{self._root}auth/token", body=body, is_open=True))

    async def sign_out(self) -> None:
        """End the session that is shown."""
        with contextlib.suppress(NotSignedIn):  # it is over already
            await self._exchange("POST", f"{self._root}auth/logout")

    async def _renewed(self, refresh_token: str) -> Session:
        """The next pair of tokens. The same token again soon gets the same pair, so that trying again is safe."""
        try:
            response = await self._exchange(
                "POST",
                f"{self._root}auth/refresh",
                body={"refresh_token": refresh_token},
                patience=Patience(total=min(self.patience.total, RENEW_PATIENCE)),
                is_open=True,
            )
        except NotSignedIn:
            self.credential.drop()
            raise
        return _understood(Session, response)

    async def _exchange(
        self,
        method: Method,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        streamed: Streamed | None = None,
        version: int | None = None,
        extra_seconds: float = 0.0,
        patience: Patience | None = None,
        is_open: bool = False,
        keyed: bool = True,
    ) -> httpx.Response:
        """A good answer, after as many attempts as `patience` allows. is_open: no credential is shown."""
        content = None if body is None else encoded(body)
        headers = {"Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if streamed is not None:
            headers |= {"Content-Type": streamed.kind, "Content-Length": str(streamed.length)}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        if method != "GET" and keyed:
            headers["Idempotency-Key"] = str(new_id())
        patience = patience or self.patience
        clock = asyncio.get_running_loop().time
        give_up = clock() + patience.total
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            shown = None if is_open else await self.credential.shown(self._renewed)
            try:
                response = await self._http.request(
                    method,
                    path,
                    content=content if streamed is None else streamed.pieces(),
                    headers=headers if shown is None else {**headers, "Authorization": f"Bearer {shown}"},
                    params=params,
                    timeout=httpx.Timeout(self._timeout + extra_seconds, connect=CONNECT_SECONDS),
                )
            except httpx.TransportError as error:
                failure: MemCubeError = _unreachable(error)
            else:
                if response.is_success:
                    return response
                failure = problem(response)
                if isinstance(failure, NotSignedIn) and not renewed and self.credential.expire(shown):
                    renewed = True
                    continue
                if not isinstance(failure, Unavailable):
                    raise failure
            pause = patience.pause(attempt, failure.after)
            if clock() + pause > give_up:
                raise failure
            await asyncio.sleep(pause)

    @contextlib.asynccontextmanager
    async def fetch(
        self, path: str, *, headers: Mapping[str, str], params: Mapping[str, str] | None = None
    ) -> AsyncGenerator[httpx.Response]:
        """One good answer whose body is read inside the block, piece by piece.

        Raises the MemCubeError the server names, Unreachable where the connection breaks.
        """
        shown = await self.credential.shown(self._renewed)
        authorization = {} if shown is None else {"Authorization": f"Bearer {shown}"}
        try:
            async with self._http.stream(
                "GET",
                path,
                params=params,
                headers={"Accept": "*/*", "Accept-Encoding": "identity", **authorization, **headers},
                timeout=httpx.Timeout(self._timeout, connect=CONNECT_SECONDS),
            ) as response:
                if not response.is_success:
                    await response.aread()
                    failure = problem(response)
                    if isinstance(failure, NotSignedIn):
                        self.credential.expire(shown)
                    raise failure
                yield response
        except httpx.TransportError as error:
            raise _unreachable(error) from error

    @contextlib.asynccontextmanager
    async def listen(self, path: str, *, headers: Mapping[str, str], quiet: float) -> AsyncGenerator[EventSource]:
        """One connection to a stream of server-sent events, `quiet` seconds at most between two signs of life.

        Raises the MemCubeError the server names, Unreachable where the connection breaks.
        """
        shown = await self.credential.shown(self._renewed)
        authorization = {} if shown is None else {"Authorization": f"Bearer {shown}"}
        try:
            async with self._http.stream(
                "GET",
                path,
                headers={"Accept": "text/event-stream", "Cache-Control": "no-store", **authorization, **headers},
                timeout=httpx.Timeout(quiet, connect=CONNECT_SECONDS),
            ) as response:
                if not response.is_success:
                    await response.aread()
                    raise problem(response)
                if "text/event-stream" not in response.headers.get("content-type", ""):
                    raise UnexpectedAnswer(status=response.status_code)
                yield EventSource(response)
        except httpx.TransportError as error:
            raise _unreachable(error) from error


def problem(response: httpx.Response) -> MemCubeError:
    """The exception a problem document stands for; what is not one is judged by its status."""
    try:
        document: object = response.json()
    except ValueError:
        document = None
    said = cast("dict[str, object]", document) if isinstance(document, dict) else {}
    code = said.get("code") if isinstance(said.get("code"), str) else None
    detail = said.get("detail") or said.get("title")
    return kind_of(cast("str | None", code), response.status_code)(
        detail if isinstance(detail, str) else None,
        status=response.status_code,
        code=cast("str | None", code),
        errors=_field_errors(said.get("errors")),
        after=_retry_after(response.headers.get("retry-after")),
    )


def _field_errors(given: object) -> list[FieldError]:
    if not isinstance(given, list):
        return []
    found: list[FieldError] = []
    for entry in cast("list[object]", given):
        if isinstance(entry, dict):
            said = cast("dict[str, object]", entry)
            found.append(FieldError(str(said.get("field", "")), str(said.get("message", ""))))
    return found


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110 §10.2.3)."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _understood(answer: type[A], response: httpx.Response) -> A:
    try:
        return answer.model_validate_json(response.content)
    except ValidationError:
        raise UnexpectedAnswer(status=response.status_code) from None


def _unreachable(error: httpx.TransportError) -> Unreachable:
    """The address and key stay out of the message; the kind of failure is enough."""
    failure = Unreachable(f"no answer from the server ({type(error).__name__})")
    failure.__cause__ = error
    return failure


def _is_loopback(host: str) -> bool:
    """Loopback is never reached through a proxy from the environment."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
